package hub_test

import (
	"fmt"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// The tests of this file have Redis come back without its newest messages, or have it only
// look so.

func (p *person) saysAll(t *testing.T, room string, first, last int) (ack protocol.Event) {
	t.Helper()
	for i := first; i <= last; i++ {
		text := fmt.Sprint("message ", i)
		p.says(t, room, text, text)
		ack = p.expect(t, "an ack", func(e protocol.Event) bool { return e.Type == protocol.TypeAck && e.ID == text })
	}
	return ack
}

func joined(id string) func(protocol.Event) bool {
	return func(e protocol.Event) bool { return e.Type == protocol.TypeJoined && e.ID == id }
}

func TestMessagesAtOffsetsThatWereLostReachEverybody(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Fsync: "always"})
	one, two := start(t, r, "one"), start(t, r, "two")
	alice, bob := one.enters(t, "alice", "Lobby"), two.enters(t, "bob", "Lobby")
	kept := alice.saysAll(t, "Lobby", 1, 5)
	restart, err := r.Nodes[0].Remember()
	if err != nil {
		t.Fatal(err)
	}
	lost := alice.saysAll(t, "Lobby", 6, 10)
	bob.expect(t, "what will be lost", message("message 10"))
	if err := restart(); err != nil {
		t.Fatal(err)
	}

	// More than was lost, and at once, so that no server has a moment to see the log end
	// before the point it was at.
	carol := one.enters(t, "carol", "Research")
	carol.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "Lobby"})
	for i := range 8 {
		carol.says(t, "Lobby", fmt.Sprint("anew ", i), fmt.Sprint("anew ", i))
	}
	for _, p := range []*person{alice, bob} {
		reset := p.expect(t, "a reset", kind(protocol.TypeReset))
		if reset.Offset != 5 || reset.Epoch == lost.Epoch {
			t.Errorf("the reset is %+v, want one to the last message kept", reset)
		}
		for i := range 8 {
			text := fmt.Sprint("anew ", i)
			e := p.expect(t, text, message(text))
			if e.Offset != uint64(6+i) || e.Epoch != reset.Epoch {
				t.Errorf("%s is at %d of %s, want it at %d of %s", text, e.Offset, e.Epoch, 6+i, reset.Epoch)
			}
			if n := p.count(message(text)); n != 1 {
				t.Errorf("%s came %d times", text, n)
			}
		}
	}

	dave := two.attach(t, two.account(t, "dave"), hub.AttachOptions{Full: true})
	for _, c := range []struct {
		id        string
		at        protocol.Event
		recovered bool
	}{{"kept", kept, true}, {"lost", lost, false}} {
		dave.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, ID: c.id, Room: "Lobby", Epoch: c.at.Epoch, Offset: c.at.Offset})
		j := dave.expect(t, "an answer", joined(c.id))
		if j.Recovered == nil || *j.Recovered != c.recovered {
			t.Errorf("coming back with what was %s was answered %+v", c.id, j)
		}
		if c.recovered {
			dave.expect(t, "what followed", message("anew 7"))
			dave.Handle(t.Context(), protocol.Request{Type: protocol.TypeLeave, ID: "leave", Room: "Lobby"})
		}
	}
}

func TestARestartThatLosesNothingIsNotNoticed(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Fsync: "always"})
	one, two := start(t, r, "one"), start(t, r, "two")
	alice, bob := one.enters(t, "alice", "Lobby"), two.enters(t, "bob", "Lobby")
	at := alice.saysAll(t, "Lobby", 1, 5)
	r.Nodes[0].Terminate()
	if err := r.Nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	after := alice.saysAll(t, "Lobby", 6, 10)
	bob.expect(t, "the last message", message("message 10"))
	bob.expectOffsets(t, "Lobby", 1, 10)
	if at.Epoch == after.Epoch {
		t.Error("the epoch is the same after a restart: this proves nothing")
	}
	for _, p := range []*person{alice, bob} {
		if n := p.count(kind(protocol.TypeReset)); n > 0 {
			t.Errorf("%d resets, though nothing was lost", n)
		}
	}
	// The history has each message where it was, in the epoch it was in.
	bob.Handle(t.Context(), protocol.Request{Type: protocol.TypeHistory, ID: "h", Room: "Lobby"})
	for _, m := range bob.expect(t, "the history", kind(protocol.TypeHistory)).Messages {
		want := at.Epoch
		if m.Offset > 5 {
			want = after.Epoch
		}
		if m.Epoch != want {
			t.Errorf("message %d is said to be of %s, not %s", m.Offset, m.Epoch, want)
		}
	}

	carol := two.attach(t, two.account(t, "carol"), hub.AttachOptions{Full: true})
	carol.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, ID: "resume", Room: "Lobby", Epoch: at.Epoch, Offset: 3})
	if j := carol.expect(t, "an answer", joined("resume")); j.Recovered == nil || !*j.Recovered {
		t.Errorf("coming back from before the restart was answered %+v", j)
	}
	carol.expect(t, "the last message", message("message 10"))
	carol.expectOffsets(t, "Lobby", 4, 10)
}
