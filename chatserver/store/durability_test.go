package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// safely opens a store on r that waits for one replica.
func safely(t testing.TB, r *redistest.Redis, change ...func(*Options)) *Store {
	t.Helper()
	b := &backend{urls: r.URLs}
	return b.open(t, append([]func(*Options){func(o *Options) { o.Durability, o.Replicas, o.Cluster = Replicated, 1, r.IsCluster }}, change...)...)
}

// eachReplicated runs f on a server and on a cluster, with a replica a master.
func eachReplicated(t *testing.T, f func(t *testing.T, r *redistest.Redis)) {
	t.Helper()
	t.Parallel()
	for name, cluster := range map[string]bool{"Standalone": false, "Cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, redistest.Run(t, redistest.Layout{Cluster: cluster, Replicas: 1}))
		})
	}
}

func TestWhatNoReplicaHasIsNeitherAcknowledgedNorHeard(t *testing.T) {
	eachReplicated(t, func(t *testing.T, r *redistest.Redis) {
		s, other, room := safely(t, r), safely(t, r), unique("room")
		first := got[Published](t)(s.Publish(t.Context(), say(room, "alice", "first", "hello")))
		messages := listen(t, s, RoomChannel(room))
		master := got[*redistest.Node](t)(r.Owner(t.Context(), logKey(room)))
		thaw := got[*redistest.Node](t)(r.Replica(t.Context(), master)).Freeze()
		defer thaw()

		p, err := s.Publish(t.Context(), say(room, "alice", "second", "are you there?"))
		if !errors.Is(err, ErrNotSafe) {
			t.Fatalf("with its replica frozen Redis took the message: %+v, %v", p, err)
		}
		// The second try is on another server, where it is a duplicate: that is no excuse.
		if p, err := other.Publish(t.Context(), say(room, "alice", "second", "are you there?")); !errors.Is(err, ErrNotSafe) {
			t.Fatalf("tried again, with the replica still frozen: %+v, %v", p, err)
		}
		for _, l := range []Log{
			got[Log](t)(s.Read(t.Context(), room, 0, 0)), got[Log](t)(s.ReadBefore(t.Context(), room, 0, 0)),
		} {
			if l.Last != 1 || len(l.Entries) != 1 {
				t.Errorf("readers see a message that can be lost: %+v", l)
			}
		}
		if h := got[Log](t)(s.Head(t.Context(), room)); h.Last != 1 {
			t.Errorf("the head is a message that can be lost: %+v", h)
		}

		thaw()
		var again Published
		await(t, "the replica to have it", func(ctx context.Context) bool {
			again, err = other.Publish(ctx, say(room, "alice", "second", "are you there?"))
			return err == nil
		})
		if !again.Duplicate || again.Position != (Position{first.Epoch, 2}) {
			t.Errorf("tried again when it was safe: %+v", again)
		}
		if offset, _, body := live(t, messages); offset != 2 || body != "are you there?" {
			t.Errorf("heard %d %q", offset, body)
		}
		must(t, s.Broadcast(t.Context(), RoomChannel(room), []byte("end")))
		if offset, _, body := live(t, messages); offset != 0 || body != "end" {
			t.Errorf("heard %d %q once more", offset, body)
		}
	})
}

func TestSafeMessagesAreHeardOnceAndInOrderWhoeverAnnouncesThem(t *testing.T) {
	eachReplicated(t, func(t *testing.T, r *redistest.Redis) {
		const publishers, each = 20, 25
		stores, room := []*Store{safely(t, r), safely(t, r)}, unique("room")
		messages := listen(t, stores[0], RoomChannel(room))
		var wg sync.WaitGroup
		for i := range publishers {
			wg.Go(func() {
				for j := range each {
					if _, err := stores[i%2].Publish(t.Context(), say(room, fmt.Sprint("user", i), fmt.Sprint(j), "hello")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for want := uint64(1); want <= publishers*each; want++ {
			if offset, _, _ := live(t, messages); offset != want {
				t.Fatalf("heard %d, want %d", offset, want)
			}
		}
		wg.Wait()
		if l := got[Log](t)(stores[1].Read(t.Context(), room, 0, 0)); l.Last != publishers*each {
			t.Errorf("the log ends at %d", l.Last)
		}
	})
}

func TestATakeoverLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Cluster: true, Replicas: 1})
	s, room := safely(t, r), unique("room")
	master := got[*redistest.Node](t)(r.Owner(t.Context(), logKey(room)))
	replica := got[*redistest.Node](t)(r.Replica(t.Context(), master))

	var mu sync.Mutex
	acknowledged := map[string]Position{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprint(i, "-", j)
				await(t, "the message to be safe", func(ctx context.Context) bool {
					p, err := s.Publish(ctx, say(room, fmt.Sprint("user", i), id, id))
					if err == nil {
						mu.Lock()
						acknowledged[id] = p.Position
						mu.Unlock()
					}
					return err == nil
				})
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acknowledged) }
	await(t, "messages to flow", func(context.Context) bool { return count() > 100 })
	master.Stop()
	must(t, replica.AwaitMaster())
	must(t, master.Restart()) // as the replica of the new one: without it nothing is safe
	before := count()
	await(t, "messages to flow again", func(context.Context) bool { return count() > before+100 })
	close(stop)
	wg.Wait()

	l := got[Log](t)(s.Read(t.Context(), room, 0, 0))
	times := map[string]int{}
	for _, e := range l.Entries {
		times[string(e.Payload)]++
		if at, ok := acknowledged[string(e.Payload)]; ok && (at.Offset != e.Offset || !l.Continues(at)) {
			t.Errorf("%s was acknowledged at %+v, and is at %d of %+v", e.Payload, at, e.Offset, l.Lineage)
		}
	}
	for id := range acknowledged {
		if times[id] != 1 {
			t.Errorf("the acknowledged message %s is in the log %d times", id, times[id])
		}
	}
}

func TestDurableAsksWhatRedisDoesWithItsDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		layout redistest.Layout
		want   string // in the error; empty: none
	}{
		{"no file", redistest.Layout{}, "appendonly yes"},
		{"synced each second", redistest.Layout{Fsync: "everysec"}, "appendfsync is everysec"},
		{"synced always", redistest.Layout{Fsync: "always"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, c.layout)
			if c.layout.Fsync == "everysec" && knowsWaitAOF(t, r) {
				c.want = ""
			}
			s, err := Open(t.Context(), Options{URLs: r.URLs, Durability: Durable})
			if c.want == "" {
				must(t, err)
				got[Published](t)(s.Publish(t.Context(), say("room", "alice", "", "hello")))
				must(t, s.Close())
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("opened with %v, want %q", err, c.want)
			}
		})
	}
}

func knowsWaitAOF(t *testing.T, r *redistest.Redis) bool {
	t.Helper()
	return got[bool](t)(knows(t.Context(), r.Client(t), "waitaof"))
}

func TestDurableOutlivesAKillWithoutWarning(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Fsync: "always"})
	s := (&backend{urls: r.URLs}).open(t, func(o *Options) { o.Durability = Durable })
	for i := range 50 {
		got[Published](t)(s.Publish(t.Context(), say("room", "alice", fmt.Sprint(i), "hello")))
	}
	must(t, r.Nodes[0].Restart())
	if l := got[Log](t)(s.Read(t.Context(), "room", 0, 0)); l.Last != 50 || len(l.Entries) != 50 {
		t.Errorf("%d of 50 messages are left, the last is said to be %d", len(l.Entries), l.Last)
	}
}

func TestDurableSaysWhatItCannotFindOut(t *testing.T) {
	t.Parallel()
	r := redistest.Secure(t)
	var log strings.Builder
	s, err := Open(t.Context(), Options{
		URLs: r.URLs, UsernameFile: r.Files.Username, PasswordFile: r.Files.Password, CAFile: r.Files.CA,
		Durability: Durable, Replicas: 1, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	must(t, err)
	defer s.Close()
	want := []string{"replicas=0 wanted=1"}
	if !s.waitAOF {
		want = append(want, "appendfsync always")
	}
	for _, text := range want {
		if !strings.Contains(log.String(), text) {
			t.Errorf("the log says nothing of %q:\n%s", text, log.String())
		}
	}
}

func TestReplicatedNeedsAReplicaToWaitFor(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), Options{URLs: []string{"redis://127.0.0.1:1"}, Durability: Replicated}); err == nil {
		t.Error("opened, though any number of replicas were enough")
	}
}

func TestABatchOutlivesTheLossOfScripts(t *testing.T) {
	eachReplicated(t, func(t *testing.T, r *redistest.Redis) {
		s, room := safely(t, r), unique("room")
		got[Published](t)(s.Publish(t.Context(), say(room, "alice", "", "hello")))
		must(t, s.eachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() }))
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if p, err := s.Publish(t.Context(), say(room, "alice", "", "hello")); err != nil || p.Duplicate {
					t.Errorf("after the loss: %+v, %v", p, err)
				}
			})
		}
		wg.Wait()
		if l := got[Log](t)(s.Read(t.Context(), room, 0, 0)); l.Last != 51 {
			t.Errorf("the log ends at %d", l.Last)
		}
	})
}

func TestWaitingForDisks(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Layout{Replicas: 1, Fsync: "everysec"})
	if !knowsWaitAOF(t, r) {
		t.Skip("this redis-server has no WAITAOF, which came with 7.2")
	}
	s := safely(t, r, func(o *Options) { o.Durability = Durable })
	got[Published](t)(s.Publish(t.Context(), say("room", "alice", "1", "hello")))
	thaw := r.Nodes[1].Freeze()
	defer thaw()
	if p, err := s.Publish(t.Context(), say("room", "alice", "2", "hello")); !errors.Is(err, ErrNotSafe) {
		t.Errorf("with its replica frozen Redis took the message: %+v, %v", p, err)
	}
}
