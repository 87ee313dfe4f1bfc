package chatserver_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
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

func TestKeysOfTokensAreChangedWithoutLoggingAnybodyOut(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		// As a kubelet does it: files that are links through ..data, which is swapped.
		put := func(version string, keys map[string]string) {
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.Mkdir(filepath.Join(dir, version), 0o700))
			for name, text := range keys {
				must(os.WriteFile(filepath.Join(dir, version, name), []byte(text), 0o600))
				if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
					must(os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
				}
			}
			must(os.Symlink(version, filepath.Join(dir, "..next")))
			must(os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")))
			for _, name := range []string{"k1", "k2"} {
				if keys[name] == "" {
					_ = os.Remove(filepath.Join(dir, name))
				}
			}
		}
		k1, k2 := strings.Repeat("1", 32), strings.Repeat("2", 32)
		put("..v1", map[string]string{"k1": k1, "current": "k1"})
		flag := "--token-keys-dir=" + dir
		one, two := run(t, w.redis, unique("rotating"), flag), run(t, w.redis, unique("rotating"), flag)
		user := newUser(t, w.store, "kate")
		old := logIn(t, one, user)
		conn := attach(t, one, old.Token)
		if kid := claims(t, old.Token).Kid; kid != "k1" {
			t.Fatalf("the token is signed with %s", kid)
		}
		kid := func(s *server) string { return claims(t, logIn(t, s, user).Token).Kid }
		status := func(s *server, token string) int {
			resp, _ := call(t, "GET", s.url()+"/api/users/me", "", bearing(token)...)
			return resp.StatusCode
		}

		// The new key signs, the old one still verifies; then the old one goes.
		put("..v2", map[string]string{"k1": k1, "k2": k2, "current": "k2"})
		for _, s := range []*server{one, two} {
			await(t, "the new key to sign", func() bool { return kid(s) == "k2" })
			if status := status(s, old.Token); status != 200 {
				t.Errorf("a token of the old key, which is still there: %d", status)
			}
		}
		put("..v3", map[string]string{"k2": k2, "current": "k2"})
		for _, s := range []*server{one, two} {
			await(t, "the old key to go", func() bool { return status(s, old.Token) == 401 })
		}
		conn.send(`{"type":"ping","id":"1"}`)
		conn.expect(map[string]any{"type": "pong", "id": "1"})
		next, code := refresh(t, two, old.RefreshToken)
		if code != "" || next.Session != old.Session || claims(t, next.Token).Kid != "k2" {
			t.Errorf("a session from before the rotation got %q %+v", code, next)
		}
		if status := status(one, next.Token); status != 200 {
			t.Errorf("its new token: %d", status)
		}
	})
}
