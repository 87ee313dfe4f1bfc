package chatserver_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

func TestKilledServersNotificationIsSentByAnother(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	type posted struct{ id, body string }
	var up atomic.Bool
	calls := make(chan posted, 1000)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		body, _ := io.ReadAll(r.Body)
		calls <- posted{r.Header.Get("Webhook-Id"), string(body)}
	}))
	t.Cleanup(hook.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret that is long enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--webhook-url=" + hook.URL, "--webhook-secret-file=" + secret}
	one := run(t, r, "one", flags...)
	st, err := openStore(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	alice, bob := newUser(t, st, "alice"), newUser(t, st, "bob")

	const text = "nobody but bob may read this"
	c := connect(t, one, alice)
	c.send(`{"type":"direct","to":"` + bob + `","message":"` + text + `","id":"d1"}`)
	c.expect(map[string]any{"type": "ack", "id": "d1"})
	next := func() posted {
		select {
		case p := <-calls:
			return p
		case <-time.After(patience):
			t.Fatal("the webhook was not called")
			return posted{}
		}
	}
	tried := next()
	one.kill()
	for len(calls) > 0 {
		<-calls
	}
	up.Store(true)
	two := run(t, r, "two", flags...)
	got := next()
	var note struct{ User, Sender, Type string }
	if err := json.Unmarshal([]byte(got.body), &note); err != nil {
		t.Fatal(err)
	}
	if got != tried || note.User != bob || note.Sender != alice || note.Type != "direct" {
		t.Errorf("the other server sent %+v, the killed one %+v", got, tried)
	}
	for what, s := range map[string]string{"notification": got.body, "first log": one.logs(), "second log": two.logs()} {
		if strings.Contains(s, text) {
			t.Errorf("the %s has the message's text", what)
		}
	}
	resp, answer := call(t, http.MethodGet, two.url()+"/api/push/key", "")
	if resp.StatusCode != http.StatusNotFound || answer["code"] != "no_push" {
		t.Errorf("without a key: %d %v", resp.StatusCode, answer)
	}
}

func TestBrowsersSubscribe(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	// Any P-256 key does, and so the certificate's.
	file := filepath.Join(files, "tls.key")
	s := run(t, r, "one", pushFlags()...)
	st, err := openStore(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	bob := newUser(t, st, "bob")
	token := login(t, s, bob)

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.(*ecdsa.PrivateKey).PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	resp, answer := call(t, http.MethodGet, s.url()+"/api/push/key", "")
	if resp.StatusCode != http.StatusOK || answer["key"] != base64.RawURLEncoding.EncodeToString(public.Bytes()) {
		t.Errorf("the key: %d %v", resp.StatusCode, answer)
	}
	body := func(endpoint string) string { return subscriptionTo(t, endpoint) }
	const endpoint = "https://push.example.com/send/abc"
	count := func() int {
		subs, err := st.Subscriptions(waiting(t), bob)
		if err != nil {
			t.Fatal(err)
		}
		return len(subs)
	}
	for _, step := range []struct {
		method, body, token string
		status, kept        int
	}{
		{http.MethodPost, body(endpoint), "", http.StatusUnauthorized, 0},
		{http.MethodPost, body("https://169.254.169.254/latest"), token, http.StatusBadRequest, 0},
		{http.MethodPost, body("http://push.example.com/x"), token, http.StatusBadRequest, 0},
		{http.MethodPost, body(endpoint), token, http.StatusCreated, 1},
		{http.MethodPost, body(endpoint), token, http.StatusCreated, 1},
		{http.MethodDelete, `{"endpoint":"https://other.example.com/"}`, token, http.StatusOK, 1},
		{http.MethodDelete, `{"endpoint":"` + endpoint + `"}`, token, http.StatusOK, 0},
	} {
		resp, answer := call(t, step.method, s.url()+"/api/push/subscriptions", step.body, "Authorization", "Bearer "+step.token)
		if n := count(); resp.StatusCode != step.status || n != step.kept {
			t.Errorf("%s %s: %d %v and %d kept, want %d and %d", step.method, step.body, resp.StatusCode, answer, n, step.status, step.kept)
		}
	}
	// A user has a bounded number: the oldest go.
	for i := range 25 {
		call(t, http.MethodPost, s.url()+"/api/push/subscriptions", body(endpoint+string(rune('a'+i))), "Authorization", "Bearer "+token)
	}
	if n := count(); n != 20 {
		t.Errorf("%d subscriptions are kept, want 20", n)
	}
}

// pushFlags have a server send Web Push messages.
func pushFlags() []string {
	return []string{"--vapid-key-file=" + filepath.Join(files, "tls.key"), "--vapid-contact=mailto:ops@example.com"}
}

// subscriptionTo is what a browser makes of a subscription.
func subscriptionTo(t *testing.T, endpoint string) string {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return `{"endpoint":"` + endpoint + `","expirationTime":null,"keys":{"p256dh":"` +
		base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()) + `","auth":"AAAAAAAAAAAAAAAAAAAAAA"}}`
}
