package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

func pool(t *testing.T, ca Pair) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(ca.CertPEM) {
		t.Fatal("the CA's PEM holds no certificate")
	}
	return p
}

func newCA(t *testing.T) Pair {
	t.Helper()
	ca, err := NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestServerCertificateIsGoodForItsNamesOnly(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	s, err := ca.Server("kubernetes", "10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{"kubernetes": true, "10.0.0.1": true, "other": false, "10.0.0.2": false} {
		_, err := s.Cert.Verify(x509.VerifyOptions{DNSName: name, Roots: pool(t, ca)})
		if (err == nil) != good {
			t.Errorf("%s: verification says %v, want good = %v", name, err, good)
		}
	}
	if _, err := s.Cert.Verify(x509.VerifyOptions{DNSName: "kubernetes", Roots: pool(t, newCA(t))}); err == nil {
		t.Error("another CA vouches for it")
	}
}

func TestClientCertificateNamesUserAndGroupsAndIsNoServer(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	c, err := ca.Client("system:node:local", "system:nodes")
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Cert.Subject; s.CommonName != "system:node:local" || len(s.Organization) != 1 || s.Organization[0] != "system:nodes" {
		t.Errorf("subject = %v", s)
	}
	use := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := c.Cert.Verify(x509.VerifyOptions{Roots: pool(t, ca), KeyUsages: use}); err != nil {
		t.Error(err)
	}
	if _, err := c.Cert.Verify(x509.VerifyOptions{Roots: pool(t, ca)}); err == nil {
		t.Error("it passes for a server's certificate")
	}
}

func TestWrittenPairLoadsAndKeyIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := newCA(t).Write(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	crt, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	if _, err := tls.LoadX509KeyPair(crt, key); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
}
