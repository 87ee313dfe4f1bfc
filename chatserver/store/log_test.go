package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func say(room, user, id, payload string) Message {
	return Message{Room: room, User: user, ID: id, Payload: []byte(payload)}
}

func TestPublishNumbersMessagesOfARoomFromOne(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		var epoch string
		for want := uint64(1); want <= 3; want++ {
			p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "hello")))
			if epoch == "" {
				epoch = p.Epoch
			}
			if p.Offset != want || p.Epoch != epoch || p.Epoch == "" || p.Duplicate {
				t.Errorf("publication %d is %+v", want, p)
			}
		}
		other := got[Published](t)(s.Publish(t.Context(), say(unique("room"), "alice", "", "hello")))
		if other.Offset != 1 || other.Epoch == epoch {
			t.Errorf("another room continues this one: %+v", other)
		}
		if h := got[Log](t)(s.Head(t.Context(), room)); h.Epoch != epoch || h.Last != 3 {
			t.Errorf("head is %+v", h)
		}
	})
}

func TestHeadOfANewRoomIsTheEpochOfItsFirstMessage(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		h := got[Log](t)(s.Head(t.Context(), room))
		if h.Last != 0 || h.Epoch == "" {
			t.Errorf("head of a new room is %+v", h)
		}
		l := got[Log](t)(s.Read(t.Context(), room, 0, 0))
		if l.Epoch != h.Epoch || l.First != 1 || l.Last != 0 || len(l.Entries) != 0 {
			t.Errorf("log of a new room is %+v", l)
		}
		p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "hello")))
		if p.Epoch != h.Epoch {
			t.Errorf("head said epoch %s, the first message %s", h.Epoch, p.Epoch)
		}
	})
}

func TestPublishedMessageIsOnItsChannel(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		messages := listen(t, s, RoomChannel(room))
		p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "m1", "two  words \r\n")))
		again := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "m1", "two  words \r\n")))
		must(t, s.Broadcast(t.Context(), RoomChannel(room), []byte("alice types")))

		offset, epoch, body := live(t, messages)
		if offset != p.Offset || epoch != p.Epoch || body != "two  words \r\n" {
			t.Errorf("published %+v, heard %d %s %q", p, offset, epoch, body)
		}
		if !again.Duplicate || again.Position != p.Position {
			t.Errorf("the same id again returned %+v, want the first, %+v", again, p)
		}
		// What comes next is the broadcast: the duplicate was not sent.
		if offset, epoch, body := live(t, messages); offset != 0 || epoch != "-" || body != "alice types" {
			t.Errorf("heard %d %s %q", offset, epoch, body)
		}
	})
}

// listen subscribes as a client of Redis would, without the relay.
func listen(t *testing.T, s *Store, channel string) <-chan *redis.Message {
	t.Helper()
	subscribe := s.client.Subscribe
	if s.sharded {
		subscribe = s.client.SSubscribe
	}
	ps := subscribe(t.Context(), channel)
	t.Cleanup(func() { _ = ps.Close() })
	got[any](t)(ps.Receive(t.Context())) // the acknowledgement
	return ps.Channel()
}

func live(t *testing.T, messages <-chan *redis.Message) (offset uint64, epoch, body string) {
	t.Helper()
	select {
	case m := <-messages:
		offset, epoch, b, ok := ParseLive([]byte(m.Payload))
		if !ok {
			t.Fatalf("heard %q", m.Payload)
		}
		return offset, epoch, string(b)
	case <-time.After(30 * time.Second):
		t.Fatal("waited in vain for a message")
		return
	}
}

func TestRetriesOnSeveralServersAtOncePublishOnce(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		const tries = 40
		stores, room := []*Store{b.open(t), b.open(t)}, unique("room")
		results := make([]Published, tries)
		var wg sync.WaitGroup
		for i := range tries {
			wg.Go(func() {
				p, err := stores[i%2].Publish(t.Context(), say(room, "alice", "once", "hello"))
				if err != nil {
					t.Error(err)
				}
				results[i] = p
			})
		}
		wg.Wait()
		firsts := 0
		for _, p := range results {
			if p.Position != results[0].Position {
				t.Errorf("positions differ: %+v, %+v", p, results[0])
			}
			if !p.Duplicate {
				firsts++
			}
		}
		if l := got[Log](t)(stores[0].Read(t.Context(), room, 0, 0)); firsts != 1 || len(l.Entries) != 1 {
			t.Errorf("%d of %d tries were the first; the log has %d entries", firsts, tries, len(l.Entries))
		}
	})
}

func TestIDsAreOnesOwn(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		for i, m := range []Message{
			say(room, "alice", "1", "a"), say(room, "bob", "1", "b"), // another user
			say(room, "alice", "2", "c"), say(room, "alice", "3", "d"), // an id that is also an offset
		} {
			p := got[Published](t)(s.Publish(t.Context(), m))
			if p.Duplicate || p.Offset != uint64(i+1) {
				t.Errorf("message %d was taken for another: %+v", i+1, p)
			}
		}
		if p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "3", "d"))); !p.Duplicate || p.Offset != 4 {
			t.Errorf("the id 3 was used at offset 4, found %+v", p)
		}
		if _, err := s.Publish(t.Context(), say(room, "alice", strings.Repeat("x", maxID+1), "long")); err == nil {
			t.Error("an id beyond the limit was taken")
		}
	})
}

func TestATryThatComesLateIsKnownByItsNumber(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		numbered := func(series string, seq uint64, id string) Published {
			t.Helper()
			m := say(room, "alice", id, id)
			m.Series, m.Seq = series, seq
			return got[Published](t)(s.Publish(t.Context(), m))
		}
		for i := uint64(1); i <= 100; i++ {
			numbered("browser", i, fmt.Sprint(i))
		}
		if p := numbered("browser", 3, "3"); !p.Duplicate {
			t.Errorf("the third message came again after 97 others, and is now at %+v", p)
		}
		if p := numbered("browser", 99, "99"); !p.Duplicate || p.Offset != 99 {
			t.Errorf("a message whose id is remembered is said to be at %+v", p)
		}
		// Another start of the program, another device: each counts for itself, as long as
		// there are not too many at once.
		for i := range 20 {
			if p := numbered(fmt.Sprint("device", i), 1, fmt.Sprint("device", i)); p.Duplicate {
				t.Errorf("device %d's first message is taken for another one: %+v", i, p)
			}
		}
		if n := got[int64](t)(s.client.HLen(t.Context(), seriesKey(room, "alice")).Result()); n != 16 {
			t.Errorf("%d series are remembered, want 16", n)
		}
		if p := numbered("device19", 1, "another id"); !p.Duplicate {
			t.Errorf("the newest series is forgotten: %+v", p)
		}
		if p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "without a number"))); p.Duplicate || p.Offset != 121 {
			t.Errorf("a message without a number is at %+v", p)
		}
	})
}

func TestMemoryOfDeduplicationIsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		id := func(i int) string { return fmt.Sprint("id-", i) }
		for i := range 200 {
			got[Published](t)(s.Publish(t.Context(), say(room, "alice", id(i), "hello")))
		}
		key := sentKey(room, "alice")
		if n := got[int64](t)(s.client.LLen(t.Context(), key).Result()); n != 128 {
			t.Errorf("the list has %d items, want 64 pairs", n)
		}
		if ttl := got[time.Duration](t)(s.client.PTTL(t.Context(), key).Result()); ttl <= 0 || ttl > dedupeWindow {
			t.Errorf("the list lives for %s", ttl)
		}
		if p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", id(136), "hello"))); !p.Duplicate || p.Offset != 137 {
			t.Errorf("the 64th newest id is forgotten: %+v", p)
		}
	})
}

func TestTrimmedLogTellsItsFirstEntry(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		const keep = 50
		sent := 500
		if b.embedded {
			sent = 150 // it compiles a script at each call
		}
		s, room := b.open(t, func(o *Options) { o.HistoryCount = keep }), unique("room")
		var wg sync.WaitGroup
		for range sent {
			wg.Go(func() {
				if _, err := s.Publish(t.Context(), say(room, "alice", "", "hello")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		l := got[Log](t)(s.Read(t.Context(), room, 0, 0))
		if l.Last != uint64(sent) || l.First <= 1 || l.First > uint64(sent-keep+1) {
			t.Fatalf("the log spans %d to %d", l.First, l.Last)
		}
		if n := len(l.Entries); n < keep || n > keep+100 || l.Entries[0].Offset != l.First {
			t.Errorf("%d entries from %d, the first is said to be %d", n, l.Entries[0].Offset, l.First)
		}
		assertAscending(t, l.Entries, l.First, uint64(sent))
	})
}

func assertAscending(t *testing.T, entries []Entry, first, last uint64) {
	t.Helper()
	if len(entries) != int(last+1-first) {
		t.Fatalf("%d entries, want %d to %d", len(entries), first, last)
	}
	for i, e := range entries {
		if e.Offset != first+uint64(i) {
			t.Fatalf("entry %d has offset %d, want %d", i, e.Offset, first+uint64(i))
		}
	}
}

func TestReadReturnsWhatWasMissed(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		for i := 1; i <= 10; i++ {
			got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", fmt.Sprint(i))))
		}
		for _, c := range []struct {
			name        string
			log         Log
			err         error
			first, last uint64 // entries
		}{
			forwards(t, s, "all", room, 0, 0, 1, 10),
			forwards(t, s, "after one", room, 4, 0, 5, 10),
			forwards(t, s, "some after one", room, 4, 3, 5, 7),
			forwards(t, s, "nothing new", room, 10, 0, 11, 10),
			forwards(t, s, "from the future", room, 99, 0, 11, 10),
			forwards(t, s, "from the last number there is", room, 1<<64-1, 0, 11, 10),
			backwards(t, s, "newest", room, 0, 3, 8, 10),
			backwards(t, s, "before one", room, 5, 3, 2, 4),
			backwards(t, s, "all before one", room, 5, 0, 1, 4),
			backwards(t, s, "before the first", room, 1, 3, 11, 10),
		} {
			t.Run(c.name, func(t *testing.T) {
				must(t, c.err)
				if c.log.First != 1 || c.log.Last != 10 || c.log.Epoch == "" {
					t.Errorf("the log is said to be %q %d to %d", c.log.Epoch, c.log.First, c.log.Last)
				}
				assertAscending(t, c.log.Entries, c.first, c.last)
				for _, e := range c.log.Entries {
					if string(e.Payload) != fmt.Sprint(e.Offset) {
						t.Errorf("entry %d holds %q", e.Offset, e.Payload)
					}
				}
			})
		}
	})
}

type readCase = struct {
	name        string
	log         Log
	err         error
	first, last uint64
}

func forwards(t *testing.T, s *Store, name, room string, after uint64, limit int, first, last uint64) readCase {
	l, err := s.Read(t.Context(), room, after, limit)
	return readCase{"forwards, " + name, l, err, first, last}
}

func backwards(t *testing.T, s *Store, name, room string, before uint64, limit int, first, last uint64) readCase {
	l, err := s.ReadBefore(t.Context(), room, before, limit)
	return readCase{"backwards, " + name, l, err, first, last}
}

func TestLostLogBeginsANewEpoch(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		before := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "m1", "hello")))
		must(t, s.client.Del(t.Context(), metaKey(room)).Err()) // the log itself is left over
		after := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "m2", "hello again")))
		if after.Epoch == before.Epoch || after.Offset != 1 {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if l := got[Log](t)(s.Read(t.Context(), room, 0, 0)); len(l.Entries) != 1 || string(l.Entries[0].Payload) != "hello again" {
			t.Errorf("the new epoch has entries of the old: %+v", l)
		}
	})
}

func TestSilentRoomForgetsItsLogBeforeItsPosition(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t, func(o *Options) { o.HistoryAge = time.Hour }), unique("room")
		p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "hello")))
		log := got[time.Duration](t)(s.client.PTTL(t.Context(), logKey(room)).Result())
		meta := got[time.Duration](t)(s.client.PTTL(t.Context(), metaKey(room)).Result())
		if log <= 0 || log > time.Hour || meta <= log {
			t.Errorf("the log lives for %s, its position for %s", log, meta)
		}
		must(t, s.client.Del(t.Context(), logKey(room)).Err()) // as it will be in an hour
		l := got[Log](t)(s.Read(t.Context(), room, 0, 0))
		if l.Epoch != p.Epoch || l.First != 2 || l.Last != 1 {
			t.Errorf("a log that ran out is %+v", l)
		}
	})
}

func TestConcurrentPublishersEachGetTheirOwnResult(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		const publishers, each = 50, 20
		s := b.open(t)
		rooms := []string{unique("room"), unique("room"), unique("room"), unique("room")}
		var mu sync.Mutex
		said := map[string]map[uint64]string{}
		for _, room := range rooms {
			said[room] = map[uint64]string{}
		}
		var wg sync.WaitGroup
		for i := range publishers {
			wg.Go(func() {
				for j := range each {
					room, text := rooms[(i+j)%len(rooms)], fmt.Sprint(i, " says ", j)
					p, err := s.Publish(t.Context(), say(room, fmt.Sprint("user", i), fmt.Sprint(j), text))
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					said[room][p.Offset] = text
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for _, room := range rooms {
			l := got[Log](t)(s.Read(t.Context(), room, 0, 0))
			assertAscending(t, l.Entries, 1, publishers*each/uint64(len(rooms)))
			for _, e := range l.Entries {
				if said[room][e.Offset] != string(e.Payload) {
					t.Fatalf("offset %d was returned for %q and holds %q", e.Offset, said[room][e.Offset], e.Payload)
				}
			}
		}
	})
}

func TestOneBadPublishHarmsNoOther(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, good, bad := b.open(t), unique("room"), unique("room")
		must(t, s.client.Set(t.Context(), metaKey(bad), "not a hash", 0).Err())
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := s.Publish(t.Context(), say(good, "alice", "", "hello")); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := s.Publish(t.Context(), say(bad, "alice", "", "hello")); err == nil {
					t.Error("a publish into a broken room succeeded")
				}
			})
		}
		wg.Wait()
	})
}

func TestPublishSurvivesTheLossOfScripts(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		s, room := b.open(t), unique("room")
		got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "hello")))
		if c, ok := s.client.(*redis.ClusterClient); ok {
			must(t, c.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() }))
		} else {
			must(t, s.client.ScriptFlush(t.Context()).Err())
		}
		if p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "hello"))); p.Offset != 2 {
			t.Errorf("%s: after the loss %+v", b.name, p)
		}
	}
}

func TestPublishEndsWithItsContextAndWithTheStore(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s := b.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 { // both are ready: the answer and the end
			if _, err := s.Publish(ctx, say("ended", "alice", "", "hello")); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("with an ended context: %v", err)
			}
		}
		must(t, s.Close())
		if _, err := s.Publish(t.Context(), say("ended", "alice", "", "hello")); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestOffsetsStayExactWhenLarge(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		got[Log](t)(s.Head(t.Context(), room))
		const large = 1 << 52
		must(t, s.client.HSet(t.Context(), metaKey(room), "offset", uint64(large)).Err())
		p := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "hello")))
		l := got[Log](t)(s.Read(t.Context(), room, large, 0))
		if p.Offset != large+1 || len(l.Entries) != 1 || l.Entries[0].Offset != large+1 {
			t.Errorf("published at %d, logged as %+v", p.Offset, l)
		}
	})
}

func FuzzParseLive(f *testing.F) {
	f.Add([]byte("17 EPOCH hello world"))
	f.Add([]byte("0 - "))
	f.Add([]byte("18446744073709551616 e x"))
	f.Add([]byte(" "))
	f.Fuzz(func(t *testing.T, payload []byte) {
		offset, epoch, body, ok := ParseLive(payload)
		if !ok {
			return
		}
		again, sameEpoch, sameBody, ok := ParseLive(fmt.Appendf(nil, "%d %s %s", offset, epoch, body))
		if !ok || again != offset || sameEpoch != epoch || string(sameBody) != string(body) || epoch == "" {
			t.Fatalf("%q was read as %d %q %q, which is read as %d %q %q", payload, offset, epoch, body, again, sameEpoch, sameBody)
		}
	})
}

func FuzzUndo(f *testing.F) {
	f.Add(sessionMarker("alice", "sid"))
	f.Add(roomMarker("lobby", "alice"))
	f.Add("room  ")
	f.Fuzz(func(t *testing.T, marker string) {
		room, c, ok := undo("server", marker)
		if ok && (len(c.keys) != 2 || len(c.args) != 2 || c.script == nil) {
			t.Fatalf("%q means room %q, call %+v", marker, room, c)
		}
	})
}
