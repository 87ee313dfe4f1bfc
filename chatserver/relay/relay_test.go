package relay

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// ear is a Handler that remembers.
type ear struct {
	mu    sync.Mutex
	heard map[string][]string
	back  map[string]int // how often a channel was resubscribed
}

func (e *ear) Live(channel string, payload []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard[channel] = append(e.heard[channel], string(payload))
}

func (e *ear) Resubscribed(channels []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range channels {
		e.back[c]++
	}
}

func (e *ear) messages(channel string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard[channel])
}

func (e *ear) resubscribed(channel string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.back[channel]
}

// start runs a relay until the test ends, and checks that it ends.
func start(t *testing.T, client redis.UniversalClient) (*Relay, *ear) {
	t.Helper()
	r := New(client, "test", slog.New(slog.DiscardHandler))
	e := &ear{heard: map[string][]string{}, back: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, e) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run did not end")
		}
	})
	return r, e
}

// rooms are channels that lie on all three masters of a cluster.
func rooms(n int) []string {
	var channels []string
	for range n {
		channels = append(channels, "room:{"+rand.Text()[:10]+"}:live")
	}
	return channels
}

func subscribe(t *testing.T, r *Relay, channels ...string) {
	t.Helper()
	for _, c := range channels {
		must(t, r.Subscribe(t.Context(), c))
	}
}

// publish sends through a client that the relay does not use, and tries again while Redis
// fails over.
func publish(t *testing.T, client redis.UniversalClient, sharded bool, channel, payload string) {
	t.Helper()
	await(t, "a publish on "+channel, func() bool {
		if sharded {
			return client.SPublish(t.Context(), channel, payload).Err() == nil
		}
		return client.Publish(t.Context(), channel, payload).Err() == nil
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for a condition, generously: tests share the machine.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestSubscribedChannelsAreDeliveredInOrder(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, server *redistest.Redis) {
		t.Parallel()
		client := server.Client(t)
		r, e := start(t, client)
		channels := rooms(60)
		var wg sync.WaitGroup
		for _, c := range channels { // at once, each twice
			for range 2 {
				wg.Go(func() {
					if err := r.Subscribe(t.Context(), c); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		const each = 20
		var want []string
		for i := range each {
			want = append(want, fmt.Sprint("message ", i))
			for _, c := range channels {
				publish(t, client, true, c, want[i])
			}
		}
		for _, c := range channels {
			await(t, "all messages", func() bool { return len(e.messages(c)) >= each })
			if heard := e.messages(c); !slices.Equal(heard, want) {
				t.Errorf("heard %q", heard)
			}
			if n := e.resubscribed(c); n != 0 {
				t.Errorf("resubscribed %d times without a break", n)
			}
		}
		must(t, r.Probe(t.Context()))
		must(t, r.Healthy())
	})
}

func TestClusterHasOneConnectionToEachMaster(t *testing.T) {
	t.Parallel()
	server := redistest.Cluster(t)
	r, _ := start(t, server.Client(t))
	subscribe(t, r, rooms(60)...)
	must(t, r.Probe(t.Context()))
	for _, n := range server.Nodes {
		c := n.Client()
		defer func() { _ = c.Close() }()
		list, err := c.Do(t.Context(), "CLIENT", "LIST", "TYPE", "PUBSUB").Text()
		must(t, err)
		if got := strings.Count(list, "ssub="); got != 1 {
			t.Errorf("%s has %d subscribers:\n%s", n.Addr, got, list)
		}
		shards, err := c.PubSubShardChannels(t.Context(), "room:*").Result()
		must(t, err)
		if len(shards) == 0 {
			t.Errorf("%s has no channel of the 60", n.Addr)
		}
	}
}

func TestUnsubscribedChannelIsSilentAndCanComeBack(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, server *redistest.Redis) {
		t.Parallel()
		client := server.Client(t)
		r, e := start(t, client)
		channel := rooms(1)[0]
		subscribe(t, r, channel)
		r.Unsubscribe(channel)
		r.Unsubscribe(channel)
		r.Unsubscribe("never subscribed")
		await(t, "Redis to forget the subscriber", func() bool {
			return client.PubSubShardNumSub(t.Context(), channel).Val()[channel] == 0
		})
		publish(t, client, true, channel, "missed")
		for range 50 { // on and off, faster than Redis answers
			subscribe(t, r, channel)
			r.Unsubscribe(channel)
		}
		subscribe(t, r, channel)
		publish(t, client, true, channel, "heard")
		await(t, "the message", func() bool { return len(e.messages(channel)) > 0 })
		if heard := e.messages(channel); !slices.Equal(heard, []string{"heard"}) {
			t.Errorf("heard %q", heard)
		}
		if n := e.resubscribed(channel); n != 0 {
			t.Errorf("a channel that was given up and wanted again counts as broken")
		}
	})
}

func TestSubscribeEndsWhenItsChannelIsGivenUpOrTheRelayStops(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // nobody listens
	defer func() { _ = client.Close() }()
	r := New(client, "test", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx, &ear{}) }()
	results := make(chan error, 2)
	for _, c := range []string{"given up", "wanted"} {
		go func() { results <- r.Subscribe(t.Context(), c) }()
	}
	await(t, "both to wait", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.unplaced) >= 2 })
	r.Unsubscribe("given up")
	if err := <-results; err == nil || !strings.Contains(err.Error(), errUnsubscribed.Error()) {
		t.Errorf("given up: %v", err)
	}
	short, cancelShort := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancelShort()
	if err := r.Subscribe(short, "impatient"); err == nil {
		t.Error("subscribed without a Redis")
	}
	if err := r.Healthy(); err == nil {
		t.Error("healthy without a Redis")
	}
	cancel()
	must(t, <-ended)
	if err := <-results; err == nil || !strings.Contains(err.Error(), errStopped.Error()) {
		t.Errorf("after the end: %v", err)
	}
}

// onEveryNode runs a command on each node.
func onEveryNode(t *testing.T, server *redistest.Redis, command ...any) {
	t.Helper()
	for _, n := range server.Nodes {
		c := n.Client()
		must(t, c.Do(t.Context(), command...).Err())
		_ = c.Close()
	}
}

func TestKilledConnectionsAreMadeAnewAndTold(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, server *redistest.Redis) {
		t.Parallel()
		client := server.Client(t)
		r, e := start(t, client)
		channels := rooms(300) // more than one Resubscribed names
		subscribe(t, r, channels...)
		for round := 1; round <= 3; round++ {
			onEveryNode(t, server, "CLIENT", "KILL", "TYPE", "pubsub")
			for _, c := range channels {
				await(t, "news of the break", func() bool { return e.resubscribed(c) >= round })
				publish(t, client, true, c, fmt.Sprint("after break ", round))
				await(t, "a message after it", func() bool { return len(e.messages(c)) >= round })
			}
		}
		for _, c := range channels {
			if n := e.resubscribed(c); n != 3 {
				t.Errorf("3 breaks were told %d times", n)
			}
		}
		must(t, r.Probe(t.Context()))
	})
}

func TestMovedSlotIsFollowedAndLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Cluster(t)
	client := server.Client(t)
	r, e := start(t, client)
	channels := rooms(30)
	subscribe(t, r, channels...)
	must(t, r.Probe(t.Context()))
	moved := channels[0]
	must(t, server.MoveSlot(t.Context(), moved))
	await(t, "news of the move", func() bool { return e.resubscribed(moved) == 1 })
	publish(t, client, true, moved, "from the new master")
	await(t, "a message from there", func() bool { return len(e.messages(moved)) == 1 })
	for _, c := range channels[1:] {
		if n := e.resubscribed(c); n != 0 {
			t.Errorf("another channel was resubscribed %d times", n)
		}
	}
	// A channel of the moved slot that nobody had: the relay knows where it is.
	fresh := strings.Replace(moved, ":live", ":fresh", 1)
	subscribe(t, r, fresh)
	publish(t, client, true, fresh, "hello")
	await(t, "a message on the fresh channel", func() bool { return len(e.messages(fresh)) == 1 })
}

func TestReplicaTakesOverFromAKilledMaster(t *testing.T) {
	t.Parallel()
	server := redistest.Cluster(t)
	client := server.Client(t)
	r, e := start(t, client)
	channels := rooms(30)
	subscribe(t, r, channels...)
	_, err := server.AddReplica(t.Context(), server.Nodes[0])
	must(t, err)
	before := map[string]int{}
	for _, c := range channels {
		before[c] = e.resubscribed(c)
	}
	server.Nodes[0].Stop()
	hit := 0
	for _, c := range channels {
		publish(t, client, true, c, "sent before it is subscribed again, perhaps")
	}
	await(t, "health", func() bool { return r.Probe(t.Context()) == nil })
	for _, c := range channels {
		if e.resubscribed(c) > before[c] {
			hit++
		}
		publish(t, client, true, c, "after the failover")
		await(t, "a message after the failover", func() bool { return slices.Contains(e.messages(c), "after the failover") })
	}
	if hit == 0 || hit == len(channels) {
		t.Errorf("%d of %d channels were resubscribed; a third is on the master that died", hit, len(channels))
	}
}

func TestRestartedServerIsHealthyAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	client := server.Client(t)
	r, e := start(t, client)
	channel := rooms(1)[0]
	subscribe(t, r, channel)
	must(t, r.Probe(t.Context()))
	server.Nodes[0].Stop()
	await(t, "the loss to be noticed", func() bool { return r.Probe(t.Context()) != nil && r.Healthy() != nil })
	must(t, server.Nodes[0].Restart())
	await(t, "health", func() bool { return r.Probe(t.Context()) == nil && r.Healthy() == nil })
	await(t, "news of the break", func() bool { return e.resubscribed(channel) == 1 })
}

func TestServerWithoutShardedPubSubIsServedToo(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2})
	defer func() { _ = client.Close() }()
	r, e := start(t, client)
	channels := rooms(20)
	subscribe(t, r, channels...)
	must(t, r.Probe(t.Context()))
	for _, c := range channels {
		publish(t, client, false, c, "hello")
		await(t, "the message", func() bool { return slices.Equal(e.messages(c), []string{"hello"}) })
		r.Unsubscribe(c)
	}
	await(t, "miniredis to forget the channels", func() bool { return len(server.PubSubChannels("room:*")) == 0 })
}

func TestRotatedCertificateBreaksNoMoreThanAConnection(t *testing.T) {
	t.Parallel()
	server := redistest.Secure(t)
	st, err := store.Open(t.Context(), store.Options{
		URLs: server.URLs, CAFile: server.Files.CA, UsernameFile: server.Files.Username, PasswordFile: server.Files.Password,
	})
	must(t, err)
	defer func() { _ = st.Close() }()
	r, e := start(t, st.Client())
	channel := rooms(1)[0]
	subscribe(t, r, channel)
	must(t, server.Revoke(t.Context()))
	must(t, server.Rotate(t.Context()))
	await(t, "news of the break", func() bool { return e.resubscribed(channel) == 1 })
	must(t, r.Probe(t.Context()))
	publish(t, st.Client(), true, channel, "hello")
	await(t, "a message", func() bool { return len(e.messages(channel)) == 1 })
}
