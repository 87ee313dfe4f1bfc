package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// The tests of this file have Redis come back without its newest messages.

func sayMany(t *testing.T, s *Store, room string, first, last int) (p Published) {
	t.Helper()
	for i := first; i <= last; i++ {
		p = got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", fmt.Sprint(i))))
	}
	return p
}

func TestARestartThatLosesNothingContinuesTheEpoch(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Fsync: "always"})
	s := (&backend{urls: r.URLs}).open(t)
	before := sayMany(t, s, "room", 1, 5)
	r.Nodes[0].Terminate()
	must(t, r.Nodes[0].Restart())
	l := got[Log](t)(s.Read(t.Context(), "room", 5, 0))
	if l.Last != 5 || !l.Continues(before.Position) {
		t.Errorf("after the restart %+v does not continue %+v", l, before)
	}
	after := sayMany(t, s, "room", 6, 6)
	if after.Offset != 6 || after.Epoch != l.Epoch {
		t.Errorf("the next message is at %+v, the log was at %+v", after, l)
	}
}

func TestAnOffsetThatIsTakenAgainIsOfAnotherEpoch(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Fsync: "always"})
	s := (&backend{urls: r.URLs}).open(t)
	kept := sayMany(t, s, "room", 1, 5)
	restart, err := r.Nodes[0].Remember()
	must(t, err)
	lost := sayMany(t, s, "room", 6, 10)
	if lost.Epoch != kept.Epoch {
		t.Fatalf("without a restart the epoch changed from %+v to %+v", kept, lost)
	}
	must(t, restart())
	messages := listen(t, s, RoomChannel("room"))

	again := sayMany(t, s, "room", 6, 6)
	if again.Offset != 6 || again.Epoch == lost.Epoch {
		t.Errorf("published at %+v, where there was another message at %+v", again, lost)
	}
	// Everybody is told at once, not only when the next message comes.
	if offset, epoch, body := live(t, messages); offset != 5 || epoch != again.Epoch || body != "" {
		t.Errorf("heard %d %s %q, want the news of the epoch", offset, epoch, body)
	}
	l := got[Log](t)(s.Read(t.Context(), "room", 0, 0))
	assertAscending(t, l.Entries, 1, 6)
	for _, c := range []struct {
		at   Position
		want bool
	}{
		{Position{kept.Epoch, 1}, true}, {kept.Position, true}, {Position{kept.Epoch, 6}, false},
		{lost.Position, false}, {again.Position, true}, {Position{"unknown", 1}, false},
	} {
		if l.Continues(c.at) != c.want {
			t.Errorf("continues %+v: %v, want %v", c.at, !c.want, c.want)
		}
	}
	if fork, ok := l.Fork(Lineage{Epoch: lost.Epoch}, lost.Offset); !ok || fork != 5 {
		t.Errorf("the histories part after %d, %v; want 5", fork, ok)
	}
}

func TestReadingIsEnoughToBeginAnEpoch(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Fsync: "always"})
	s := (&backend{urls: r.URLs}).open(t)
	sayMany(t, s, "room", 1, 5)
	restart, err := r.Nodes[0].Remember()
	must(t, err)
	lost := sayMany(t, s, "room", 6, 10)
	must(t, restart())
	for _, l := range []Log{
		got[Log](t)(s.Head(t.Context(), "room")), got[Log](t)(s.Read(t.Context(), "room", 10, 0)), got[Log](t)(s.ReadBefore(t.Context(), "room", 0, 1)),
	} {
		if l.Last != 5 || l.Continues(lost.Position) {
			t.Errorf("read %+v, which has not the lost %+v", l, lost)
		}
	}
}

func TestEpochsAreContinuedOverSeveralLosses(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Fsync: "always"})
	s := (&backend{urls: r.URLs}).open(t)
	first := sayMany(t, s, "room", 1, 3)
	restart, err := r.Nodes[0].Remember()
	must(t, err)
	sayMany(t, s, "room", 4, 6) // lost with the second restart
	must(t, r.Nodes[0].Restart())
	second := sayMany(t, s, "room", 7, 9)
	must(t, restart())
	third := sayMany(t, s, "room", 4, 5)
	l := got[Log](t)(s.Read(t.Context(), "room", 0, 0))
	if l.Epoch != third.Epoch || !l.Continues(first.Position) || l.Continues(second.Position) || l.Continues(Position{first.Epoch, 4}) {
		t.Errorf("%+v: continues the first three messages, and nothing else of before", l.Lineage)
	}
	// Who was in the second epoch meets the third at the first.
	line := Lineage{Epoch: second.Epoch, before: []Position{{first.Epoch, 6}}}
	if fork, ok := l.Fork(line, second.Offset); !ok || fork != 3 {
		t.Errorf("the histories part after %d, %v; want 3", fork, ok)
	}

	for range 12 {
		must(t, r.Nodes[0].Restart())
		l = got[Log](t)(s.Head(t.Context(), "room"))
	}
	if l.Continues(first.Position) || len(l.before) != 8 {
		t.Errorf("after many restarts %d epochs are remembered: %+v", len(l.before), l)
	}
}

// A replica that took over, and the old master back in its place: the room never saw the
// replica as its master, and yet the old master lost what it had alone.
func TestASwitchoverAndBackIsNoticed(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Replicas: 1})
	s := (&backend{urls: r.URLs}).open(t)
	kept := sayMany(t, s, "room", 1, 5)
	a, b := r.Nodes[0], r.Nodes[1]
	replica := b.Client()
	defer func() { _ = replica.Close() }()
	await(t, "the replica to have what is to be kept", func(ctx context.Context) bool {
		return replica.HGet(ctx, metaKey("room"), "offset").Val() == "5"
	})
	must(t, b.Promote(t.Context()))
	lost := sayMany(t, s, "room", 6, 10) // on a, which b does not follow any more
	must(t, a.Follow(t.Context(), b))
	must(t, a.Promote(t.Context()))

	again := sayMany(t, s, "room", 6, 6)
	l := got[Log](t)(s.Read(t.Context(), "room", 0, 0))
	if again.Offset != 6 || again.Epoch == lost.Epoch || l.Continues(lost.Position) || !l.Continues(kept.Position) {
		t.Errorf("kept %+v, lost %+v, then published at %+v of %+v", kept, lost, again, l.Lineage)
	}
}

func TestAMovedSlotContinuesItsRooms(t *testing.T) {
	t.Parallel()
	r := redistest.Cluster(t)
	s := (&backend{urls: r.URLs}).open(t)
	before := sayMany(t, s, "room", 1, 5)
	must(t, r.MoveSlot(t.Context(), logKey("room")))
	after := sayMany(t, s, "room", 6, 6)
	if l := got[Log](t)(s.Read(t.Context(), "room", 0, 0)); after.Offset != 6 || !l.Continues(before.Position) {
		t.Errorf("before %+v, after %+v: %+v", before, after, l.Lineage)
	}
}

func FuzzParseLineage(f *testing.F) {
	f.Add("E1", "")
	f.Add("E2", "E1 17")
	f.Add("E3", "E2 17 E1 18446744073709551615")
	f.Fuzz(func(t *testing.T, epoch, before string) {
		l, ok := parseLineage(epoch, before)
		if !ok {
			return
		}
		if l.Epoch == "" || len(l.before) != len(strings.Fields(before))/2 {
			t.Fatalf("%q was read as %+v", before, l)
		}
		for _, p := range l.before {
			if shared, ok := l.Shared(p.Epoch); !ok || l.Continues(Position{p.Epoch, shared}) != true {
				t.Fatalf("%+v does not continue its own %+v", l, p)
			}
		}
	})
}
