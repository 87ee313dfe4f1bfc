package hub_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/relay"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// server is a hub with a store and a relay of its own, as a chat server has.
type server struct {
	*hub.Hub
	store *store.Store
	stop  func() // ends it as a crash does: nothing is released
}

func start(t *testing.T, r *redistest.Redis, id string, mend ...func(*hub.Config, *store.Options)) *server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg := hub.Config{Server: id, Policy: store.Reject, DrainWindow: time.Second, Log: log}
	opts := store.Options{URLs: r.URLs, Cluster: r.IsCluster, ServerID: id}
	for _, f := range mend {
		f(&cfg, &opts)
	}
	st, err := store.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	h := hub.New(cfg, st, relay.New(st.Client(), id, log))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	s := &server{Hub: h, store: st}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s ended with %v", id, err)
		}
		_ = st.Close()
	})
	t.Cleanup(s.stop)
	return s
}

// account makes a user with a login session, whose id it returns.
func (s *server) account(t *testing.T, user string) hub.Login {
	t.Helper()
	if err := s.store.CreateUser(t.Context(), user, "hash"); err != nil && !errors.Is(err, store.ErrUserExists) {
		t.Fatal(err)
	}
	return s.login(t, user, user+"-session")
}

func (s *server) login(t *testing.T, user, session string) hub.Login {
	t.Helper()
	if _, err := s.store.AddLogin(t.Context(), user, "", store.Login{SID: session, Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	return hub.Login{User: user, Session: session}
}

// person is a client with a transport that records what it is sent.
type person struct {
	*hub.Client
	tr *recorder
}

func (s *server) attach(t *testing.T, login hub.Login, o hub.AttachOptions) *person {
	t.Helper()
	tr := &recorder{changed: make(chan struct{}, 1)}
	c, err := s.Attach(t.Context(), login, tr, o)
	if err != nil {
		t.Fatalf("%s cannot attach: %v", login.User, err)
	}
	t.Cleanup(func() { c.Detach(protocol.CloseNormal) })
	return &person{c, tr}
}

// enters attaches a user who speaks the full protocol and is in the room.
func (s *server) enters(t *testing.T, user, room string) *person {
	t.Helper()
	p := s.attach(t, s.account(t, user), hub.AttachOptions{Full: true})
	p.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: room, ID: "join"})
	p.expect(t, "to have joined", func(e protocol.Event) bool { return e.Type == protocol.TypeJoined && e.Room == room })
	return p
}

func (p *person) says(t *testing.T, room, text, id string) {
	t.Helper()
	p.Handle(t.Context(), protocol.Request{Type: protocol.TypeMessage, Room: room, Message: text, ID: id})
}

// expect waits for an event and returns it.
func (p *person) expect(t *testing.T, what string, is func(protocol.Event) bool) protocol.Event {
	t.Helper()
	var found protocol.Event
	p.tr.wait(t, what, func(events []protocol.Event) bool {
		i := slices.IndexFunc(events, is)
		if i >= 0 {
			found = events[i]
		}
		return i >= 0
	})
	return found
}

func (p *person) count(is func(protocol.Event) bool) (n int) {
	p.tr.mu.Lock()
	defer p.tr.mu.Unlock()
	for _, e := range p.tr.events {
		if is(e) {
			n++
		}
	}
	return n
}

func message(text string) func(protocol.Event) bool {
	return func(e protocol.Event) bool { return e.Type == protocol.TypeMessage && e.Message == text }
}

func kind(k string) func(protocol.Event) bool {
	return func(e protocol.Event) bool { return e.Type == k }
}

// offsets are those of a room's messages, in the order they came.
func (p *person) offsets(room string) []uint64 {
	p.tr.mu.Lock()
	defer p.tr.mu.Unlock()
	var got []uint64
	for _, e := range p.tr.events {
		if e.Type == protocol.TypeMessage && e.Room == room && !e.Followed {
			got = append(got, e.Offset)
		}
	}
	return got
}

// expectOffsets waits until all messages from..to are there and checks that
// each came once and in order.
func (p *person) expectOffsets(t *testing.T, room string, from, to uint64) {
	t.Helper()
	want := make([]uint64, 0, to-from+1)
	for o := from; o <= to; o++ {
		want = append(want, o)
	}
	p.tr.wait(t, fmt.Sprintf("messages %d to %d", from, to), func([]protocol.Event) bool {
		return len(p.offsetsLocked(room)) >= len(want)
	})
	if got := p.offsets(room); !slices.Equal(got, want) {
		t.Errorf("the messages came as %v, want %d to %d, each once", got, from, to)
	}
}

func (p *person) offsetsLocked(room string) []uint64 {
	var got []uint64
	for _, e := range p.tr.events {
		if e.Type == protocol.TypeMessage && e.Room == room && !e.Followed {
			got = append(got, e.Offset)
		}
	}
	return got
}

// recorder is a transport that decodes what it is sent.
type recorder struct {
	mu      sync.Mutex
	events  []protocol.Event
	writes  int
	code    int
	blocked chan struct{} // while not nil, writes wait for it to be closed
	changed chan struct{}
}

func (*recorder) Protocol() string       { return "websocket" }
func (*recorder) Encoding() hub.Encoding { return hub.JSON }

func (r *recorder) WriteBuffers(b *net.Buffers) error {
	r.mu.Lock()
	blocked := r.blocked
	r.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	var all bytes.Buffer
	if _, err := b.WriteTo(&all); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.code != 0 {
		return net.ErrClosed
	}
	r.writes++
	for all.Len() > 0 {
		var e protocol.Event
		if err := json.Unmarshal(nextFrame(&all), &e); err != nil {
			return err
		}
		r.events = append(r.events, e)
	}
	r.notify()
	return nil
}

// TryWrite leaves everything: writes of a recorder may block.
func (*recorder) TryWrite(*net.Buffers) error { return nil }

func (r *recorder) writeCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.writes
}

// dribble takes without waiting a few bytes more each time, and now and then nothing.
type dribble struct {
	recorder
	head  []byte // of what was taken and is no whole frame yet
	takes int    // guarded by the client: it writes from one goroutine at a time
}

func (d *dribble) TryWrite(b *net.Buffers) error {
	d.takes = (d.takes + 1) % 17
	taken := make([]byte, 5*d.takes)
	n, _ := b.Read(taken)
	d.head = append(d.head, taken[:n]...)
	return d.decode()
}

func (d *dribble) WriteBuffers(b *net.Buffers) error {
	var all bytes.Buffer
	if _, err := b.WriteTo(&all); err != nil {
		return err
	}
	d.head = append(d.head, all.Bytes()...)
	return d.decode()
}

// decode passes the whole frames on.
func (d *dribble) decode() error {
	for whole(d.head) {
		rest := bytes.NewBuffer(d.head)
		nextFrame(rest)
		frame := net.Buffers{d.head[:len(d.head)-rest.Len()]}
		d.head = rest.Bytes()
		if err := d.recorder.WriteBuffers(&frame); err != nil {
			return err
		}
	}
	return nil
}

func whole(b []byte) bool {
	switch {
	case len(b) < 2 || b[1] == 126 && len(b) < 4:
		return false
	case b[1] == 126:
		return len(b) >= 4+int(binary.BigEndian.Uint16(b[2:]))
	}
	return len(b) >= 2+int(b[1])
}

// nextFrame takes the payload of one server-side text frame.
func nextFrame(b *bytes.Buffer) []byte {
	head := b.Next(2)
	size := uint64(head[1])
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(b.Next(2)))
	case 127:
		size = binary.BigEndian.Uint64(b.Next(8))
	}
	if head[0] != 0x81 {
		panic("not a final text frame")
	}
	return b.Next(int(size))
}

func (r *recorder) Close(code int, _ string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.code == 0 {
		r.code = code
	}
	r.notify()
}

func (r *recorder) notify() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) block() (unblock func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan struct{})
	r.blocked = ch
	return func() {
		r.mu.Lock()
		r.blocked = nil
		r.mu.Unlock()
		close(ch)
	}
}

func (r *recorder) wait(t *testing.T, what string, done func([]protocol.Event) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		ok, events := done(r.events), slices.Clone(r.events)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.changed:
		case <-deadline:
			t.Fatalf("waited in vain for %s; got %d events, the last: %+v", what, len(events), events[max(0, len(events)-5):])
		}
	}
}

func (r *recorder) expectClosed(t *testing.T, code int) {
	t.Helper()
	r.wait(t, fmt.Sprintf("close code %d", code), func([]protocol.Event) bool { return r.code != 0 })
	if r.code != code {
		t.Errorf("closed with %d, want %d", r.code, code)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestEveryMessageReachesEveryMemberOnceAndInOrder(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		servers := []*server{start(t, r, "one"), start(t, r, "two")}
		var people []*person
		for i := range 6 {
			people = append(people, servers[i%2].enters(t, fmt.Sprintf("user%d", i), "Lobby"))
		}
		const each = 50
		var wg sync.WaitGroup
		for i, p := range people {
			wg.Go(func() {
				for n := range each {
					p.says(t, "Lobby", fmt.Sprintf("%d from %d", n, i), fmt.Sprintf("%d-%d", i, n))
				}
			})
		}
		wg.Wait()
		for _, p := range people {
			p.expectOffsets(t, "Lobby", 1, uint64(each*len(people)))
		}
		acks := map[uint64]bool{}
		for _, p := range people {
			p.tr.wait(t, "all acknowledgements", func(events []protocol.Event) bool {
				n := 0
				for _, e := range events {
					if e.Type == protocol.TypeAck {
						acks[e.Offset] = true
						n++
					}
				}
				return n == each
			})
		}
		if len(acks) != each*len(people) {
			t.Errorf("%d different offsets were acknowledged, want %d", len(acks), each*len(people))
		}
	})
}

func TestARepeatedSendAppearsOnce(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one, two := start(t, r, "one"), start(t, r, "two")
	alice := one.enters(t, "alice", "Lobby")
	bob := two.enters(t, "bob", "Lobby")
	again := two.attach(t, hub.Login{User: "alice", Session: "alice-session"}, hub.AttachOptions{Full: true})
	again.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "Lobby"})

	var wg sync.WaitGroup
	wg.Go(func() { alice.says(t, "Lobby", "once", "id-1") })
	wg.Go(func() { again.says(t, "Lobby", "once", "id-1") })
	wg.Wait()
	alice.says(t, "Lobby", "the end", "id-2")
	bob.expect(t, "the end", message("the end"))
	bob.expectOffsets(t, "Lobby", 1, 2)
	a, b := alice.expect(t, "an ack", kind(protocol.TypeAck)), again.expect(t, "an ack", kind(protocol.TypeAck))
	if a.Offset != 1 || b.Offset != 1 || a.Duplicate == b.Duplicate {
		t.Errorf("acknowledged as %+v and %+v; want the same offset, one of them a duplicate", a, b)
	}
}

func TestAClientResumesWhereItLeftOff(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		alice := one.enters(t, "alice", "Lobby")
		say := func(from, to int) {
			for n := from; n <= to; n++ {
				alice.says(t, "Lobby", fmt.Sprintf("message %d", n), fmt.Sprint(n))
			}
		}
		say(1, 10)
		seen := alice.expect(t, "message 5", message("message 5"))
		say(11, 700)

		for _, c := range []struct {
			name  string
			user  string
			after uint64
		}{
			{"from memory", "bob", 690},
			{"from the log", "carol", seen.Offset},
			{"nothing missed", "dave", 700},
			{"from the very start", "erin", 0},
		} {
			t.Run(c.name, func(t *testing.T) {
				for _, s := range []*server{one, two} {
					p := s.attach(t, s.account(t, c.user), hub.AttachOptions{Full: true})
					p.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "Lobby", Epoch: seen.Epoch, Offset: c.after})
					j := p.expect(t, "to have joined", kind(protocol.TypeJoined))
					if j.Recovered == nil || !*j.Recovered || j.Offset != c.after {
						t.Errorf("joined as %+v, want all recovered after %d", j, c.after)
					}
					p.expectOffsets(t, "Lobby", c.after+1, 700)
					p.Detach(protocol.CloseNormal)
				}
			})
		}
	})
}

func TestAResumeThatCannotBeCompleteSaysSo(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one", func(_ *hub.Config, o *store.Options) { o.HistoryCount = 10 })
	alice := one.enters(t, "alice", "Lobby")
	for n := range 400 {
		alice.says(t, "Lobby", "text", fmt.Sprint(n))
	}
	head := alice.expect(t, "the last ack", func(e protocol.Event) bool { return e.Type == protocol.TypeAck && e.Offset == 400 })
	for name, at := range map[string]protocol.Request{
		"trimmed away":  {Epoch: head.Epoch, Offset: 3},
		"another epoch": {Epoch: "another", Offset: 400},
		"the future":    {Epoch: head.Epoch, Offset: 401},
	} {
		t.Run(name, func(t *testing.T) {
			p := one.attach(t, one.account(t, "bob"), hub.AttachOptions{Full: true})
			at.Type, at.Room = protocol.TypeJoin, "Lobby"
			p.Handle(t.Context(), at)
			j := p.expect(t, "to have joined", kind(protocol.TypeJoined))
			if j.Recovered == nil || *j.Recovered || j.Offset != 400 {
				t.Errorf("joined as %+v, want not recovered and the position 400", j)
			}
			p.Detach(protocol.CloseNormal)
		})
	}
}

func TestABrokenPubSubConnectionLosesNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		alice, bob := one.enters(t, "alice", "Lobby"), two.enters(t, "bob", "Lobby")
		for n := range 300 {
			if n%100 == 50 {
				for _, node := range r.Nodes {
					if err := node.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			alice.says(t, "Lobby", "text", fmt.Sprint(n))
		}
		bob.expectOffsets(t, "Lobby", 1, 300)
		alice.expectOffsets(t, "Lobby", 1, 300)
	})
}

func TestASlowClientIsCutOffAloneAndLosesNothing(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one", func(c *hub.Config, _ *store.Options) { c.QueueBytes = 16 << 10 })
	alice, bob := one.enters(t, "alice", "Lobby"), one.enters(t, "bob", "Lobby")
	carol := one.enters(t, "carol", "Lobby")
	unblock := carol.tr.block()
	text := strings.Repeat("x", 200)
	for n := range 200 {
		alice.says(t, "Lobby", text, fmt.Sprint(n))
	}
	carol.tr.expectClosed(t, protocol.CloseSlow)
	unblock()
	bob.expectOffsets(t, "Lobby", 1, 200)
	carol.Detach(protocol.CloseNormal)

	seen := carol.offsets("Lobby")
	back := one.attach(t, one.account(t, "carol"), hub.AttachOptions{Full: true})
	epoch := bob.expect(t, "a message", message(text)).Epoch
	back.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "Lobby", Epoch: epoch, Offset: uint64(len(seen))})
	back.expectOffsets(t, "Lobby", uint64(len(seen))+1, 200)
}

func TestASecondLoginIsRefusedButNotForEver(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		alice := one.attach(t, one.account(t, "alice"), hub.AttachOptions{})
		other := two.login(t, "alice", "another")
		if _, err := two.Attach(t.Context(), other, &recorder{}, hub.AttachOptions{}); !errors.Is(err, store.ErrOnline) {
			t.Fatalf("the second login got %v, want ErrOnline", err)
		}
		// The same session may have more connections: a browser's other tab.
		two.attach(t, hub.Login{User: "alice", Session: "alice-session"}, hub.AttachOptions{}).Detach(protocol.CloseNormal)
		alice.Detach(protocol.CloseNormal)
		two.attach(t, other, hub.AttachOptions{}).Detach(protocol.CloseNormal)

		one.attach(t, one.account(t, "alice"), hub.AttachOptions{})
		one.stop() // nothing is released
		eventually(t, "the crashed server's login to lapse", func() bool {
			c, err := two.Attach(t.Context(), other, &recorder{}, hub.AttachOptions{})
			if err == nil {
				c.Detach(protocol.CloseNormal)
			}
			return err == nil
		})
	})
}

func TestACrashLeavesNoGhosts(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one, two := start(t, r, "one"), start(t, r, "two")
	one.enters(t, "alice", "Lobby")
	bob := two.enters(t, "bob", "Lobby")
	one.stop()
	eventually(t, "alice to be gone", func() bool {
		users, _, err := two.store.Members(t.Context(), "Lobby", 10)
		return err == nil && slices.Equal(users, []string{"bob"})
	})
	bob.expect(t, "a user list without alice", func(e protocol.Event) bool {
		return e.Type == protocol.TypeUserList && slices.Equal(e.Users, []string{"bob"})
	})
}

func TestReplaceClosesTheOlderLogin(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	replace := func(c *hub.Config, _ *store.Options) { c.Policy = store.Replace }
	one, two := start(t, r, "one", replace), start(t, r, "two", replace)
	alice := one.attach(t, one.account(t, "alice"), hub.AttachOptions{})
	two.attach(t, two.login(t, "alice", "another"), hub.AttachOptions{})
	alice.tr.expectClosed(t, protocol.CloseReplaced)
}

func TestALogoutClosesTheSessionOnEveryServer(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		login := one.account(t, "alice")
		here, there := one.attach(t, login, hub.AttachOptions{}), two.attach(t, login, hub.AttachOptions{})
		if err := one.Logout(t.Context(), login.User, login.Session); err != nil {
			t.Fatal(err)
		}
		here.tr.expectClosed(t, protocol.CloseUnauthorized)
		there.tr.expectClosed(t, protocol.CloseUnauthorized)
		if _, err := two.Attach(t.Context(), login, &recorder{}, hub.AttachOptions{}); !errors.Is(err, hub.ErrLoggedOut) {
			t.Errorf("the ended session got %v, want ErrLoggedOut", err)
		}
	})
}

func TestAFollowerGetsOneCopy(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		alice := one.enters(t, "alice", "Lobby")
		bob, carol := two.enters(t, "bob", "Research"), two.enters(t, "carol", "Lobby")
		for _, p := range []*person{bob, carol} {
			p.Handle(t.Context(), protocol.Request{Type: protocol.TypeSubscribe, To: "alice"})
			p.expect(t, "to follow", kind(protocol.TypeSubscribed))
		}
		alice.says(t, "Lobby", "Public Update.", "1")
		if e := bob.expect(t, "the update", message("Public Update.")); !e.Followed || e.Room != "Lobby" {
			t.Errorf("the follower in another room got %+v, want a marked copy", e)
		}
		if e := carol.expect(t, "the update", message("Public Update.")); e.Followed {
			t.Errorf("the follower in the room got a marked copy")
		}
		bob.Handle(t.Context(), protocol.Request{Type: protocol.TypeUnsubscribe, To: "alice"})
		alice.says(t, "Lobby", "unheard", "2")
		carol.expect(t, "the second message", message("unheard"))
		alice.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "Research"})
		alice.says(t, "Research", "the end", "3")
		bob.expect(t, "the end", message("the end"))
		if bob.count(message("unheard")) > 0 {
			t.Error("a message came after /unsubscribe")
		}
		carol.expect(t, "a copy of the end", message("the end"))
		if n := carol.count(message("Public Update.")); n != 1 {
			t.Errorf("the follower in the room got the message %d times", n)
		}
	})
}

func TestTheFirstDirectMessageArrives(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		alice := one.attach(t, one.account(t, "alice"), hub.AttachOptions{})
		bob := two.attach(t, two.account(t, "bob"), hub.AttachOptions{})
		eve := two.attach(t, two.account(t, "eve"), hub.AttachOptions{Full: true})
		for n := range 3 {
			alice.Handle(t.Context(), protocol.Request{Type: protocol.TypeDirect, To: "bob", Message: fmt.Sprintf("psst %d", n), ID: fmt.Sprint(n)})
		}
		bob.expectOffsets(t, "@alice:bob", 1, 3)
		bob.Handle(t.Context(), protocol.Request{Type: protocol.TypeDirect, To: "alice", Message: "what?", ID: "w"})
		alice.expectOffsets(t, "@alice:bob", 1, 4)

		eve.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "@alice:bob", ID: "in"})
		if e := eve.expect(t, "a refusal", kind(protocol.TypeError)); e.Code != protocol.CodeForbidden {
			t.Errorf("a stranger got %+v, want forbidden", e)
		}
		alice.Handle(t.Context(), protocol.Request{Type: protocol.TypeDirect, To: "nobody", Message: "hi", ID: "n"})
		if e := alice.expect(t, "a refusal", kind(protocol.TypeError)); e.Code != protocol.CodeNoUser {
			t.Errorf("a message to nobody got %+v", e)
		}
	})
}

func TestDrainSendsEverybodyAwayAndLosesNothing(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one, two := start(t, r, "one"), start(t, r, "two")
	watcher := two.enters(t, "watcher", "Lobby")
	var people []*person
	for i := range 10 {
		people = append(people, one.enters(t, fmt.Sprintf("user%d", i), "Lobby"))
	}
	var wg sync.WaitGroup
	for i, p := range people {
		wg.Go(func() { // the reader of a connection: it ends when the connection is closed
			for n := 0; p.tr.open(); n++ {
				p.says(t, "Lobby", "text", fmt.Sprintf("%d-%d", i, n))
			}
			p.Detach(protocol.CloseNormal)
		})
	}
	one.Drain(t.Context())
	wg.Wait()
	if _, err := one.Attach(t.Context(), one.account(t, "late"), &recorder{}, hub.AttachOptions{}); !errors.Is(err, hub.ErrDraining) {
		t.Errorf("a client of a draining server got %v", err)
	}
	var acked []uint64
	for _, p := range people {
		p.tr.expectClosed(t, protocol.CloseServiceRestart)
		p.expect(t, "to be told to reconnect", kind(protocol.TypeReconnect))
		p.tr.mu.Lock()
		for _, e := range p.tr.events {
			if e.Type == protocol.TypeAck {
				acked = append(acked, e.Offset)
			}
		}
		p.tr.mu.Unlock()
	}
	slices.Sort(acked)
	if len(acked) == 0 || len(slices.Compact(slices.Clone(acked))) != len(acked) {
		t.Fatalf("%d acknowledgements, not all different", len(acked))
	}
	watcher.tr.wait(t, "all acknowledged messages", func([]protocol.Event) bool {
		return len(watcher.offsetsLocked("Lobby")) >= int(acked[len(acked)-1])
	})
}

func (r *recorder) open() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.code == 0
}

func TestOverTheMessageRateIsClosedWithAReason(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one", func(c *hub.Config, _ *store.Options) { c.MessagesPer10s = 20 })
	alice, bob := one.enters(t, "alice", "Lobby"), one.enters(t, "bob", "Lobby")
	for n := range 30 {
		alice.says(t, "Lobby", "text", fmt.Sprint(n))
	}
	alice.tr.expectClosed(t, protocol.CloseRateLimit)
	bob.says(t, "Lobby", "still here", "1")
	bob.expect(t, "own message", message("still here"))
}

func TestRequestsThatCannotBeDoneGetAnErrorAndNothingElse(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one")
	alice := one.enters(t, "alice", "Lobby")
	for code, req := range map[string]protocol.Request{
		protocol.CodeUnknownInput: {Type: "dance"},
		protocol.CodeTooLong:      {Type: protocol.TypeMessage, Message: strings.Repeat("x", 5000)},
		protocol.CodeBadRequest:   {Type: protocol.TypeJoin, Room: "two words"},
		protocol.CodeNoRoom:       {Type: protocol.TypeMessage, Room: "Elsewhere", Message: "hi"},
		protocol.CodeNoUser:       {Type: protocol.TypeSubscribe, To: "nobody"},
	} {
		req.ID = "id-" + code
		alice.Handle(t.Context(), req)
		e := alice.expect(t, "an answer to "+req.Type, func(e protocol.Event) bool { return e.ID == req.ID })
		if e.Type != protocol.TypeError || e.Code != code || e.Message == "" {
			t.Errorf("%+v got %+v, want an error %s", req, e, code)
		}
	}
	alice.says(t, "Lobby", "still works", "1")
	alice.expect(t, "own message", message("still works"))
}

// BenchmarkFanOut is one message to every member of one room: what a server
// does a delivery, without sockets and Redis.
func BenchmarkFanOut(b *testing.B) {
	for _, members := range []int{100, 2000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			deliver := hub.FanOutForBenchmark(b, members, discard{})
			b.ReportAllocs()
			for b.Loop() {
				deliver()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(members), "ns/delivery")
		})
	}
}

type discard struct{}

func (discard) Protocol() string                  { return "websocket" }
func (discard) Encoding() hub.Encoding            { return hub.JSON }
func (discard) WriteBuffers(b *net.Buffers) error { _, err := b.WriteTo(io.Discard); return err }
func (d discard) TryWrite(b *net.Buffers) error   { return d.WriteBuffers(b) }
func (discard) Close(int, string)                 {}
