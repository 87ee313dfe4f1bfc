package store

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestRetentionOfARoomIsItsOwn(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room, owner := b.open(t), unique("room"), unique("owner")
		must(t, s.CreateRoom(t.Context(), Room{
			Name: room, Kind: "public", Owner: owner, Created: time.Now(), Keep: Retention{Age: time.Hour},
		}))
		for range 40 {
			got[Published](t)(s.Publish(t.Context(), say(room, owner, "", "hello")))
		}
		if l := got[Log](t)(s.Read(t.Context(), room, 0, 0)); l.First != 1 {
			t.Errorf("the log begins at %d within the hour", l.First)
		}
		must(t, s.SetRetention(t.Context(), room, Retention{Age: time.Millisecond}))
		time.Sleep(5 * time.Millisecond) // what was said is older than that now
		for range 16 {
			got[Published](t)(s.Publish(t.Context(), say(room, owner, "", "hello")))
		}
		if l := got[Log](t)(s.Read(t.Context(), room, 0, 0)); l.Last != 56 || l.First < 33 {
			t.Errorf("the log spans %d to %d; what is too old should have gone", l.First, l.Last)
		}
	})
}

func TestRulesOfARoomAreHeldWhereItIsWrittenTo(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room, owner, other := b.open(t), unique("room"), unique("owner"), unique("other")
		write := func(user string, encrypted bool) error {
			m := say(room, user, "", "hello")
			m.Encrypted = encrypted
			_, err := s.Publish(t.Context(), m)
			return err
		}
		expect := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		r := Room{Name: room, Kind: "private", Owner: owner, Created: time.Now(), Encrypted: true}
		must(t, s.CreateRoom(t.Context(), r))
		must(t, s.CreateRoom(t.Context(), r)) // the same call again
		r.Created = r.Created.Add(time.Second)
		expect("a second room", s.CreateRoom(t.Context(), r), ErrRoomExists)

		expect("text", write(owner, false), ErrPlaintext)
		expect("ciphertext", write(owner, true), nil)
		expect("a stranger", write(other, true), ErrNotMember)
		_, err := s.Join(t.Context(), room, other)
		expect("joining uninvited", err, ErrPrivate)
		must(t, s.Invite(t.Context(), room, other))
		got[string](t)(s.Join(t.Context(), room, other))
		expect("a member", write(other, true), nil)
		must(t, s.Mute(t.Context(), room, other, time.Now().Add(time.Hour)))
		expect("muted", write(other, true), ErrMuted)
		must(t, s.Mute(t.Context(), room, other, time.Now().Add(-time.Second)))
		expect("muted until a moment ago", write(other, true), nil)
		must(t, s.Ban(t.Context(), room, other, time.Time{}))
		expect("banned", write(other, true), ErrBanned)
		_, err = s.Join(t.Context(), room, other)
		expect("joining though banned", err, ErrBanned)
		must(t, s.Unban(t.Context(), room, other))
		_, err = s.Join(t.Context(), room, other)
		expect("an invitation is used up", err, ErrPrivate)
		must(t, s.SetClosed(t.Context(), room, true))
		expect("closed", write(owner, true), ErrRoomClosed)
		must(t, s.SetClosed(t.Context(), room, false))
		expect("opened again", write(owner, true), nil)
	})
}

func TestWhatIsKeptAboutMessagesIsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		const keep = 20
		s, room := b.open(t, func(o *Options) { o.HistoryCount = keep }), unique("room")
		messages := 400
		if b.embedded {
			messages = 60
		}
		for n := range messages {
			p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", fmt.Sprint(n))))
			got[Published](t)(s.Amend(t.Context(), Amendment{Message: say(room, "alice", "", "edit"), Op: Edit, Ref: p.Offset, Content: "x"}))
		}
		entries := got[int64](t)(s.client.XLen(t.Context(), logKey(room)).Result())
		if n := got[int64](t)(s.client.HLen(t.Context(), stateKey(room)).Result()); n > entries+100 {
			t.Errorf("something is kept about %d messages, of %d entries", n, entries)
		}
	})
}

func TestARetriedAmendmentCountsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "hello")))
		a := Amendment{Message: say(room, "bob", "once", "react"), Op: React, Ref: p.Offset, Content: "👍"}
		first := got[Published](t)(s.Amend(t.Context(), a))
		again := got[Published](t)(s.Amend(t.Context(), a))
		if again.Position != first.Position || !again.Duplicate {
			t.Errorf("the second try is at %+v, the first at %+v", again, first)
		}
		a.ID = "twice"
		if _, err := s.Amend(t.Context(), a); !errors.Is(err, ErrSame) {
			t.Errorf("reacting the same way again: %v, want %v", err, ErrSame)
		}
		l := got[Log](t)(s.Read(t.Context(), room, 0, 0))
		if len(l.Entries) != 2 || l.Entries[0].State == nil || len(l.Entries[0].State.Reactions) != 1 {
			t.Errorf("the log is %+v", l.Entries)
		}
	})
}
