package redistest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Files of a server that takes TLS and one ACL user only.
type Files struct {
	CA, Username, Password string
}

// acl is what a chat server may do; "default" is off.
const acl = `user default off
user chat on >%s ~* &* +@all -@admin -@dangerous +info +role +cluster|info +cluster|nodes +cluster|shards +cluster|slots
user admin on >%s ~* &* +@all
`

// Secure starts one server that takes TLS only, with a certificate for 127.0.0.1 of a CA of
// its own, and knows one user with few rights. It stops when the test ends.
func Secure(tb testing.TB) *Redis {
	tb.Helper()
	return started(tb, StartSecure)
}

// StartSecure is Secure with its files in dir; the caller stops it.
func StartSecure(dir string) (*Redis, error) {
	r := &Redis{Files: Files{
		CA:       filepath.Join(dir, "ca.crt"),
		Username: filepath.Join(dir, "username"),
		Password: filepath.Join(dir, "password"),
	}}
	password := rand.Text()
	admin := &redis.Options{Username: "admin", Password: rand.Text()}
	for file, content := range map[string]string{
		r.Files.Username:                "chat\n",
		r.Files.Password:                password + "\n",
		filepath.Join(dir, "users.acl"): fmt.Sprintf(acl, password, admin.Password),
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	if err := writeCertificate(dir); err != nil {
		return nil, err
	}
	// The process is trusted by what it is, not by its name: the CA may be rotated.
	admin.TLSConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec
	n, err := startNodeAs(dir, admin,
		"--tls-cert-file", filepath.Join(dir, "tls.crt"), "--tls-key-file", filepath.Join(dir, "tls.key"),
		"--tls-ca-cert-file", r.Files.CA, "--tls-auth-clients", "no", "--aclfile", filepath.Join(dir, "users.acl"))
	if err != nil {
		return nil, err
	}
	r.Nodes, r.URLs = []*Node{n}, []string{"rediss://" + n.Addr}
	return r, nil
}

// Rotate gives the server a certificate of a new CA, and disconnects everybody.
func (r *Redis) Rotate(ctx context.Context) error {
	dir := filepath.Dir(r.Files.CA)
	if err := writeCertificate(dir); err != nil {
		return err
	}
	c := r.Nodes[0].Client()
	defer func() { _ = c.Close() }()
	if err := c.ConfigSet(ctx, "tls-cert-file", filepath.Join(dir, "tls.crt")).Err(); err != nil {
		return fmt.Errorf("load the new certificate: %w", err)
	}
	for _, kind := range []string{"normal", "pubsub"} {
		if err := c.ClientKillByFilter(ctx, "TYPE", kind, "SKIPME", "yes").Err(); err != nil {
			return fmt.Errorf("disconnect the %s clients: %w", kind, err)
		}
	}
	return nil
}

// writeCertificate writes ca.crt, tls.crt and tls.key.
func writeCertificate(dir string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "redistest " + rand.Text()},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1), Subject: pkix.Name{CommonName: "redis"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"ca.crt":  {Type: "CERTIFICATE", Bytes: caDER},
		"tls.crt": {Type: "CERTIFICATE", Bytes: leafDER},
		"tls.key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Revoke takes the right to connect from the chat user's password and writes a new one.
func (r *Redis) Revoke(ctx context.Context) error {
	c := r.Nodes[0].Client()
	defer func() { _ = c.Close() }()
	old, err := os.ReadFile(r.Files.Password)
	if err != nil {
		return err
	}
	password := rand.Text()
	if err := os.WriteFile(r.Files.Password, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	err = c.Do(ctx, "ACL", "SETUSER", "chat", "<"+strings.TrimSpace(string(old)), ">"+password).Err()
	if err != nil {
		return fmt.Errorf("change the password: %w", err)
	}
	return nil
}
