package chatserver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/ledger"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// stage is a service on which people talk while something is done to it: two
// servers on one Redis, and in each of three rooms some who speak and some who
// listen. Everybody comes through a proxy, half of them to each server, and to
// the other one if that is gone. A ledger notes what was acknowledged and what
// was heard, from the wire.
type stage struct {
	t        *testing.T
	redis    *redistest.Redis
	store    *store.Store
	one, two *server
	ledger   *ledger.Ledger
	rooms    []string
	// Whoever prefers server one comes through left, the others through right.
	left, right *proxy

	clients      []*client.Client
	acknowledged atomic.Int64
	scheme       string // https, or http with --plaintext
}

const (
	stageRooms = 3
	stageEvery = 25 * time.Millisecond // between two messages of one who speaks
)

// newStage starts everything and has everybody in place.
func newStage(t *testing.T, r *redistest.Redis, flags ...string) *stage {
	t.Helper()
	st, err := openStore(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	s := &stage{t: t, redis: r, store: st, ledger: ledger.New(), scheme: "https"}
	if slices.Contains(flags, "--plaintext") {
		s.scheme = "http"
	}
	s.one, s.two = run(t, r, unique("one"), flags...), run(t, r, unique("two"), flags...)
	s.left, s.right = newProxy(t, router{s.one, s.two}), newProxy(t, router{s.two, s.one})
	for range stageRooms {
		s.rooms = append(s.rooms, unique("room"))
	}
	return s
}

// enter brings a user in, who is in all rooms and notes what comes.
func (s *stage) enter(name string, through *proxy, mend ...func(*client.Options)) *client.Client {
	s.t.Helper()
	user := newUser(s.t, s.store, name)
	m := s.ledger.Member(user)
	service := s.scheme + "://" + s.two.https
	token, err := client.NewAccount(service, clientTLS()).Login(waiting(s.t), user, password)
	if err != nil {
		s.t.Fatal(err)
	}
	o := client.Options{
		URL: service, TLS: clientTLS(), Dial: through.dial, Rooms: s.rooms, Token: client.StaticToken(token),
		MinBackoff: 20 * time.Millisecond, MaxBackoff: time.Second,
		Received: func(e protocol.Event) {
			m.Observe(e)
			if e.Type == protocol.TypeAck {
				s.acknowledged.Add(1)
			}
		},
	}
	for _, f := range mend {
		f(&o)
	}
	c, err := client.Dial(waiting(s.t), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	for _, room := range s.rooms {
		if err := c.Join(waiting(s.t), room); err != nil {
			s.t.Fatal(err)
		}
	}
	s.clients = append(s.clients, c)
	return c
}

// speak has a client say something in each room in turn until stop ends, and
// waits until all of it is acknowledged.
func (s *stage) speak(stop context.Context, c *client.Client, text string) {
	var sent []*client.Sent
	tick := time.NewTicker(stageEvery)
	defer tick.Stop()
	for n := 0; stop.Err() == nil; n++ {
		<-tick.C
		m, err := c.Post(s.rooms[n%len(s.rooms)], fmt.Sprintf("%d %s", n, text))
		if err != nil {
			s.t.Errorf("post: %v", err)
			return
		}
		sent = append(sent, m)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, m := range sent {
		if _, err := m.Wait(ctx); err != nil {
			s.t.Errorf("a message was not acknowledged: %v", err)
			return
		}
	}
}

// play has everybody talk, does something to the service in the midst of it, and
// goes on until messages have flowed for a while afterwards. Then all that was
// acknowledged has to have been heard.
func (s *stage) play(text string, fault func()) ledger.Report {
	s.t.Helper()
	for _, through := range []*proxy{s.left, s.right} {
		s.enter("listener", through)
	}
	stop, cancel := context.WithCancel(context.Background())
	defer cancel()
	var talking sync.WaitGroup
	for _, through := range []*proxy{s.left, s.left, s.right, s.right} {
		c := s.enter("speaker", through)
		talking.Go(func() { s.speak(stop, c, text) })
	}
	s.flow(100)
	fault()
	s.flow(100)
	cancel()
	talking.Wait()

	deadline := time.Now().Add(patience)
	for s.ledger.Missing() > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	return s.ledger.Report()
}

// flow waits until so many more messages were acknowledged.
func (s *stage) flow(more int64) {
	s.t.Helper()
	want := s.acknowledged.Load() + more
	s.await(fmt.Sprintf("%d messages flow", more), func() bool { return s.acknowledged.Load() >= want })
}

func (s *stage) await(what string, done func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tell prints the verdict in one line and fails the test unless it is clean.
func (s *stage) tell(r ledger.Report) {
	s.t.Helper()
	s.t.Logf("%-40s acknowledged %6d   heard %6d   lost %d   duplicated %d   reordered %d",
		strings.TrimPrefix(s.t.Name(), "TestFaults/"), r.Acknowledged, r.Seen, r.Lost, r.Duplicated, r.Reordered)
	if r.Acknowledged == 0 {
		s.t.Error("nothing was acknowledged: this proves nothing")
	}
	if !r.Clean() || r.Declared > 0 {
		s.t.Error(r)
	}
}
