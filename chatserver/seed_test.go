package chatserver

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

func TestUsersFileIsRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users")
	text := "# people\nalice:pass:word\n\nbob:$2a$10$abc\r\n" +
		"carol:$2a$10$abc:admin\ndave:pass:word:moderator\nerin:admin\nfrank:admin:user\ngrace:word:Admin\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	seeds, err := readSeeds(file)
	if err != nil {
		t.Fatal(err)
	}
	want := []seed{
		{user: "alice", secret: "pass:word"},
		{user: "bob", secret: "$2a$10$abc"},
		{user: "carol", secret: "$2a$10$abc", role: store.RoleAdmin, ranked: true},
		{user: "dave", secret: "pass:word", role: store.RoleModerator, ranked: true},
		{user: "erin", secret: "admin"},
		{user: "frank", secret: "admin", role: store.RoleUser, ranked: true},
		{user: "grace", secret: "word:Admin"},
	}
	if !slices.Equal(seeds, want) {
		t.Errorf("got %+v, want %+v", seeds, want)
	}
	for _, bad := range []string{"alice", "alice:", "alice::admin", "no such name:x"} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readSeeds(file); err == nil {
			t.Errorf("%q was taken for an account", bad)
		}
	}
}

func FuzzParseSeed(f *testing.F) {
	for _, line := range []string{"alice:pass:word", "carol:$2a$10$abc:admin", "erin:admin", ":", "a:b:moderator"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, err := parseSeed(line)
		if err != nil {
			return
		}
		again := s.user + ":" + s.secret
		if s.ranked {
			again = line // the role is the rest of it
		}
		if s.secret == "" || again != line || auth.ValidateUsername(s.user) != nil {
			t.Fatalf("%q was read as %+v", line, s)
		}
	})
}

func TestAccountsAreMadeOnceRedisIsBack(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := redistest.Standalone(t)
	st, err := store.Open(t.Context(), store.Options{URLs: r.URLs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	r.Nodes[0].Stop()
	var warned atomic.Bool
	back := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(writerFunc(func(line []byte) (int, error) {
		if !warned.Swap(true) {
			back <- r.Nodes[0].Restart()
		}
		return len(line), nil
	}), nil))
	s := &Server{log: log, seeds: []seed{{user: "carol", secret: "secret-enough"}}}
	if err := s.plantSeeds(ctx, st); err != nil {
		t.Fatalf("a Redis that was away for a moment ended the start: %v", err)
	}
	if !warned.Load() {
		t.Fatal("Redis was there all the time: this test has shown nothing")
	}
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	if _, err := st.PasswordHash(t.Context(), "carol"); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(line []byte) (int, error) { return f(line) }
