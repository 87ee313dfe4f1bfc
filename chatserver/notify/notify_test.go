package notify_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/notify"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

const (
	patience = 60 * time.Second
	secret   = "a secret of the webhook, long enough"
	text     = "nobody but bob may read this"
)

// receiver is a push service and a webhook at once: it answers what it is told to, in
// turn, the last answer for ever, and keeps what it got.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int
	got     chan request
}

type request struct {
	header http.Header
	body   []byte
	answer int
}

func newReceiver(t *testing.T, answers ...int) *receiver {
	t.Helper()
	r := &receiver{answers: answers, got: make(chan request, 100)}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		answer := http.StatusCreated
		if len(r.answers) > 0 {
			answer = r.answers[0]
		}
		if len(r.answers) > 1 {
			r.answers = r.answers[1:]
		}
		r.mu.Unlock()
		r.got <- request{req.Header, body, answer}
		w.WriteHeader(answer)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) next(t *testing.T) request {
	t.Helper()
	select {
	case got := <-r.got:
		return got
	case <-time.After(patience):
		t.Fatal("no notification came")
		return request{}
	}
}

// browser has the keys of a subscription.
type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
}

func newBrowser(t *testing.T) browser {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	must(t, err)
	auth := make([]byte, 16)
	_, _ = rand.Read(auth)
	return browser{key, auth}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decrypt does what a browser does with a push message: RFC 8291 and RFC 8188.
func (b browser) decrypt(t *testing.T, body []byte) (note notify.Notification, plain string) {
	t.Helper()
	salt, size, rest := body[:16], int(body[20]), body[21:]
	sender, err := ecdh.P256().NewPublicKey(rest[:size])
	must(t, err)
	shared, err := b.key.ECDH(sender)
	must(t, err)
	info := "WebPush: info\x00" + string(b.key.PublicKey().Bytes()) + string(sender.Bytes())
	derive := func(secret, salt []byte, info string, n int) []byte {
		out, err := hkdf.Key(sha256.New, secret, salt, info, n)
		must(t, err)
		return out
	}
	input := derive(shared, b.auth, info, 32)
	block, err := aes.NewCipher(derive(input, salt, "Content-Encoding: aes128gcm\x00", 16))
	must(t, err)
	gcm, err := cipher.NewGCM(block)
	must(t, err)
	padded, err := gcm.Open(nil, derive(input, salt, "Content-Encoding: nonce\x00", 12), rest[size:], nil)
	must(t, err)
	plain = strings.TrimRight(string(padded), "\x00")
	plain, last := strings.CutSuffix(plain, "\x02")
	if !last {
		t.Fatalf("the record does not end as a last one does: %q", plain)
	}
	must(t, json.Unmarshal([]byte(plain), &note))
	return note, plain
}

// world is a chat with a Notifier on a Redis of its own.
type world struct {
	t        *testing.T
	store    *store.Store
	chat     *chat.Chat
	notifier *notify.Notifier
	vapid    *ecdsa.PrivateKey
	receiver *receiver
}

func (w *world) config(change func(*notify.Config)) notify.Config {
	w.t.Helper()
	dir := w.t.TempDir()
	der, err := x509.MarshalECPrivateKey(w.vapid)
	must(w.t, err)
	must(w.t, os.WriteFile(filepath.Join(dir, "vapid.pem"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
	must(w.t, os.WriteFile(filepath.Join(dir, "secret"), []byte(secret+"\n"), 0o600))
	roots := x509.NewCertPool()
	roots.AddCert(w.receiver.Certificate())
	c := notify.Config{
		VAPIDKeyFile: filepath.Join(dir, "vapid.pem"), VAPIDContact: "mailto:ops@example.com", AllowPrivate: true,
		WebhookSecretFile: filepath.Join(dir, "secret"), Roots: roots, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	return c
}

func newWorld(t *testing.T, r *redistest.Redis, receiver *receiver, change func(*notify.Config)) *world {
	t.Helper()
	must(t, flush(t, r))
	st, err := store.Open(t.Context(), store.Options{URLs: r.URLs, Cluster: r.IsCluster, ServerID: "s" + rand.Text()[:6]})
	must(t, err)
	t.Cleanup(func() { _ = st.Close() })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	w := &world{t: t, store: st, vapid: key, receiver: receiver}
	w.notifier, err = notify.New(w.config(change))
	must(t, err)
	w.chat = chat.New(chat.Config{MaxMessageBytes: 4096, Notify: w.notifier.Message, Log: slog.New(slog.DiscardHandler)}, st)
	for _, user := range []string{"alice", "bob", "carol"} {
		must(t, st.CreateUser(t.Context(), user, "x"))
	}
	return w
}

// flush forgets what another test had: some of the queue is the whole cluster's.
func flush(t *testing.T, r *redistest.Redis) error {
	var all error
	for _, n := range r.Nodes {
		c := n.Client()
		all = errors.Join(all, c.FlushAll(t.Context()).Err(), c.Close())
	}
	return all
}

// run has the Notifier send until the test ends.
func (w *world) run() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.notifier.Run(ctx, w.store) }()
	w.t.Cleanup(func() { stop(); <-done })
}

func (w *world) subscribe(user, path string) browser {
	w.t.Helper()
	b := newBrowser(w.t)
	sid := rand.Text()
	now := time.Now()
	_, err := w.store.AddLogin(w.t.Context(), user, "", store.Login{SID: sid, Created: now, Used: now, Expires: now.Add(time.Hour)})
	must(w.t, err)
	sub := store.Subscription{
		Endpoint: w.receiver.URL + path, P256dh: encode(b.key.PublicKey().Bytes()), Auth: encode(b.auth),
		Session: sid, Created: now.UnixMilli(),
	}
	must(w.t, w.store.AddSubscription(w.t.Context(), user, sub))
	return b
}

func (w *world) do(user string, req protocol.Request) protocol.Event {
	w.t.Helper()
	e, err := w.chat.Do(w.t.Context(), user, req)
	must(w.t, err)
	return e
}

func (w *world) direct(to, message string) protocol.Event {
	w.t.Helper()
	return w.do("alice", protocol.Request{Type: protocol.TypeDirect, To: to, Message: message, ID: rand.Text()})
}

// awaitEmpty waits until nothing is left to be sent.
func (w *world) awaitEmpty() {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		n, err := w.store.CountNotices(w.t.Context())
		must(w.t, err)
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d notifications are still there", n)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNotifications(t *testing.T) {
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		for name, f := range map[string]func(*testing.T, *redistest.Redis){
			"ABrowserGetsWhoAndWhereAndNoText":      browserGetsIt,
			"TheWebhookIsSigned":                    webhookIsSigned,
			"TextIsThereWhenAskedFor":               textOnRequest,
			"OnlyMentionedMembersWhoAreAwayAreTold": onlyThoseConcerned,
			"TwoFailuresThenOneDelivery":            retried,
			"ADeadServersWorkIsDoneByAnother":       takenOver,
			"AGoneSubscriptionIsForgotten":          gone,
			"ALogoutEndsTheSubscription":            loggedOut,
			"PrivateAddressesAreNotCalled":          privateAddress,
			"WhatNobodyTakesIsGivenUp":              givenUp,
		} {
			t.Run(name, func(t *testing.T) { f(t, r) })
		}
	})
}

func browserGetsIt(t *testing.T, r *redistest.Redis) {
	w := newWorld(t, r, newReceiver(t), nil)
	w.run()
	b := w.subscribe("bob", "/push/1")
	ack := w.direct("bob", text)
	got := w.receiver.next(t)
	note, plain := b.decrypt(t, got.body)
	want := notify.Notification{
		Type: "direct", User: "bob", Sender: "alice", Room: ack.Room, Offset: ack.Offset, Unread: 1, Timestamp: note.Timestamp,
	}
	if note != want || strings.Contains(plain, "text") {
		t.Errorf("the browser got %s, want %+v", plain, want)
	}
	if got.header.Get("Ttl") == "" || got.header.Get("Content-Encoding") != "aes128gcm" || len(got.header.Get("Topic")) != 32 {
		t.Errorf("headers %v", got.header)
	}
	w.checkVAPID(got.header.Get("Authorization"))
	w.awaitEmpty()
}

// checkVAPID does what a push service does (RFC 8292).
func (w *world) checkVAPID(header string) {
	w.t.Helper()
	token, key, ok := strings.Cut(strings.TrimPrefix(header, "vapid t="), ", k=")
	if !ok || key != w.notifier.PublicKey() {
		w.t.Fatalf("authorization %q, want the key %s", header, w.notifier.PublicKey())
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return &w.vapid.PublicKey, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(w.receiver.URL), jwt.WithExpirationRequired())
	must(w.t, err)
	exp, _ := claims.GetExpirationTime()
	if claims["sub"] != "mailto:ops@example.com" || time.Until(exp.Time) > 24*time.Hour {
		w.t.Errorf("claims %v", claims)
	}
}

func webhookIsSigned(t *testing.T, r *redistest.Redis) {
	recv := newReceiver(t)
	w := newWorld(t, r, recv, func(c *notify.Config) { c.WebhookURL = recv.URL + "/hook" })
	w.run()
	w.direct("bob", text)
	got := recv.next(t)
	if err := Verify([]byte(secret), got.header, got.body, time.Now()); err != nil {
		t.Error(err)
	}
	if Verify([]byte("another secret"), got.header, got.body, time.Now()) == nil ||
		Verify([]byte(secret), got.header, append(got.body, ' '), time.Now()) == nil ||
		Verify([]byte(secret), got.header, got.body, time.Now().Add(time.Hour)) == nil {
		t.Error("a wrong secret, a changed body or an old call was taken for right")
	}
	if strings.Contains(string(got.body), text) || !strings.Contains(string(got.body), `"sender":"alice"`) {
		t.Errorf("the webhook got %s", got.body)
	}
}

// Verify is what docs/notifications.md tells receivers to do.
func Verify(secret []byte, header http.Header, body []byte, now time.Time) error {
	at := header.Get("Webhook-Timestamp")
	var seconds int64
	if _, err := fmt.Sscan(at, &seconds); err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return errors.New("the call is not of now")
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(header.Get("Webhook-Id") + "." + at + "."))
	mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(want), []byte(header.Get("Webhook-Signature"))) {
		return errors.New("the signature is wrong")
	}
	return nil
}

func textOnRequest(t *testing.T, r *redistest.Redis) {
	w := newWorld(t, r, newReceiver(t), func(c *notify.Config) { c.Text = true })
	w.run()
	b := w.subscribe("bob", "/push/1")
	w.direct("bob", text)
	if note, plain := b.decrypt(t, w.receiver.next(t).body); note.Text != text {
		t.Errorf("got %s", plain)
	}
	// The longest text of what takes most room in JSON still fits, and is cut between characters.
	w.direct("bob", strings.Repeat("\u2028", 1300))
	if note, _ := b.decrypt(t, w.receiver.next(t).body); !strings.HasSuffix(note.Text, "\u2028…") {
		t.Errorf("the long text arrived as %q", note.Text)
	}
}

func onlyThoseConcerned(t *testing.T, r *redistest.Redis) {
	recv := newReceiver(t)
	w := newWorld(t, r, recv, func(c *notify.Config) { c.WebhookURL = recv.URL })
	w.run()
	ctx := t.Context()
	for _, user := range []string{"dave", "erin"} {
		must(t, w.store.CreateUser(ctx, user, "x"))
	}
	w.do("alice", protocol.Request{Type: protocol.TypeCreate, Room: "den", Kind: protocol.KindPrivate})
	for _, user := range []string{"bob", "dave", "erin"} { // carol is no member
		w.do("alice", protocol.Request{Type: protocol.TypeInvite, Room: "den", To: user})
		w.do(user, protocol.Request{Type: protocol.TypeJoin, Room: "den"})
	}
	_, err := w.store.Acquire(ctx, "dave", rand.Text(), store.AllowMost(0), nil) // dave is online
	must(t, err)
	id := rand.Text()
	req := protocol.Request{Type: protocol.TypeMessage, Room: "den", Message: "@alice @bob @carol @dave @nobody look", ID: id}
	w.do("alice", req)
	w.do("alice", req) // a retried send is no second message
	// The last message is told of last, to somebody else: nothing is on its way after it.
	got := recv.next(t)
	if s := string(got.body); !strings.Contains(s, `"user":"bob"`) || !strings.Contains(s, `"type":"mention"`) {
		t.Errorf("got %s", s)
	}
	w.do("alice", protocol.Request{Type: protocol.TypeMessage, Room: "den", Message: "nobody in particular", ID: rand.Text()})
	w.do("alice", protocol.Request{Type: protocol.TypeMessage, Room: "den", Message: "@erin you too", ID: rand.Text()})
	if s := string(recv.next(t).body); !strings.Contains(s, `"user":"erin"`) || !strings.Contains(s, `"unread":3`) {
		t.Errorf("got %s, want one for erin, who has not read 3", s)
	}
	w.awaitEmpty()
	if len(recv.got) != 0 {
		t.Errorf("somebody else was told too: %s", (<-recv.got).body)
	}
}

func retried(t *testing.T, r *redistest.Redis) {
	w := newWorld(t, r, newReceiver(t, 503, 500, 201), nil)
	w.run()
	b := w.subscribe("bob", "/push/1")
	w.direct("bob", text)
	for _, answer := range []int{503, 500, 201} {
		got := w.receiver.next(t)
		if note, _ := b.decrypt(t, got.body); got.answer != answer || note.Sender != "alice" {
			t.Errorf("answered %d to %+v, want %d", got.answer, note, answer)
		}
	}
	w.awaitEmpty()
	if len(w.receiver.got) != 0 {
		t.Error("it was sent again after it had been taken")
	}
}

func takenOver(t *testing.T, r *redistest.Redis) {
	recv := newReceiver(t)
	w := newWorld(t, r, recv, func(c *notify.Config) { c.WebhookURL = recv.URL })
	must(t, first(w.store.AddNotices(t.Context(), []store.Notice{{ID: "n1", Body: []byte(`{"u":"bob","r":"den","b":{"a":1}}`)}})))
	// One server takes it and is never heard of again.
	taken, err := w.store.TakeNotices(t.Context(), 10, time.Second)
	if err != nil || len(taken) != 1 {
		t.Fatalf("took %v, %v", taken, err)
	}
	if again, err := w.store.TakeNotices(t.Context(), 10, time.Second); err != nil || len(again) != 0 {
		t.Fatalf("took %v a second time, %v", again, err)
	}
	w.run()
	if got := recv.next(t); string(got.body) != `{"a":1}` || got.header.Get("Webhook-Id") != "n1" {
		t.Errorf("got %s", got.body)
	}
	w.awaitEmpty()
}

func first(_ int, err error) error { return err }

func gone(t *testing.T, r *redistest.Redis) {
	w := newWorld(t, r, newReceiver(t, http.StatusGone), nil)
	w.run()
	w.subscribe("bob", "/push/1")
	w.direct("bob", text)
	w.receiver.next(t)
	w.awaitEmpty()
	if subs, err := w.store.Subscriptions(t.Context(), "bob"); err != nil || len(subs) != 0 {
		t.Errorf("bob still has %v, %v", subs, err)
	}
}

func loggedOut(t *testing.T, r *redistest.Redis) {
	w := newWorld(t, r, newReceiver(t), nil)
	w.run()
	w.subscribe("bob", "/push/1")
	subs, err := w.store.Subscriptions(t.Context(), "bob")
	must(t, err)
	must(t, w.store.RemoveLogin(t.Context(), "bob", subs[0].Session))
	stays := w.subscribe("bob", "/push/2")
	w.direct("bob", text)
	stays.decrypt(t, w.receiver.next(t).body)
	w.awaitEmpty()
	if len(w.receiver.got) != 0 {
		t.Error("a browser that was logged out was told")
	}
}

func privateAddress(t *testing.T, r *redistest.Redis) {
	var log journal
	w := newWorld(t, r, newReceiver(t), func(c *notify.Config) {
		c.AllowPrivate = false
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.run()
	w.subscribe("bob", "/push/secret") // past the check that strangers have to pass
	w.direct("bob", text)
	for deadline := time.Now().Add(patience); !strings.Contains(log.String(), "not a public one"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was refused: %s", log.String())
		}
	}
	w.awaitEmpty() // given up at once: there is nothing to wait for
	if len(w.receiver.got) != 0 {
		t.Error("an address of this machine was called")
	}
	if strings.Contains(log.String(), "/push/secret") || strings.Contains(log.String(), text) {
		t.Errorf("the log has what it must not: %s", log.String())
	}
}

// journal keeps what is logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func givenUp(t *testing.T, r *redistest.Redis) {
	recv := newReceiver(t, 500)
	w := newWorld(t, r, recv, func(c *notify.Config) { c.WebhookURL, c.Tries = recv.URL, 2 })
	w.run()
	w.direct("bob", text)
	recv.next(t)
	recv.next(t)
	w.awaitEmpty()
	if len(recv.got) != 0 {
		t.Error("it was tried more often than allowed")
	}
}
