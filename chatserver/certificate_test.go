package chatserver

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// writePair puts a fresh certificate into dir and says its serial number.
func writePair(t *testing.T, dir string) (files KeyFiles, serial string) {
	t.Helper()
	made, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	pair := made.current.Load()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	files = KeyFiles{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	for name, block := range map[string]*pem.Block{
		files.Cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		files.Key:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files, pair.Leaf.SerialNumber.String()
}

func TestCertificateThatDoesNotFitItsKeyIsNotServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files, first := writePair(t, dir)
	c, err := loadCertificate(files)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := c.reload(); changed || err != nil {
		t.Errorf("nothing was written, and reload says %v, %v", changed, err)
	}

	oldKey, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	_, second := writePair(t, dir)
	newKey, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files.Key, oldKey, 0o600); err != nil { // caught between two writes
		t.Fatal(err)
	}
	if changed, err := c.reload(); changed || err == nil {
		t.Errorf("a pair that does not fit gave %v, %v", changed, err)
	}
	if got := c.current.Load().Leaf.SerialNumber.String(); got != first {
		t.Errorf("certificate %s is served, want the old one, %s", got, first)
	}
	if err := os.WriteFile(files.Key, newKey, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := c.reload(); !changed || err != nil {
		t.Errorf("the whole pair gave %v, %v", changed, err)
	}
	if got := c.current.Load().Leaf.SerialNumber.String(); got != second {
		t.Errorf("certificate %s is served, want the new one, %s", got, second)
	}
}
