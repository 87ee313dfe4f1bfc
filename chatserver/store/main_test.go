package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// backend is one kind of Redis. The tests share it, so each uses names of its own.
type backend struct {
	name     string
	urls     []string
	embedded bool // miniredis: no clock of its own, no sharded pub/sub
}

var backends []*backend

// turn is held by the one test that uses the embedded Redis.
var turn sync.Mutex

func TestMain(m *testing.M) {
	code, err := withBackends(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withBackends(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	standalone, err := redistest.StartStandalone(dir)
	if err != nil {
		return 0, err
	}
	defer standalone.Stop()
	cluster, err := redistest.StartCluster(dir)
	if err != nil {
		return 0, err
	}
	defer cluster.Stop()
	embedded, err := miniredis.Run()
	if err != nil {
		return 0, err
	}
	defer embedded.Close()
	backends = []*backend{
		{name: "Standalone", urls: standalone.URLs},
		{name: "Cluster", urls: cluster.URLs},
		{name: "Embedded", urls: []string{"redis://" + embedded.Addr()}, embedded: true},
	}
	return run(), nil
}

// onEach runs f against every kind of Redis.
func onEach(t *testing.T, f func(t *testing.T, b *backend)) {
	t.Helper()
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			if b.embedded {
				// It compiles a script at each call: tests in a crowd would time out.
				turn.Lock()
				t.Cleanup(turn.Unlock)
			}
			f(t, b)
		})
	}
}

// open makes a Store for a server of its own.
func (b *backend) open(t testing.TB, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{URLs: b.urls, ServerID: unique("server")}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// unique makes a name that no other test uses.
func unique(name string) string { return name + "_" + rand.Text()[:8] }

// crash does to s's heartbeat what time does when a process dies.
func crash(t testing.TB, s *Store) {
	t.Helper()
	must(t, s.client.Del(t.Context(), serverKey(s.Name())).Err())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got fails the test on an error, and lets a call with a result be an expression.
func got[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// await waits for a condition, generously: tests share the machine.
func await(t testing.TB, what string, condition func(ctx context.Context) bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(t.Context()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
