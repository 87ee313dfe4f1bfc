package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/ledger"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// story is what happens to one room, "lobby": alice sends, bob reads. Steps
// with a number are about that offset of epoch e1, unless a slash names another.
type story []func(l *ledger.Ledger, bob *ledger.Member)

func acked(offsets ...uint64) func(*ledger.Ledger, *ledger.Member) {
	return ackedIn("e1", offsets...)
}

func ackedIn(epoch string, offsets ...uint64) func(*ledger.Ledger, *ledger.Member) {
	return func(l *ledger.Ledger, _ *ledger.Member) {
		for _, o := range offsets {
			l.Acked("lobby", epoch, o, "alice", fmt.Sprint(epoch, o))
		}
	}
}

func saw(offsets ...uint64) func(*ledger.Ledger, *ledger.Member) { return sawIn("e1", offsets...) }

func sawIn(epoch string, offsets ...uint64) func(*ledger.Ledger, *ledger.Member) {
	return func(_ *ledger.Ledger, bob *ledger.Member) {
		for _, o := range offsets {
			bob.Saw("lobby", epoch, o, "alice", fmt.Sprint(epoch, o))
		}
	}
}

func joined(epoch string, offset uint64) func(*ledger.Ledger, *ledger.Member) {
	return func(_ *ledger.Ledger, bob *ledger.Member) { bob.Joined("lobby", epoch, offset) }
}

func reset(epoch string, offset uint64) func(*ledger.Ledger, *ledger.Member) {
	return func(_ *ledger.Ledger, bob *ledger.Member) { bob.Reset("lobby", epoch, offset) }
}

func left(_ *ledger.Ledger, bob *ledger.Member) { bob.Left("lobby") }

func gone(_ *ledger.Ledger, bob *ledger.Member) { bob.Gone() }

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		story story
		want  ledger.Counts
	}{
		"all that was acknowledged was seen": {
			story{joined("e1", 0), acked(1, 2, 3), saw(1, 2, 3)},
			ledger.Counts{Acknowledged: 3, Due: 3, Seen: 3},
		},
		"a message may be seen before its sender is told": {
			story{joined("e1", 0), saw(1), acked(1)},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 1},
		},
		"what was said before the join is not due": {
			story{acked(1, 2), joined("e1", 2), acked(3), saw(3)},
			ledger.Counts{Acknowledged: 3, Due: 1, Seen: 1},
		},
		"what was said before the join comes after it": {
			story{acked(1, 2), joined("e1", 2), saw(2)},
			ledger.Counts{Acknowledged: 2, Seen: 1, Reordered: 1},
		},
		"what nobody acknowledged may be seen": {
			story{joined("e1", 0), saw(1, 2)},
			ledger.Counts{Seen: 2},
		},
		"the last message is lost": {
			story{joined("e1", 0), acked(1, 2), saw(1)},
			ledger.Counts{Acknowledged: 2, Due: 2, Seen: 1, Lost: 1},
		},
		"a message in the middle is lost, without a word": {
			story{joined("e1", 0), acked(1, 2, 3, 4), saw(1, 4)},
			ledger.Counts{Acknowledged: 4, Due: 4, Seen: 2, Lost: 2, Gaps: 1},
		},
		"the first message is lost, without a word": {
			story{joined("e1", 5), acked(6, 7), saw(7)},
			ledger.Counts{Acknowledged: 2, Due: 2, Seen: 1, Lost: 1, Gaps: 1},
		},
		"a gap in which nothing was acknowledged is a gap all the same": {
			story{joined("e1", 0), acked(1, 3), saw(1, 3)},
			ledger.Counts{Acknowledged: 2, Due: 2, Seen: 2, Gaps: 1},
		},
		"a message comes twice": {
			story{joined("e1", 0), acked(1, 2), saw(1, 2, 1, 2)},
			ledger.Counts{Acknowledged: 2, Due: 2, Seen: 4, Duplicated: 2},
		},
		"two messages change places": {
			story{joined("e1", 0), acked(1, 2, 3), saw(1, 3, 2)},
			ledger.Counts{Acknowledged: 3, Due: 3, Seen: 3, Reordered: 1},
		},
		"a late one fills its gap, and not the others": {
			story{joined("e1", 0), acked(1, 2, 3, 4, 5), saw(1, 5, 3)},
			ledger.Counts{Acknowledged: 5, Due: 5, Seen: 3, Lost: 2, Gaps: 2, Reordered: 1},
		},
		"what a server declares lost is no gap": {
			story{joined("e1", 0), acked(1, 2, 3, 4), saw(1), reset("e1", 3), saw(4)},
			ledger.Counts{Acknowledged: 4, Due: 4, Seen: 2, Declared: 2},
		},
		"a declaration covers what it names and no more": {
			story{joined("e1", 0), acked(1, 2, 3, 4, 5), saw(1), reset("e1", 3), saw(5)},
			ledger.Counts{Acknowledged: 5, Due: 5, Seen: 2, Declared: 2, Lost: 1, Gaps: 1},
		},
		"a declared new epoch ends the old one": {
			story{joined("e1", 0), acked(1, 2), saw(1), reset("e2", 1), ackedIn("e2", 1, 2), sawIn("e2", 2)},
			ledger.Counts{Acknowledged: 4, Due: 4, Seen: 2, Declared: 2},
		},
		"an epoch continues the one before it": {
			story{joined("e1", 0), acked(1, 2), saw(1, 2), ackedIn("e2", 3, 4), sawIn("e2", 3, 4)},
			ledger.Counts{Acknowledged: 4, Due: 4, Seen: 4},
		},
		"an epoch continues one of whose end nobody told": {
			story{joined("e1", 0), acked(1, 2, 3), saw(1), ackedIn("e2", 2, 3), sawIn("e2", 2, 3)},
			ledger.Counts{Acknowledged: 5, Due: 5, Seen: 3, Lost: 2},
		},
		"an epoch begins with a gap": {
			story{joined("e1", 0), acked(1), saw(1), ackedIn("e2", 2, 3), sawIn("e2", 3)},
			ledger.Counts{Acknowledged: 3, Due: 3, Seen: 2, Lost: 1, Gaps: 1},
		},
		"offsets go back without a word": {
			story{joined("e1", 0), acked(1, 2, 3), saw(1, 2, 3), ackedIn("e2", 2, 3, 4), sawIn("e2", 2, 3, 4)},
			ledger.Counts{Acknowledged: 6, Due: 6, Seen: 6, Gaps: 1},
		},
		"offsets go back, and the server says so": {
			story{joined("e1", 0), acked(1, 2, 3), saw(1, 2, 3), reset("e2", 1), ackedIn("e2", 2, 3), sawIn("e2", 2, 3)},
			ledger.Counts{Acknowledged: 5, Due: 5, Seen: 5},
		},
		"a reset leads into a log of many epochs": {
			story{joined("e1", 0), acked(1), saw(1), reset("e4", 3), sawIn("e2", 4), sawIn("e3", 5), sawIn("e4", 6)},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 4},
		},
		"a gap before offsets went back is a gap still": {
			story{joined("e1", 0), acked(1, 2, 3), saw(1, 3), reset("e2", 1), sawIn("e2", 2)},
			ledger.Counts{Acknowledged: 3, Due: 3, Seen: 3, Declared: 1, Gaps: 1},
		},
		"a message whose epoch was declared over comes again": {
			story{joined("e1", 0), saw(1, 2), reset("e2", 1), func(l *ledger.Ledger, bob *ledger.Member) {
				l.Acked("lobby", "e2", 2, "alice", "e12")
				bob.Saw("lobby", "e2", 2, "alice", "e12")
			}},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 3},
		},
		"a message comes again in an epoch that continues": {
			story{joined("e1", 0), saw(1, 2), func(l *ledger.Ledger, bob *ledger.Member) {
				l.Acked("lobby", "e2", 3, "alice", "e12")
				bob.Saw("lobby", "e2", 3, "alice", "e12")
			}},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 3, Duplicated: 1},
		},
		"who comes in an epoch is not owed the one before": {
			story{acked(1, 2), joined("e2", 1), ackedIn("e2", 2), sawIn("e2", 2)},
			ledger.Counts{Acknowledged: 3, Due: 1, Seen: 1},
		},
		"who has left is owed nothing more": {
			story{joined("e1", 0), acked(1), saw(1), left, acked(2)},
			ledger.Counts{Acknowledged: 2, Due: 1, Seen: 1},
		},
		"who has left is owed what was between": {
			story{joined("e1", 0), acked(1, 2, 3), saw(1, 3), gone},
			ledger.Counts{Acknowledged: 3, Due: 3, Seen: 2, Lost: 1, Gaps: 1},
		},
		"who comes back without a position starts anew": {
			story{joined("e1", 0), acked(1), saw(1), left, acked(2), joined("e1", 2), acked(3), saw(3)},
			ledger.Counts{Acknowledged: 3, Due: 2, Seen: 2},
		},
		"a repeated join changes nothing": {
			story{joined("e1", 0), acked(1, 2), joined("e1", 2), saw(1, 2)},
			ledger.Counts{Acknowledged: 2, Due: 2, Seen: 2},
		},
		"a direct room begins with its first message": {
			story{acked(7, 8), saw(7)},
			ledger.Counts{Acknowledged: 2, Due: 2, Seen: 1, Lost: 1},
		},
		"a message is twice in the log": {
			story{joined("e1", 0), acked(1), saw(1), func(_ *ledger.Ledger, bob *ledger.Member) {
				bob.Saw("lobby", "e1", 2, "alice", "e11")
			}},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 2, Duplicated: 1},
		},
		"two users' messages may have one id": {
			story{joined("e1", 0), acked(1), saw(1), func(_ *ledger.Ledger, bob *ledger.Member) {
				bob.Saw("lobby", "e1", 2, "carol", "e11")
			}},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 2},
		},
		"another message is where one was acknowledged": {
			story{joined("e1", 0), acked(1), func(_ *ledger.Ledger, bob *ledger.Member) {
				bob.Saw("lobby", "e1", 1, "carol", "x")
			}},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 1, Conflicts: 1},
		},
		"messages without an id are not compared": {
			story{joined("e1", 0), acked(1), func(_ *ledger.Ledger, bob *ledger.Member) {
				bob.Saw("lobby", "e1", 1, "alice", "")
				bob.Saw("lobby", "e1", 2, "alice", "")
			}},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 2},
		},
		"a message is acknowledged where it is not": {
			story{joined("e1", 0), acked(1), func(_ *ledger.Ledger, bob *ledger.Member) {
				bob.Saw("lobby", "e1", 2, "alice", "e11")
			}},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 1, Lost: 1, Gaps: 1},
		},
		"a message acknowledged twice is one": {
			story{joined("e1", 0), acked(1, 1), saw(1)},
			ledger.Counts{Acknowledged: 1, Due: 1, Seen: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := ledger.New()
			bob := l.Member("bob")
			for _, step := range test.story {
				step(l, bob)
			}
			got := l.Report()
			if got.Counts != test.want || got.Rooms["lobby"] != test.want {
				t.Errorf("\n got %+v\nwant %+v\n%s", got.Counts, test.want, got)
			}
			if l.Missing() != got.Lost {
				t.Errorf("Missing is %d, Lost %d", l.Missing(), got.Lost)
			}
			if (got.Err() == nil) != test.want.Clean() {
				t.Errorf("the error is %v", got.Err())
			}
		})
	}
}

func TestObserveUnderstandsAServersEvents(t *testing.T) {
	t.Parallel()
	l := ledger.New()
	alice, bob := l.Member("alice"), l.Member("bob")
	message := func(offset uint64) protocol.Event {
		return protocol.Event{Type: protocol.TypeMessage, Room: "lobby", Epoch: "e1", Offset: offset, Username: "alice", ID: fmt.Sprint(offset)}
	}
	ack := func(offset uint64) protocol.Event {
		return protocol.Event{Type: protocol.TypeAck, Room: "lobby", Epoch: "e1", Offset: offset, ID: fmt.Sprint(offset)}
	}
	joined := protocol.Event{Type: protocol.TypeJoined, Room: "lobby", Epoch: "e1"}
	for _, m := range []*ledger.Member{alice, bob} {
		m.Observe(joined)
	}
	for offset := range uint64(6) {
		alice.Observe(ack(offset + 1))
		alice.Observe(message(offset + 1))
	}
	bob.Observe(message(1))
	// The connection breaks; bob resumes, and the server has all that was missed.
	resumed := joined
	resumed.Offset, resumed.Recovered = 1, new(true)
	bob.Observe(resumed)
	bob.Observe(message(2))
	// It breaks again, and the log has moved on.
	resumed.Offset, resumed.Recovered = 4, new(false)
	bob.Observe(resumed)
	bob.Observe(message(5))
	followed := message(99)
	followed.Followed = true
	bob.Observe(followed)
	bob.Observe(protocol.Event{Type: protocol.TypeLeft, Room: "lobby"})
	want := ledger.Counts{Acknowledged: 6, Due: 11, Seen: 9, Declared: 2}
	if got := l.Report(); got.Counts != want {
		t.Errorf("\n got %+v\nwant %+v\n%s", got.Counts, want, got)
	}
	alice.Observe(protocol.Event{Type: protocol.TypeReset, Room: "lobby", Epoch: "e2", Offset: 3})
	if got := l.Report(); got.Counts != want {
		t.Errorf("a reset after all was seen: %s", got)
	}
}

func TestReportTellsAPersonWhatToLookAt(t *testing.T) {
	t.Parallel()
	l := ledger.New()
	bob := l.Member("bob")
	for _, step := range (story{joined("e1", 0), acked(1, 2, 3, 4, 5, 6), saw(1, 4, 4, 3)}) {
		step(l, bob)
	}
	text := l.Report().String()
	for _, want := range []string{
		"6 acknowledged in 1 rooms", "3 lost, 1 duplicated, 1 reordered, 1 undeclared gaps",
		"bob saw lobby 4 (epoch e1) again after 4", "bob saw lobby 3 (epoch e1) after 4",
		"bob was not told of the gap lobby 2 (epoch e1)", "bob did not see lobby 5 and what follows (epoch e1)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q in:\n%s", want, text)
		}
	}
}

// Whatever a network does with a log, the ledger counts what a slow and obvious
// checker counts.
func TestCountsAreThoseOfAPlainChecker(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		const messages = 200
		order := make([]uint64, 0, 2*messages)
		for offset := range uint64(messages) {
			for range []int{0, 1, 1, 1, 1, 1, 1, 2}[random.IntN(8)] {
				order = append(order, offset+1)
			}
		}
		for range random.IntN(20) {
			i := random.IntN(len(order) - 1)
			order[i], order[i+1] = order[i+1], order[i]
		}
		l := ledger.New()
		bob := l.Member("bob")
		joined("e1", 0)(l, bob)
		want := ledger.Counts{Seen: len(order)}
		seen, last := map[uint64]bool{}, uint64(0)
		for _, offset := range order {
			saw(offset)(l, bob)
			switch {
			case seen[offset]:
				want.Duplicated++
			case offset < last:
				want.Reordered++
			}
			seen[offset], last = true, max(last, offset)
		}
		for offset := uint64(1); offset <= messages; offset++ {
			if !seen[offset] && offset < last && (offset == 1 || seen[offset-1]) {
				want.Gaps++
			}
			if random.IntN(10) == 0 {
				continue
			}
			acked(offset)(l, bob)
			want.Acknowledged++
			want.Due++
			if !seen[offset] {
				want.Lost++
			}
		}
		if got := l.Report(); got.Counts != want {
			t.Fatalf("seed %d:\n got %+v\nwant %+v\n%v\n%s", seed, got.Counts, want, order, got)
		}
	}
}

func TestManyMembersAtOnce(t *testing.T) {
	t.Parallel()
	const members, messages = 50, 1000
	l := ledger.New()
	var all sync.WaitGroup
	for i := range members {
		m := l.Member(fmt.Sprint("member", i))
		m.Joined("lobby", "e1", 0)
		all.Go(func() {
			for offset := uint64(1); offset <= messages; offset++ {
				if int(offset)%members == i {
					l.Acked("lobby", "e1", offset, "alice", fmt.Sprint(offset))
				}
				m.Saw("lobby", "e1", offset, "alice", fmt.Sprint(offset))
			}
		})
	}
	for range 20 {
		_ = l.Report() // at any time
	}
	all.Wait()
	want := ledger.Counts{Acknowledged: messages, Due: members * messages, Seen: members * messages}
	if got := l.Report(); got.Counts != want || got.Members != members {
		t.Errorf("got %s", got)
	}
}

func TestSeeingInOrderAllocatesNothing(t *testing.T) {
	l := ledger.New()
	first, second := l.Member("first"), l.Member("second")
	for offset := uint64(1); offset <= 2000; offset++ {
		first.Saw("lobby", "e1", offset, "alice", "x")
	}
	second.Saw("lobby", "e1", 1, "alice", "x")
	offset := uint64(1)
	if n := testing.AllocsPerRun(1000, func() {
		offset++
		second.Saw("lobby", "e1", offset, "alice", "x")
	}); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

// BenchmarkSaw is what each delivery costs a load generator: 1,000 members of
// one room, on all cores.
func BenchmarkSaw(b *testing.B) {
	b.ReportAllocs()
	l := ledger.New()
	b.RunParallel(func(pb *testing.PB) {
		members := make([]*ledger.Member, 1000)
		for i := range members {
			members[i] = l.Member("member")
			members[i].Joined("lobby", "e1", 0)
		}
		for offset := uint64(1); ; offset++ {
			for _, m := range members {
				if !pb.Next() {
					return
				}
				m.Saw("lobby", "e1", offset, "alice", "4711")
			}
		}
	})
}

func BenchmarkAcked(b *testing.B) {
	b.ReportAllocs()
	l := ledger.New()
	for offset := uint64(1); b.Loop(); offset++ {
		l.Acked("lobby", "e1", offset, "alice", "4711")
	}
}

func BenchmarkMissing(b *testing.B) {
	l := ledger.New()
	members := make([]*ledger.Member, 2000)
	for i := range members {
		members[i] = l.Member("member")
		members[i].Joined("lobby", "e1", 0)
	}
	for offset := uint64(1); offset <= 20_000; offset++ {
		l.Acked("lobby", "e1", offset, "alice", "4711")
		for _, m := range members {
			m.Saw("lobby", "e1", offset, "alice", "4711")
		}
	}
	for b.Loop() {
		_ = l.Missing()
	}
}
