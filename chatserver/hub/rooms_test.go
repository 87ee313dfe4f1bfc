package hub_test

import (
	"crypto/rand"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

func event(kind string) func(protocol.Event) bool {
	return func(e protocol.Event) bool { return e.Type == kind }
}

// does makes a request and returns its answer.
func (p *person) does(t *testing.T, req protocol.Request) protocol.Event {
	t.Helper()
	req.ID = rand.Text()
	p.Handle(t.Context(), req)
	return p.expect(t, "an answer to "+req.Type, func(e protocol.Event) bool { return e.ID == req.ID })
}

func refusal(t *testing.T, e protocol.Event, code string) {
	t.Helper()
	if e.Type != protocol.TypeError || e.Code != code {
		t.Errorf("the answer is %+v, want a refusal with the code %s", e, code)
	}
}

func TestAPrivateRoomIsForThoseInvited(t *testing.T) {
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		alice, bob, room := "alice", "bob", "Den"
		a := one.enters(t, alice, "Hall")
		b := two.enters(t, bob, "Hall")
		a.does(t, protocol.Request{Type: protocol.TypeCreate, Room: room, Kind: protocol.KindPrivate})
		refusal(t, b.does(t, protocol.Request{Type: protocol.TypeJoin, Room: room}), protocol.CodeForbidden)
		refusal(t, b.does(t, protocol.Request{Type: protocol.TypeHistory, Room: room}), protocol.CodeNoRoom)

		a.does(t, protocol.Request{Type: protocol.TypeInvite, Room: room, To: bob})
		b.expect(t, "the invitation", event(protocol.TypeInvited))
		for _, p := range []*person{a, b} {
			if e := p.does(t, protocol.Request{Type: protocol.TypeJoin, Room: room}); e.Type != protocol.TypeJoined {
				t.Fatalf("the answer is %+v", e)
			}
		}
		a.says(t, room, "only for us", "")
		b.expect(t, "the message", message("only for us"))

		a.does(t, protocol.Request{Type: protocol.TypeKick, Room: room, To: bob})
		b.expect(t, "to be out", event(protocol.TypeLeft))
		refusal(t, b.does(t, protocol.Request{Type: protocol.TypeMessage, Room: room, Message: "still here?"}), protocol.CodeNoRoom)
		refusal(t, b.does(t, protocol.Request{Type: protocol.TypeJoin, Room: room}), protocol.CodeForbidden)
	})
}

func TestAnEncryptedRoomTakesNoText(t *testing.T) {
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		s := start(t, r, "one")
		a, room := s.enters(t, "alice", "Hall"), "Vault"
		a.does(t, protocol.Request{Type: protocol.TypeCreate, Room: room, Encrypted: true})
		a.does(t, protocol.Request{Type: protocol.TypeJoin, Room: room})
		refusal(t, a.does(t, protocol.Request{Type: protocol.TypeMessage, Room: room, Message: "in clear"}), protocol.CodePlaintext)
		sent := a.does(t, protocol.Request{Type: protocol.TypeMessage, Room: room, Ciphertext: "c2VjcmV0", IV: "aXY="})
		a.expect(t, "the ciphertext", func(e protocol.Event) bool { return e.Ciphertext == "c2VjcmV0" && e.IV == "aXY=" })
		refusal(t, a.does(t, protocol.Request{Type: protocol.TypeEdit, Room: room, Ref: sent.Offset, Message: "in clear"}), protocol.CodePlaintext)
	})
}

func TestWhatBecameOfAMessageIsSeenLiveAndLater(t *testing.T) {
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		room := "Lobby"
		a, b := one.enters(t, "alice", room), two.enters(t, "bob", room)
		first := a.does(t, protocol.Request{Type: protocol.TypeMessage, Room: room, Message: "furst"})
		second := a.does(t, protocol.Request{Type: protocol.TypeMessage, Room: room, Message: "a mistake"})

		refusal(t, b.does(t, protocol.Request{Type: protocol.TypeEdit, Room: room, Ref: first.Offset, Message: "mine"}), protocol.CodeForbidden)
		refusal(t, b.does(t, protocol.Request{Type: protocol.TypeDelete, Room: room, Ref: first.Offset}), protocol.CodeForbidden)
		a.does(t, protocol.Request{Type: protocol.TypeEdit, Room: room, Ref: first.Offset, Message: "first"})
		b.expect(t, "the edit", func(e protocol.Event) bool {
			return e.Type == protocol.TypeEdited && e.Ref == first.Offset && e.Message == "first"
		})
		b.does(t, protocol.Request{Type: protocol.TypeReact, Room: room, Ref: first.Offset, Emoji: "👍"})
		a.expect(t, "the reaction", func(e protocol.Event) bool { return e.Type == protocol.TypeReaction && *e.On && e.Emoji == "👍" })
		a.does(t, protocol.Request{Type: protocol.TypeDelete, Room: room, Ref: second.Offset})
		b.expect(t, "the deletion", func(e protocol.Event) bool { return e.Type == protocol.TypeDeleted && e.Ref == second.Offset })
		refusal(t, a.does(t, protocol.Request{Type: protocol.TypeEdit, Room: room, Ref: second.Offset, Message: "x"}), protocol.CodeNoMessage)

		h := b.does(t, protocol.Request{Type: protocol.TypeHistory, Room: room})
		if len(h.Messages) != 2 {
			t.Fatalf("the history is %+v", h.Messages)
		}
		if m := h.Messages[0]; m.Message != "first" || m.Edited == "" || len(m.Reactions) != 1 || len(m.Reactions[0].Users) != 1 {
			t.Errorf("the edited message is %+v", m)
		}
		if m := h.Messages[1]; !m.Deleted || m.Message != "" || m.Offset != second.Offset {
			t.Errorf("the deleted message is %+v", m)
		}

		// Whoever resumes from before gets a place for each offset, and no deleted text:
		// on a server that saw it happen, and on one that reads the log.
		three := start(t, r, "three")
		for _, s := range []*server{one, three} {
			c := s.attach(t, s.account(t, "carol"), hub.AttachOptions{Full: true})
			c.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: room, ID: "join", Epoch: first.Epoch, Offset: first.Offset - 1})
			c.expect(t, "the last entry", event(protocol.TypeDeleted))
			want := first.Offset
			c.tr.mu.Lock()
			for _, e := range c.tr.events {
				if e.Message == "a mistake" {
					t.Errorf("the deleted text came back: %+v", e)
				}
				if e.Room == room && e.Epoch == first.Epoch && e.Type != protocol.TypeJoined {
					if e.Offset != want {
						t.Errorf("offset %d came where %d was due: %+v", e.Offset, want, e)
					}
					want = e.Offset + 1
				}
			}
			c.tr.mu.Unlock()
		}
	})
}

func TestUnreadCountsMessagesUntilTheyAreRead(t *testing.T) {
	redistest.Each(t, func(t *testing.T, r *redistest.Redis) {
		one, two := start(t, r, "one"), start(t, r, "two")
		room := "Lobby"
		a, b := one.enters(t, "alice", room), two.enters(t, "bob", room)
		var last protocol.Event
		for range 3 {
			last = a.does(t, protocol.Request{Type: protocol.TypeMessage, Room: room, Message: "news"})
		}
		a.does(t, protocol.Request{Type: protocol.TypeReact, Room: room, Ref: last.Offset, Emoji: "🎉"})
		if mine := b.does(t, protocol.Request{Type: protocol.TypeMyRooms}).MyRooms; len(mine) != 1 || mine[0].Unread != 3 {
			t.Errorf("bob's rooms are %+v, want 3 unread", mine)
		}
		b.does(t, protocol.Request{Type: protocol.TypeRead, Room: room, Offset: last.Offset - 1})
		a.expect(t, "the receipt", func(e protocol.Event) bool { return e.Type == protocol.TypeRead && e.Ref == last.Offset-1 })
		if mine := b.does(t, protocol.Request{Type: protocol.TypeMyRooms}).MyRooms; len(mine) != 1 || mine[0].Unread != 1 || mine[0].Read != last.Offset-1 {
			t.Errorf("bob's rooms are %+v, want 1 unread", mine)
		}
	})
}
