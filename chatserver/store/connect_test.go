package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

func secure(t *testing.T) (*redistest.Redis, Options) {
	t.Helper()
	server := redistest.Secure(t)
	return server, Options{
		URLs: server.URLs, ServerID: unique("server"),
		CAFile: server.Files.CA, UsernameFile: server.Files.Username, PasswordFile: server.Files.Password,
	}
}

// TestFewRightsAndTLSSuffice does one of everything as the user that a cluster's chat
// servers have.
func TestFewRightsAndTLSSuffice(t *testing.T) {
	t.Parallel()
	_, o := secure(t)
	s := got[*Store](t)(Open(t.Context(), o))
	defer func() { _ = s.Close() }()
	messages := listen(t, s, RoomChannel("lobby"))
	must(t, s.Heartbeat(t.Context(), time.Minute))
	must(t, s.CreateUser(t.Context(), "alice", "hash"))
	got[[]string](t)(s.AddLogin(t.Context(), "alice", "hash", Login{SID: "sid", Family: "f", Expires: time.Now().Add(time.Hour)}))
	must(t, s.UseLogin(t.Context(), "alice", "sid", time.Now().Add(2*time.Hour)))
	must(t, s.AddRefresh(t.Context(), "f", "s1", UserSID{"alice", "sid"}, time.Hour))
	must(t, s.RotateRefresh(t.Context(), "f", "s1", "s2", time.Hour))
	must(t, s.SetRole(t.Context(), "alice", RoleAdmin))
	_, _, err := s.Users(t.Context(), "al", "", 10)
	must(t, err)
	got[Acquired](t)(s.Acquire(t.Context(), "alice", "sid", Reject, nil))
	got[bool](t)(s.Enter(t.Context(), "lobby", "alice"))
	must(t, s.SetRoom(t.Context(), "alice", "lobby"))
	got[Published](t)(s.Publish(t.Context(), say("lobby", "alice", "", "hello")))
	if _, _, body := live(t, messages); body != "hello" {
		t.Errorf("heard %q", body)
	}
	if l := got[Log](t)(s.Read(t.Context(), "lobby", 0, 0)); len(l.Entries) != 1 {
		t.Errorf("the log is %+v", l)
	}
	got[[]RoomInfo](t)(s.Rooms(t.Context()))
	got[bool](t)(s.Follow(t.Context(), "alice", "bob"))
	_, _, err = s.Allow(t.Context(), "address", 1, time.Second)
	must(t, err)
	must(t, s.Release(t.Context(), "alice", "sid"))
	must(t, s.Goodbye(t.Context()))
	got[Swept](t)(s.Sweep(t.Context(), s.Name()))
}

func TestRotatedCertificateAndPasswordNeedNoRestart(t *testing.T) {
	t.Parallel()
	server, o := secure(t)
	s := got[*Store](t)(Open(t.Context(), o))
	defer func() { _ = s.Close() }()
	for range 2 {
		must(t, server.Revoke(t.Context()))
		must(t, server.Rotate(t.Context())) // and with it all connections
		must(t, s.Client().Ping(t.Context()).Err())
		got[Published](t)(s.Publish(t.Context(), say("lobby", "alice", "", "hello")))
	}
}

func TestServerThatIsNotTheOneIsRefused(t *testing.T) {
	t.Parallel()
	_, o := secure(t)
	other, _ := secure(t)
	wrongName := strings.Replace(o.URLs[0], "127.0.0.1", "localhost", 1)
	empty := filepath.Join(t.TempDir(), "empty.crt")
	must(t, os.WriteFile(empty, nil, 0o600))
	for name, c := range map[string]struct {
		change func(*Options)
		tells  string
	}{
		"another CA":         {func(o *Options) { o.CAFile = other.Files.CA }, "certificate"},
		"the system's CAs":   {func(o *Options) { o.CAFile = "" }, "certificate"},
		"another name":       {func(o *Options) { o.URLs = []string{wrongName} }, "localhost"},
		"an empty CA file":   {func(o *Options) { o.CAFile = empty }, "holds no PEM certificate"},
		"an absent CA file":  {func(o *Options) { o.CAFile = "/absent" }, "/absent"},
		"the wrong password": {func(o *Options) { o.PasswordFile = other.Files.Password }, "WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := o
			c.change(&changed)
			s, err := Open(t.Context(), changed)
			if err == nil {
				_ = s.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), c.tells) {
				t.Errorf("the error does not tell of %q: %v", c.tells, err)
			}
		})
	}
}

func TestOptionsThatCannotWorkAreRefusedWithoutSecrets(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"no URL":           {},
		"not a URL":        {URLs: []string{"redis://user:hunter2@%zz"}},
		"wrong scheme":     {URLs: []string{"http://user:hunter2@127.0.0.1"}},
		"unknown option":   {URLs: []string{"redis://user:hunter2@127.0.0.1?tls=yes"}},
		"id with a space":  {URLs: backends[0].urls, ServerID: "a b"},
		"id with a brace":  {URLs: backends[0].urls, ServerID: "a}b"},
		"absent user file": {URLs: backends[0].urls, UsernameFile: "/absent"},
	} {
		s, err := Open(t.Context(), o)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

func TestRotatedPasswordIsReadForNewConnections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	user, password := filepath.Join(dir, "user"), filepath.Join(dir, "password")
	must(t, os.WriteFile(user, []byte("chat\n"), 0o600))
	must(t, os.WriteFile(password, []byte("one\n"), 0o600))
	c := credentials("ignored", "ignored", user, password)
	for _, want := range []string{"one", "two"} {
		must(t, os.WriteFile(password, []byte(want+"\n"), 0o600))
		if u, p, err := c(t.Context()); u != "chat" || p != want || err != nil {
			t.Errorf("%s, %s, %v", u, p, err)
		}
	}
	if u, p, _ := credentials("url", "url", "", password)(t.Context()); u != "url" || p != "two" {
		t.Errorf("without a user file: %s, %s", u, p)
	}
}
