package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

func TestNothingIsServedOnAConnectionThatIsBeingClosed(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one", func(c *hub.Config, _ *store.Options) { c.MessagesPer10s = 3 })
	alice, bob := one.enters(t, "alice", "Lobby"), one.enters(t, "bob", "Lobby")
	unblock := alice.tr.block() // the close waits for what is queued
	for n := range 6 {
		alice.says(t, "Lobby", fmt.Sprintf("alice %d", n), fmt.Sprint(n))
	}
	unblock()
	alice.tr.expectClosed(t, protocol.CloseRateLimit)
	bob.says(t, "Lobby", "the end", "end")
	bob.expect(t, "the end", message("the end"))
	bob.expectOffsets(t, "Lobby", 1, 4) // three of alice's, and the end
}

func TestAResumeWithNothingMissedSucceedsHoweverFullTheQueueIs(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one", func(c *hub.Config, _ *store.Options) { c.QueueBytes = 16 << 10 })
	alice := one.enters(t, "alice", "Lobby")
	alice.says(t, "Lobby", "first", "1")
	at := alice.expect(t, "an ack", kind(protocol.TypeAck))
	bob := one.enters(t, "bob", "Research")
	unblock := bob.tr.block()
	for n := range 40 { // more than half of bob's queue
		bob.says(t, "Research", strings.Repeat("x", 100), fmt.Sprint(n))
	}
	bob.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "Lobby", ID: "resume", Epoch: at.Epoch, Offset: at.Offset})
	unblock()
	j := bob.expect(t, "an answer", func(e protocol.Event) bool { return e.ID == "resume" })
	if j.Type != protocol.TypeJoined || j.Recovered == nil || !*j.Recovered {
		t.Errorf("got %+v, want everything recovered", j)
	}
}

func TestDirectMessagesToSomebodyOfflineAreThereLater(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one, two := start(t, r, "one"), start(t, r, "two")
	alice, login := one.attach(t, one.account(t, "alice"), hub.AttachOptions{Full: true}), two.account(t, "bob")
	alice.Handle(t.Context(), protocol.Request{Type: protocol.TypeDirect, To: "bob", Message: "for later", ID: "1"})
	alice.expect(t, "an ack", kind(protocol.TypeAck))

	bob := two.attach(t, login, hub.AttachOptions{Full: true})
	hello := bob.expect(t, "hello", kind(protocol.TypeHello))
	if !slices.Equal(hello.Directs, []string{"@alice:bob"}) {
		t.Fatalf("hello names the direct rooms %v, want the one with alice", hello.Directs)
	}
	bob.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "@alice:bob"})
	bob.Handle(t.Context(), protocol.Request{Type: protocol.TypeHistory, Room: "@alice:bob"})
	h := bob.expect(t, "history", kind(protocol.TypeHistory))
	if len(h.Messages) != 1 || h.Messages[0].Message != "for later" {
		t.Errorf("the history is %+v", h.Messages)
	}
	alice.Handle(t.Context(), protocol.Request{Type: protocol.TypeDirect, To: "bob", Message: "and now", ID: "2"})
	bob.expect(t, "the second message", message("and now"))
}

func TestAnExpiredTokenDoesNotEndAConnectionWhenPubSubBreaks(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one")
	alice := one.account(t, "alice")
	alice.Expires = time.Now().Add(time.Second)
	if _, err := one.store.AddLogin(t.Context(), "alice", "", store.Login{SID: alice.Session, Expires: alice.Expires}); err != nil {
		t.Fatal(err)
	}
	p := one.attach(t, alice, hub.AttachOptions{Full: true})
	gone := one.attach(t, one.account(t, "bob"), hub.AttachOptions{Full: true})
	eventually(t, "the login to expire", func() bool {
		valid, err := one.store.LoginValid(t.Context(), "alice", alice.Session)
		return err == nil && !valid
	})
	// bob is logged out by somebody whose signal is lost: that has to be noticed.
	if err := one.store.RemoveLogin(t.Context(), "bob", "bob-session"); err != nil {
		t.Fatal(err)
	}
	if err := r.Nodes[0].Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	gone.tr.expectClosed(t, protocol.CloseUnauthorized)
	p.Handle(t.Context(), protocol.Request{Type: protocol.TypePing, ID: "still there"})
	p.expect(t, "a pong", kind(protocol.TypePong))
	if !p.tr.open() {
		t.Error("the connection was closed because its token had expired")
	}
}

func TestAClientThatGivesUpWhileEnteringLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one, two := start(t, r, "one"), start(t, r, "two")
	login := one.account(t, "alice")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	c, err := one.Attach(cancelled, login, &recorder{}, hub.AttachOptions{})
	if err != nil {
		t.Fatalf("attaching ends with the caller's context: %v", err)
	}
	c.Detach(protocol.CloseNormal)
	two.attach(t, two.login(t, "alice", "another"), hub.AttachOptions{})
}

func TestARefusedLoginLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one, two := start(t, r, "one"), start(t, r, "two")
	alice := one.attach(t, one.account(t, "alice"), hub.AttachOptions{})
	refused := two.login(t, "alice", "another")
	if _, err := two.Attach(t.Context(), refused, &recorder{}, hub.AttachOptions{}); !errors.Is(err, store.ErrOnline) {
		t.Fatalf("got %v, want ErrOnline", err)
	}
	if err := two.store.RemoveLogin(t.Context(), "alice", "another"); err != nil {
		t.Fatal(err)
	}
	alice.Detach(protocol.CloseNormal)
	if _, err := two.Attach(t.Context(), refused, &recorder{}, hub.AttachOptions{}); !errors.Is(err, hub.ErrLoggedOut) {
		t.Fatalf("an ended session got %v, want ErrLoggedOut", err)
	}
	one.attach(t, one.login(t, "alice", "third"), hub.AttachOptions{})
}

func TestMembersGetAllOfANewEpoch(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one")
	alice, bob := one.enters(t, "alice", "Lobby"), one.enters(t, "bob", "Lobby")
	alice.says(t, "Lobby", "before", "1")
	bob.expect(t, "the first message", message("before"))
	keys := []string{"room:{Lobby}:log", "room:{Lobby}:meta", "room:{Lobby}:sent:alice"}
	if err := r.Nodes[0].Client().Del(t.Context(), keys...).Err(); err != nil {
		t.Fatal(err)
	}
	alice.says(t, "Lobby", "after", "2")
	bob.expect(t, "a reset", kind(protocol.TypeReset))
	bob.expect(t, "the message after the loss", message("after"))
}

func TestAHistoryOfLongMessagesIsCutToWhatAClientCanTake(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one", func(c *hub.Config, _ *store.Options) { c.QueueBytes = 64 << 10 })
	alice := one.enters(t, "alice", "Lobby")
	for n := range 30 {
		alice.says(t, "Lobby", strings.Repeat("\x01", 1000), fmt.Sprint(n)) // six bytes each in JSON
		alice.expect(t, "an ack", func(e protocol.Event) bool { return e.Type == protocol.TypeAck && e.ID == fmt.Sprint(n) })
		alice.expect(t, "the message", func(e protocol.Event) bool { return e.Type == protocol.TypeMessage && e.ID == fmt.Sprint(n) })
	}
	alice.Handle(t.Context(), protocol.Request{Type: protocol.TypeHistory, Room: "Lobby"})
	h := alice.expect(t, "history", kind(protocol.TypeHistory))
	if n := len(h.Messages); n == 0 || n == 30 || !h.More || h.Messages[n-1].Offset != 30 {
		t.Errorf("%d messages, more %v; want some of the newest, and that there are more", n, h.More)
	}
}

func TestDirectRoomsOfOthersAndOfNobodyAreClosed(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one")
	one.account(t, "bob")
	alice := one.attach(t, one.account(t, "alice"), hub.AttachOptions{Full: true})
	for _, name := range []string{"@bob:carol", "@bob:alice", "@alice:", "@alice:nobody", "@alice:" + strings.Repeat("x", 5000)} {
		id := name[:min(len(name), 20)]
		alice.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: name, ID: id})
		if e := alice.expect(t, "an answer", func(e protocol.Event) bool { return e.ID == id }); e.Type != protocol.TypeError {
			t.Errorf("joining %.40s got %+v, want an error", name, e)
		}
	}
}

func TestAServerThatStoodStillDoesNothingOutOfDate(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one, two := start(t, r, "one"), start(t, r, "two")
	alice, bob := one.enters(t, "alice", "Lobby"), two.enters(t, "bob", "Lobby")
	hub.StandStill(one.Hub, time.Minute)
	alice.says(t, "Lobby", "out of date", "1")
	alice.tr.expectClosed(t, protocol.CloseServiceRestart)
	eventually(t, "the server to notice", func() bool { return hub.StoodStill(one.Hub) })

	again := one.attach(t, one.login(t, "alice", "alice-session"), hub.AttachOptions{Full: true})
	again.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "Lobby"})
	again.says(t, "Lobby", "up to date", "2")
	bob.expect(t, "the message of the new connection", message("up to date"))
	bob.expectOffsets(t, "Lobby", 1, 1)
}
