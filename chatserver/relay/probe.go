package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	probeInterval = 3 * time.Second // between rounds, ± 20 %
	probeTimeout  = 3 * time.Second // until the probes of a round are published
	hearTimeout   = 2 * time.Second // and from there until they are heard
	// probeNames is how many channel names are tried to find one in a slot of a master.
	probeNames = 4096
)

var (
	errProbeLost = errors.New("a probe was published but did not come back")
	errProbeLate = errors.New("no answer in time")
)

// Probe publishes on each connection's probe channel now and waits to hear it. A connection
// that does not hear it is made anew.
func (r *Relay) Probe(ctx context.Context) error {
	select {
	case r.probing <- struct{}{}:
		defer func() { <-r.probing }()
	case <-r.stopped:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, errProbeLate)
	defer cancel()
	err := r.probeAll(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.health = err
	return err
}

// Healthy is nil, or what the last round of probes found.
func (r *Relay) Healthy() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.health
}

func (r *Relay) probeForever(ctx context.Context) {
	wasHealthy := true
	for ctx.Err() == nil {
		err := r.Probe(ctx)
		if healthy := err == nil; healthy != wasHealthy && ctx.Err() == nil {
			r.log.Info("relay health changed", "healthy", healthy, "error", err)
			wasHealthy = healthy
		}
		jitter := rand.N(probeInterval * 2 / 5)
		select {
		case <-time.After(probeInterval*4/5 + jitter):
		case <-ctx.Done():
		}
	}
}

func (r *Relay) probeAll(ctx context.Context) error {
	if err := r.Subscribe(ctx, r.base()); err != nil {
		return err
	}
	r.mu.Lock()
	links := slices.Collect(maps.Values(r.links))
	r.mu.Unlock()
	errs := make([]error, len(links)+1)
	var wg sync.WaitGroup
	for i, l := range links {
		wg.Go(func() { errs[i] = l.prove(ctx) })
	}
	wg.Wait()
	errs[len(links)] = r.leftBehind()
	return errors.Join(errs...)
}

// base is a channel that is always wanted: a server without rooms has a connection to prove, too.
func (r *Relay) base() string { return "relay:{" + r.id + "}:base" }

// leftBehind is an error if channels have no link.
func (r *Relay) leftBehind() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.unplaced) == 0 || r.lastErr == nil {
		return nil
	}
	return fmt.Errorf("%d channels are not subscribed: %w", len(r.unplaced), r.lastErr)
}

// prove hears one probe. A probe that could not be published says nothing about the link,
// so that is left as it is.
func (l *link) prove(ctx context.Context) error {
	select {
	case <-l.up:
	case <-l.ctx.Done():
		return l.broken(context.Cause(l.ctx))
	case <-ctx.Done():
		return l.dead(ctx, errProbeLate)
	}
	token := strconv.FormatUint(rand.Uint64(), 36)
	if err := l.relay.publish(ctx, l.probe, token); err != nil {
		return fmt.Errorf("publish a probe through Redis %s: %w", l.addr, err)
	}
	return l.hear(ctx, token)
}

func (l *link) hear(ctx context.Context, token string) error {
	// However long the publish took: Redis sent the probe before it answered.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), hearTimeout, errProbeLate)
	defer cancel()
	for {
		select {
		case heard := <-l.probed:
			if heard == token {
				l.relay.proved(l.addr)
				return nil
			}
		case <-l.ctx.Done():
			return l.broken(context.Cause(l.ctx))
		case <-ctx.Done():
			return l.dead(ctx, errProbeLost)
		}
	}
}

// dead ends a link that did not answer in time. If instead the caller of Probe gave up, that
// says nothing about the link.
func (l *link) dead(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); !errors.Is(cause, errProbeLate) {
		return l.broken(cause)
	}
	l.fail(err)
	return l.broken(err)
}

func (l *link) broken(err error) error {
	return fmt.Errorf("subscriptions at Redis %s: %w", l.addr, err)
}

func (r *Relay) proved(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.holdoffs, addr)
}

func (r *Relay) publish(ctx context.Context, channel, payload string) error {
	if r.sharded {
		return r.client.SPublish(ctx, channel, payload).Err()
	}
	return r.client.Publish(ctx, channel, payload).Err()
}

// probeChannel finds a name in a slot of the master at addr.
func (r *Relay) probeChannel(ctx context.Context, addr string) (string, error) {
	for i := range probeNames {
		name := fmt.Sprintf("relay:{%s.%d}:probe", r.id, i)
		if _, cluster := r.client.(*redis.ClusterClient); !cluster || !r.sharded {
			return name, nil
		}
		node, err := r.master(ctx, name)
		if err != nil {
			return "", err
		}
		if node.Options().Addr == addr {
			return name, nil
		}
	}
	return "", errors.New("the node serves no slots")
}
