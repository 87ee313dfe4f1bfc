package controllers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/chatcluster/chatcluster/controllers/resources"
)

// ensureCredentials reads the cluster's passwords and keys from its Secrets and makes up
// those that are missing.
//
// Here, and only here, a stale cache would be dangerous: a Secret that seems to be
// missing would be made anew, and every login and every chat server cut off. So the API
// server itself is asked before anything is made up.
func (p *pass) ensureCredentials(ctx context.Context) error {
	auth, tokens := p.observed.secret("-redis-auth"), p.observed.secret("-tokens")
	found := credentialsIn(auth, tokens)
	if !complete(found) {
		var err error
		if auth, err = p.liveSecret(ctx, "-redis-auth"); err != nil {
			return err
		}
		if tokens, err = p.liveSecret(ctx, "-tokens"); err != nil {
			return err
		}
		found = completed(credentialsIn(auth, tokens))
	}
	p.credentials = found
	return nil
}

// liveSecret returns nil if there is none.
func (p *pass) liveSecret(ctx context.Context, suffix string) (*corev1.Secret, error) {
	var s corev1.Secret
	key := client.ObjectKey{Namespace: p.cluster.Namespace, Name: p.cluster.Name + suffix}
	if err := p.Live.Get(ctx, key, &s); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	return &s, nil
}

func credentialsIn(auth, tokens *corev1.Secret) resources.Credentials {
	c := resources.Credentials{TokenKeys: map[string]string{}}
	if auth != nil {
		c.RedisPassword = string(auth.Data[resources.KeyRedisPassword])
		c.OperatorPassword = string(auth.Data[resources.KeyOperatorPassword])
	}
	if tokens != nil {
		for id, secret := range tokens.Data {
			if id == resources.KeyCurrentToken {
				c.CurrentKey = strings.TrimSpace(string(secret))
				continue
			}
			c.TokenKeys[id] = string(secret)
		}
	}
	return c
}

func complete(c resources.Credentials) bool {
	return c.RedisPassword != "" && c.OperatorPassword != "" && c.TokenKeys[c.CurrentKey] != ""
}

// completed fills in what is missing and changes nothing that is there.
func completed(c resources.Credentials) resources.Credentials {
	if c.RedisPassword == "" {
		c.RedisPassword = randomHex(32)
	}
	if c.OperatorPassword == "" {
		c.OperatorPassword = randomHex(32)
	}
	if c.TokenKeys[c.CurrentKey] == "" {
		c.CurrentKey = "key-" + randomHex(4)
		c.TokenKeys[c.CurrentKey] = randomHex(32)
	}
	return c
}

// randomHex is n random bytes in hexadecimal.
func randomHex(n int) string {
	b := make([]byte, n)
	// rand.Read never fails; it ends the program instead.
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// checkUsersSecret reads the Secret with accounts. It is the user's and bears no label of
// ours, so it is not in the cache. Chat servers read it when they start: that is why its
// contents are told, as a hash, to whoever makes their pods.
func (p *pass) checkUsersSecret(ctx context.Context) error {
	users := p.cluster.Spec.Server.Auth.Users
	if users == nil {
		p.secrets.follow(ctx, client.ObjectKeyFromObject(p.cluster), "")
		return nil
	}
	ref := users.SecretRef
	p.secrets.follow(ctx, client.ObjectKeyFromObject(p.cluster), ref.Name)
	var s corev1.Secret
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: p.cluster.Namespace, Name: ref.Name}, &s)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading Secret %s with accounts: %w", ref.Name, err)
	}
	accounts, ok := s.Data[ref.Key]
	if !ok {
		p.findings.UsersMissing = fmt.Sprintf("Secret %s has no key %q: create it with lines user:password, or correct server.auth.users.secretRef", ref.Name, ref.Key)
		return nil
	}
	sum := sha256.Sum256(accounts)
	p.usersHash = hex.EncodeToString(sum[:8])
	return nil
}
