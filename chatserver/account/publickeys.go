package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/chatcluster/chatcluster/chatserver/auth"
)

// maxPublicKey is in bytes; a JSON Web Key of an elliptic curve has some 150.
const maxPublicKey = 4 << 10

// SetPublicKey keeps the caller's public key, a JSON string or object, as it is.
// What it means is between clients. Errors: *InvalidError, ErrNoUser, or Redis's.
func (a *Accounts) SetPublicKey(ctx context.Context, user string, key json.RawMessage) error {
	if len(key) > maxPublicKey {
		return &InvalidError{fmt.Errorf("a public key has at most %d bytes", maxPublicKey)}
	}
	if err := isPublicKey(key); err != nil {
		return &InvalidError{err}
	}
	return known(a.Store.SetPublicKey(ctx, user, string(key)))
}

var errNoKey = errors.New("a public key is a JSON string that is not empty, or an object")

// isPublicKey refuses what is no key, and private ones: a client that sends one
// by mistake should know before anybody has it.
func isPublicKey(key json.RawMessage) error {
	var text string
	if json.Unmarshal(key, &text) == nil {
		text = strings.TrimSpace(text)
		switch {
		case text == "":
			return errNoKey
		case strings.Contains(text, "PRIVATE KEY"):
			return errPrivateKey
		case text[0] == '{': // an object that was made a string of
			return isPublicKey(json.RawMessage(text))
		}
		return nil
	}
	var jwk map[string]json.RawMessage
	if json.Unmarshal(key, &jwk) != nil || len(jwk) == 0 {
		return errNoKey
	}
	for _, private := range []string{"d", "p", "q", "k"} {
		if _, has := jwk[private]; has {
			return errPrivateKey
		}
	}
	return nil
}

var errPrivateKey = errors.New("this is a private key: it must never leave its owner's device, and was not kept")

// PublicKey gives the public key of a user as it was set. Errors: ErrNoUser,
// ErrNoKey, or Redis's.
func (a *Accounts) PublicKey(ctx context.Context, user string) (json.RawMessage, error) {
	if auth.ValidateUsername(user) != nil {
		return nil, ErrNoUser
	}
	acc, err := a.Store.Account(ctx, user)
	if err != nil {
		return nil, known(err)
	}
	if acc.PublicKey == "" {
		return nil, ErrNoKey
	}
	return json.RawMessage(acc.PublicKey), nil
}
