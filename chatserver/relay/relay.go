// Package relay carries live messages from Redis pub/sub to one chat server.
//
// It keeps one connection to each Redis master that it needs, subscribed to the channels of
// that master's slots (sharded pub/sub; classic where the server has none). It tells when a
// subscription was broken and made anew, because what came in between is lost, and it proves
// each connection end to end by hearing what it publishes: a dead one can look healthy for
// ever. It must not know what a payload means, nor read any log.
package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

// Handler receives what the relay hears. Its methods are called from the reader goroutine of
// a connection and must not block long: Redis drops a subscriber that falls too far behind.
type Handler interface {
	// Live delivers one message, in order per channel; payload may be kept.
	Live(channel string, payload []byte)
	// Resubscribed names channels that are subscribed again after a break. Anything may have
	// been missed up to now, so the caller reads the log.
	Resubscribed(channels []string)
}

var (
	errUnsubscribed = errors.New("unsubscribed meanwhile")
	errStopped      = errors.New("the relay has stopped")
	errNotProbed    = errors.New("the subscriptions have not been probed yet")
)

// Relay is safe for concurrent use.
type Relay struct {
	client redis.UniversalClient
	log    *slog.Logger
	id     string // of this relay's own channels
	wake   chan struct{}
	// stopped is closed when Run has ended.
	stopped chan struct{}
	probing chan struct{} // held by the probe round under way

	handler Handler // set once, by Run
	sharded bool    // set once, by Run, before any link

	received atomic.Uint64 // messages that came

	mu       sync.Mutex
	subs     map[string]*subscription // all that are wanted
	unplaced map[string]*subscription // those of them without a link
	links    map[string]*link         // by address of the master
	holdoffs map[string]*holdoff      // by address of a master whose link failed
	broken   uint64                   // links that ended
	lastErr  error                    // why a link ended or a channel has none
	health   error
}

// subscription is one wanted channel. Relay.mu guards it.
type subscription struct {
	channel string
	link    *link         // nil while unplaced
	ready   chan struct{} // closed while Redis is known to have the subscription
	gone    chan struct{} // closed by Unsubscribe
	acked   bool          // ready is closed
	lost    bool          // was acked once and is to be announced by Resubscribed

	movedFrom string // the address that gave it away; the cluster's state may be stale
	tries     int    // how often it was not placed there
}

// New makes a relay; it does nothing before Run. serverID appears in channel names, for
// people who look at Redis.
func New(client redis.UniversalClient, serverID string, log *slog.Logger) *Relay {
	return &Relay{
		client:   client,
		log:      log,
		id:       serverID + "." + rand.Text()[:10],
		wake:     make(chan struct{}, 1),
		stopped:  make(chan struct{}),
		probing:  make(chan struct{}, 1),
		subs:     map[string]*subscription{},
		unplaced: map[string]*subscription{},
		links:    map[string]*link{},
		holdoffs: map[string]*holdoff{},
		health:   errNotProbed,
	}
}

// Run keeps the subscriptions until ctx ends; it is called once. It ends with nil, all its
// goroutines ended and its connections closed.
func (r *Relay) Run(ctx context.Context, h Handler) error {
	defer close(r.stopped)
	r.handler = h
	var err error
	r.sharded, err = backoff.Retry(ctx, func() (bool, error) {
		sharded, err := store.Sharded(ctx, r.client)
		r.note(err)
		return sharded, err
	}, backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return nil // only ctx ends the retries
	}

	var wg sync.WaitGroup
	wg.Go(func() { r.probeForever(ctx) })
	r.placeForever(ctx, &wg)
	wg.Wait()
	return nil
}

// Subscribe returns once Redis has acknowledged the subscription. It is idempotent. If ctx
// ends first the channel stays wanted until Unsubscribe.
func (r *Relay) Subscribe(ctx context.Context, channel string) error {
	ready, gone := r.want(channel)
	var err error
	select {
	case <-ready:
		return nil
	case <-gone:
		err = errUnsubscribed
	case <-r.stopped:
		err = errStopped
	case <-ctx.Done():
		err = errors.Join(context.Cause(ctx), r.why())
	}
	return fmt.Errorf("subscribe to %s: %w", channel, err)
}

func (r *Relay) want(channel string) (ready, gone <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subs[channel]
	if s == nil {
		s = &subscription{channel: channel, ready: make(chan struct{}), gone: make(chan struct{})}
		r.subs[channel] = s
		r.unplace(s)
	}
	return s.ready, s.gone
}

// Unsubscribe gives a channel up. A message that is under way may still be delivered.
func (r *Relay) Unsubscribe(channel string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subs[channel]
	if s == nil {
		return
	}
	delete(r.subs, channel)
	delete(r.unplaced, channel)
	close(s.gone)
	if s.link != nil {
		s.link.touch(channel)
	}
}

// Stats are for metrics.
type Stats struct {
	Channels int    // that are wanted
	Links    int    // connections that carry their subscriptions
	Broken   uint64 // such connections that ended, since the start
	Received uint64 // messages that came, since the start
}

// Stats are those of now.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Channels: len(r.subs), Links: len(r.links), Broken: r.broken, Received: r.received.Load()}
}

// unplace puts a subscription into the line for a link. r.mu is held.
func (r *Relay) unplace(s *subscription) {
	if s.acked {
		s.acked, s.lost = false, true
		s.ready = make(chan struct{})
	}
	s.link = nil
	r.unplaced[s.channel] = s
	notify(r.wake)
}

func (r *Relay) note(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr = err
}

func (r *Relay) why() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastErr
}

// holdoff keeps a link that fails again and again from being made at full speed.
type holdoff struct {
	backoff *backoff.ExponentialBackOff
	until   time.Time
}

func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff() // with jitter: all servers lose a master at once
	b.InitialInterval = 50 * time.Millisecond
	b.Multiplier = 2
	b.MaxInterval = 5 * time.Second
	return b
}

// notify wakes the reader of c, once for any number of calls.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
