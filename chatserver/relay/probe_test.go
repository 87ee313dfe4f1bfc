package relay

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

func TestHungServerIsUnhealthyAndLosesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	client := redis.NewClient(&redis.Options{Addr: server.Nodes[0].Addr, Protocol: 2, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	r, e := start(t, client)
	channel := rooms(1)[0]
	subscribe(t, r, channel)
	thaw := server.Nodes[0].Freeze()
	err := r.Probe(t.Context())
	thaw()
	if err == nil {
		t.Error("a probe of a hung server succeeded")
	}
	await(t, "health", func() bool { return r.Probe(t.Context()) == nil })
	publish(t, client, true, channel, "hello")
	await(t, "the message", func() bool { return len(e.messages(channel)) == 1 })
}

// TestProbeFindsASubscriptionThatDiedSilently cuts the relay's connection as a firewall does:
// nothing comes through any more and nobody is told. Everything else works.
func TestProbeFindsASubscriptionThatDiedSilently(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, server *redistest.Redis) {
		t.Parallel()
		wire := &wire{}
		client := wire.client(t, server)
		r, e := start(t, client)
		channels := rooms(30)
		subscribe(t, r, channels...)
		must(t, r.Probe(t.Context()))
		wire.cutSubscribers()
		if err := r.Probe(t.Context()); err == nil {
			t.Error("the probe found nothing")
		}
		await(t, "health", func() bool { return r.Probe(t.Context()) == nil })
		for _, c := range channels {
			await(t, "news of the break", func() bool { return e.resubscribed(c) == 1 })
			publish(t, client, true, c, "hello")
			await(t, "a message", func() bool { return len(e.messages(c)) == 1 })
		}
	})
}

// wire dials connections that can be cut silently.
type wire struct {
	mu    sync.Mutex
	conns []*cuttable
}

type cuttable struct {
	net.Conn
	subscriber, cut atomic.Bool
}

func (w *wire) client(t *testing.T, server *redistest.Redis) redis.UniversalClient {
	t.Helper()
	var addrs []string
	for _, n := range server.Nodes {
		addrs = append(addrs, n.Addr)
	}
	c := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: addrs, IsClusterMode: server.IsCluster, Protocol: 2, ContextTimeoutEnabled: true, Dialer: w.dial,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &cuttable{Conn: conn}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return c, nil
}

func (w *wire) cutSubscribers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.cut.Store(c.subscriber.Load())
	}
}

func (c *cuttable) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "ssubscribe") {
		c.subscriber.Store(true)
	}
	if c.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *cuttable) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.cut.Load() {
			return n, err
		}
	}
}

func TestProbeOfACallerWhoGivesUpBreaksNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	r, e := start(t, server.Client(t))
	channel := rooms(1)[0]
	subscribe(t, r, channel)
	must(t, r.Probe(t.Context()))
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_ = r.Probe(ctx)
	}
	must(t, r.Probe(t.Context()))
	if n := e.resubscribed(channel); n != 0 {
		t.Errorf("the connection was made anew %d times", n)
	}
}
