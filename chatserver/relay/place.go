package relay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// placeRetry is how often channels that found no link are tried again.
	placeRetry = 50 * time.Millisecond
	// moveTries bounds how long a channel waits for the cluster's new state to be known.
	moveTries = 40
)

// placeForever gives each unplaced subscription a link to its master, until ctx ends and all
// links have.
func (r *Relay) placeForever(ctx context.Context, wg *sync.WaitGroup) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-r.wake:
		case <-retry.C:
		case <-ctx.Done():
			return
		}
		if r.place(ctx, wg) > 0 {
			retry.Reset(placeRetry)
		}
	}
}

// place returns how many subscriptions are left without a link.
func (r *Relay) place(ctx context.Context, wg *sync.WaitGroup) (left int) {
	r.mu.Lock()
	waiting := slices.Collect(maps.Values(r.unplaced))
	r.mu.Unlock()
	for _, s := range waiting {
		node, err := r.master(ctx, s.channel)
		if err != nil {
			r.note(fmt.Errorf("find the Redis master of %s: %w", s.channel, err))
			r.reload(ctx)
			left++
			continue
		}
		if !r.placeOn(ctx, wg, s, node) {
			left++
		}
	}
	return left
}

// placeOn tells whether s has a link or needs none any more.
func (r *Relay) placeOn(ctx context.Context, wg *sync.WaitGroup, s *subscription, node *redis.Client) bool {
	addr := node.Options().Addr
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unplaced[s.channel] != s {
		return true
	}
	if addr == s.movedFrom && s.tries < moveTries {
		s.tries++
		r.reload(ctx)
		return false
	}
	l := r.links[addr]
	if l == nil {
		if h := r.holdoffs[addr]; h != nil && time.Now().Before(h.until) {
			return false
		}
		l = newLink(ctx, r, addr, node)
		r.links[addr] = l
		wg.Go(func() { r.keep(ctx, l) })
	}
	delete(r.unplaced, s.channel)
	s.link, s.movedFrom, s.tries = l, "", 0
	l.touch(s.channel)
	return true
}

// keep runs a link to its end, then gives its subscriptions back.
func (r *Relay) keep(ctx context.Context, l *link) {
	err := l.run()
	if ctx.Err() != nil {
		return
	}
	r.log.Warn("subscriptions to Redis broke and will be made anew", "address", l.addr, "error", err)
	r.reload(ctx)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken++
	delete(r.links, l.addr)
	r.lastErr = fmt.Errorf("subscriptions at Redis %s: %w", l.addr, err)
	h := r.holdoffs[l.addr]
	if h == nil {
		h = &holdoff{backoff: newBackOff()}
		r.holdoffs[l.addr] = h
	}
	h.until = time.Now().Add(h.backoff.NextBackOff())
	for _, s := range r.subs {
		if s.link == l {
			r.unplace(s)
		}
	}
}

// master is the client of the one node that serves a channel now.
func (r *Relay) master(ctx context.Context, channel string) (*redis.Client, error) {
	switch c := r.client.(type) {
	case *redis.ClusterClient:
		if r.sharded {
			return c.MasterForKey(ctx, channel)
		}
		return c.MasterForKey(ctx, r.id) // any node hears all
	case *redis.Client:
		return c, nil
	}
	return nil, fmt.Errorf("a Redis client of type %T has no masters known to the relay", r.client)
}

// reload asks for the cluster's state; it does not wait for it.
func (r *Relay) reload(ctx context.Context) {
	if c, ok := r.client.(*redis.ClusterClient); ok {
		c.ReloadState(ctx)
	}
}
