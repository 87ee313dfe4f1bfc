package chatserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// reloadEvery is how soon a renewed certificate is served. Reading two small
// files this often costs nothing, and unlike file notifications it works
// however the files are replaced: renamed, rewritten, or a symbolic link above
// them swapped, as a kubelet does it.
const reloadEvery = 5 * time.Second

// certificate is what a listener shows its clients, and follows its files.
type certificate struct {
	files   KeyFiles
	current atomic.Pointer[tls.Certificate]
	cert    []byte // as last read; reload's alone
	key     []byte
}

func loadCertificate(files KeyFiles) (*certificate, error) {
	c := &certificate{files: files}
	if _, err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// reload reads the files and, if they have changed, serves what is in them.
func (c *certificate) reload() (changed bool, err error) {
	cert, err := os.ReadFile(c.files.Cert)
	if err != nil {
		return false, fmt.Errorf("read the TLS certificate: %w", err)
	}
	key, err := os.ReadFile(c.files.Key)
	if err != nil {
		return false, fmt.Errorf("read the TLS key: %w", err)
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("use the certificate %s with the key %s: %w", c.files.Cert, c.files.Key, err)
	}
	c.cert, c.key = cert, key
	c.current.Store(&pair)
	return true, nil
}

// watch serves renewed files until ctx ends. While they cannot be used the old
// certificate stays: a pair may be caught between two writes.
func (c *certificate) watch(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := c.reload()
		switch {
		case err != nil:
			log.Warn("the TLS certificate cannot be renewed yet; still serving the old one", "error", err)
		case changed:
			log.Info("serving a renewed TLS certificate", "file", c.files.Cert, "notAfter", c.notAfter())
		}
	}
}

func (c *certificate) notAfter() time.Time {
	leaf := c.current.Load().Leaf
	return leaf.NotAfter
}

// config is for a listener; each handshake shows the newest certificate.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// selfSigned makes a certificate for this machine alone, good for a month.
func selfSigned() (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "chatserver --dev"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 1, 0),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate that was just made: %w", err)
	}
	c := &certificate{}
	c.current.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf})
	return c, nil
}
