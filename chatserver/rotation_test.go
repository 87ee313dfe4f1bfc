package chatserver_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// served is the name on the certificate that addr shows.
func served(t *testing.T, addr string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // it is looked at here
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestRenewedCertificateIsServedWithoutARestart(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		put := func(name string) {
			cert, key, err := newCertificate(name)
			if err != nil {
				t.Fatal(err)
			}
			// As a kubelet does it: a new directory, and the symbolic link to it swapped.
			version := filepath.Join(dir, name)
			link := filepath.Join(dir, "next")
			for _, err := range []error{
				os.Mkdir(version, 0o700),
				os.WriteFile(filepath.Join(version, "tls.crt"), cert, 0o600),
				os.WriteFile(filepath.Join(version, "tls.key"), key, 0o600),
				os.Symlink(version, link),
				os.Rename(link, filepath.Join(dir, "current")),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		put("old")
		cert, key := filepath.Join(dir, "current", "tls.crt"), filepath.Join(dir, "current", "tls.key")
		s := run(t, w.redis, unique("rotating"), "--line-tls-cert-file="+cert, "--line-tls-key-file="+key)
		if got := served(t, s.line); got != "old" {
			t.Fatalf("the line listener shows %q", got)
		}
		before := connect(t, s, newUser(t, w.store, "judy"))

		put("new")
		for deadline := time.Now().Add(patience); served(t, s.line) != "new"; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the renewed certificate is not served")
			}
		}
		if got := served(t, s.https); got != "first" {
			t.Errorf("the HTTPS listener, whose files did not change, shows %q", got)
		}
		before.send(`{"type":"message","message":"still here"}`)
		before.expect(map[string]any{"type": "message", "message": "still here"})
		_ = before.Close(websocket.StatusNormalClosure, "")
	})
}
