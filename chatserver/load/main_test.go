package load_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/crypto/bcrypt"

	"github.com/chatcluster/chatcluster/chatserver"
	"github.com/chatcluster/chatcluster/chatserver/load"
	"github.com/chatcluster/chatcluster/chatserver/load/report"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// The tests of this package put load on real chat servers, in this process, on
// a real Redis.

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{}) // that a Redis is not there yet is no news
	m.Run()
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// patience is how long a test waits for what has to happen.
const patience = time.Minute

const password = "correct horse"

// place is a Redis and what all servers on it have to agree about.
type place struct {
	redis *redistest.Redis
	dir   string // of token keys and users

	mu      sync.Mutex
	servers int
}

// users are how many accounts there are, as of the users command.
const users = 200

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{redis: redistest.Standalone(t), dir: t.TempDir()}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var accounts []byte
	for _, c := range logins(users) {
		accounts = fmt.Appendf(accounts, "%s:%s\n", c.User, hash)
	}
	for name, text := range map[string][]byte{
		"keys/k1": []byte("a secret that only the tests know, long enough"), "keys/current": []byte("k1"), "users": accounts,
	} {
		path := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// server is a running chat server. Without TLS a proxy can look into it.
type server struct {
	addr, url, metrics string
	stop               func() // drains it
}

func (p *place) start(t *testing.T, change ...func(*chatserver.Config)) *server {
	t.Helper()
	p.mu.Lock()
	p.servers++
	name := fmt.Sprint("server", p.servers)
	p.mu.Unlock()
	c := chatserver.Config{
		Version: "test", NodeID: name, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", Plaintext: true,
		Redis: chatserver.Redis{URLs: p.redis.URLs}, TokenKeysDir: filepath.Join(p.dir, "keys"), ClusterID: "tests",
		AccessTokenTTL: 15 * time.Minute, PlainTokenTTL: time.Hour, RefreshTokenTTL: time.Hour,
		DuplicateLogin: "reject", RegistrationOpen: true, UsersFile: filepath.Join(p.dir, "users"),
		DefaultRoom: "general", HistoryCount: 100_000, HistoryAge: time.Hour, MaxMessageBytes: 4096,
		DrainWindow: time.Second, Dev: true, Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&c)
	}
	s, err := chatserver.New(c)
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(life); err != nil {
			t.Errorf("the chat server: %v", err)
		}
	})
	stop := func() {
		end()
		running.Wait()
	}
	t.Cleanup(stop)
	scheme := "http"
	if !c.Plaintext {
		scheme = "https"
	}
	started := &server{addr: s.Addr(), url: scheme + "://" + s.Addr(), metrics: "http://" + s.AdminAddr() + "/metrics", stop: stop}
	await(t, "the chat server to be ready", func() error {
		resp, err := http.Get("http://" + s.AdminAddr() + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", resp.Status)
		}
		return nil
	})
	return started
}

func await(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func logins(n int) []load.Credentials {
	all := make([]load.Credentials, n)
	for i := range all {
		all[i] = load.Credentials{User: fmt.Sprint("load_", i), Password: password}
	}
	return all
}

// small is a run that takes a second.
func small(scenario string, servers ...*server) load.Config {
	c := load.Config{
		Tool: "chatload test", Scenario: scenario,
		TLS:         &tls.Config{InsecureSkipVerify: true},
		Accounts:    load.Accounts{Logins: logins(users)},
		Connections: 20, ConnectRate: 1000, RoomSize: 5, Rate: 100, Size: 50,
		Ramp: 100 * time.Millisecond, Duration: time.Second, Settle: patience,
		Bystanders: 4, Churn: 20, Logins: 5, Storms: 1,
	}
	for _, s := range servers {
		c.URLs = append(c.URLs, s.url)
		c.Metrics = append(c.Metrics, s.metrics)
	}
	return c
}

func run(t *testing.T, c load.Config) *report.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	r, err := load.Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantClean fails the test if anything was not delivered as promised, or if
// nothing was.
func wantClean(t *testing.T, r *report.Report) {
	t.Helper()
	if err := r.Check.Err(); err != nil {
		t.Error(err)
	}
	if r.Check.Acknowledged == 0 || r.Check.Due == 0 {
		t.Errorf("nothing was said: %s", r.Check)
	}
	if r.Unsent+r.Unacknowledged+r.Refused > 0 {
		t.Errorf("%d not sent, %d not acknowledged, %d refused", r.Unsent, r.Unacknowledged, r.Refused)
	}
}

// proxied is the server behind something that takes its connections.
func (s *server) proxied(t *testing.T, serve func(from, to net.Conn)) *server {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { _ = ln.Close() })
	serving.Go(func() {
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer from.Close()
				to, err := new(net.Dialer).DialContext(context.Background(), "tcp", s.addr)
				if err != nil {
					return
				}
				defer to.Close()
				serve(from, to)
			})
		}
	})
	other := *s
	other.addr, other.url = ln.Addr().String(), "http://"+ln.Addr().String()
	return &other
}
