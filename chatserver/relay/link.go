package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

const (
	// written is how many commands are taken from the line at once.
	written = 128
	// announced is how many channels one Resubscribed names at most.
	announced = 256
)

// link is one connection to one master. It is used once: go-redis would reconnect and
// resubscribe by itself without a word, and whoever reads must know.
//
// A writer goroutine makes the connection's subscriptions agree with what is wanted; a
// reader goroutine takes the answers, which come in the order of the commands.
type link struct {
	relay *Relay
	addr  string
	node  *redis.Client
	ctx   context.Context // ends when fail is called or Run ends
	fail  context.CancelCauseFunc

	probe  string        // the channel of probes, in a slot of this master
	up     chan struct{} // closed once the probe channel is subscribed
	probed chan string   // tokens that came back

	work chan struct{}

	// Relay.mu guards these.
	dirty    map[string]struct{} // channels to look at
	sent     map[string]struct{} // channels whose last command was to subscribe
	inFlight []command           // without an answer yet, oldest first
	pending  map[string]int      // commands in flight, by channel
	back     []string            // to announce by Resubscribed
}

type command struct {
	channel string
	off     bool // unsubscribe
}

func newLink(ctx context.Context, r *Relay, addr string, node *redis.Client) *link {
	ctx, fail := context.WithCancelCause(ctx)
	return &link{
		relay:   r,
		addr:    addr,
		node:    node,
		ctx:     ctx,
		fail:    fail,
		up:      make(chan struct{}),
		probed:  make(chan string, 1),
		work:    make(chan struct{}, 1),
		dirty:   map[string]struct{}{},
		sent:    map[string]struct{}{},
		pending: map[string]int{},
	}
}

// touch has the writer look at a channel. r.mu is held.
func (l *link) touch(channel string) {
	l.dirty[channel] = struct{}{}
	notify(l.work)
}

// run returns why the link ended.
func (l *link) run() error {
	ctx := l.ctx
	defer l.fail(nil)
	var err error
	if l.probe, err = l.relay.probeChannel(ctx, l.addr); err != nil {
		return err
	}

	client := singleUse(l.node)
	defer func() { _ = client.Close() }()
	ps := client.SSubscribe(ctx) // of no channels: does not connect yet
	var wg sync.WaitGroup
	wg.Go(func() { l.fail(l.write(ctx, ps)) })
	wg.Go(func() { l.fail(l.read(ctx, ps)) })
	<-ctx.Done()
	_ = ps.Close() // unblocks the reader
	wg.Wait()
	return context.Cause(ctx)
}

var errSingleUse = errors.New("the connection broke")

// singleUse is a client that dials once.
func singleUse(node *redis.Client) *redis.Client {
	o := *node.Options()
	dial := o.Dialer
	var dialled atomic.Bool
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dialled.Swap(true) {
			return nil, errSingleUse
		}
		return dial(ctx, network, addr)
	}
	o.DialerRetries = 1
	o.PoolSize, o.MinIdleConns, o.PipelinePoolSize = 1, 0, -1
	return redis.NewClient(&o)
}

func (l *link) write(ctx context.Context, ps *redis.PubSub) error {
	l.relay.mu.Lock()
	l.push(command{channel: l.probe})
	l.relay.mu.Unlock()
	if err := l.send(ctx, ps, command{channel: l.probe}); err != nil {
		return err
	}
	for {
		select {
		case <-l.work:
		case <-ctx.Done():
			return nil
		}
		for commands := l.next(); len(commands) > 0; commands = l.next() {
			for _, c := range commands {
				if err := l.send(ctx, ps, c); err != nil {
					return err
				}
			}
		}
	}
}

// next takes some dirty channels and returns the commands they need, which count as sent.
func (l *link) next() []command {
	r := l.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	var commands []command
	for channel := range l.dirty {
		if len(commands) == written {
			break
		}
		delete(l.dirty, channel)
		s := r.subs[channel]
		wanted := s != nil && s.link == l
		_, sent := l.sent[channel]
		switch {
		case wanted && !sent:
			l.sent[channel] = struct{}{}
			commands = append(commands, command{channel: channel})
		case !wanted && sent:
			delete(l.sent, channel)
			commands = append(commands, command{channel: channel, off: true})
		case wanted && l.pending[channel] == 0:
			l.ack(s)
		}
	}
	for _, c := range commands {
		l.push(c)
	}
	return commands
}

// push notes a command before it is written, so that its answer finds it. r.mu is held.
func (l *link) push(c command) {
	l.inFlight = append(l.inFlight, c)
	l.pending[c.channel]++
}

// send writes one command for one channel: several in one would have to share a slot.
func (l *link) send(ctx context.Context, ps *redis.PubSub, c command) error {
	switch {
	case l.relay.sharded && c.off:
		return ps.SUnsubscribe(ctx, c.channel)
	case l.relay.sharded:
		return ps.SSubscribe(ctx, c.channel)
	case c.off:
		return ps.Unsubscribe(ctx, c.channel)
	}
	return ps.Subscribe(ctx, c.channel)
}

func (l *link) read(ctx context.Context, ps *redis.PubSub) error {
	for {
		received, err := ps.Receive(ctx)
		if m, ok := received.(*redis.Message); ok {
			l.deliver(m)
			continue
		}
		if m, ok := received.(*redis.Subscription); ok {
			err = l.answered(m)
		} else if err != nil {
			err = l.refused(err)
		}
		if err != nil {
			return err
		}
		l.announce()
	}
}

func (l *link) deliver(m *redis.Message) {
	if m.Channel != l.probe {
		l.relay.received.Add(1)
		l.relay.handler.Live(m.Channel, []byte(m.Payload))
		return
	}
	select {
	case l.probed <- m.Payload:
	default: // nobody waits for it any more
	}
}

// answered takes the answer to a command, or the news that Redis ended a subscription
// because it gave the slot away.
func (l *link) answered(m *redis.Subscription) error {
	r := l.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	off := m.Kind == "sunsubscribe" || m.Kind == "unsubscribe"
	answer := command{channel: m.Channel, off: off}
	if len(l.inFlight) == 0 || l.inFlight[0] != answer {
		if off {
			return l.moved(m.Channel)
		}
		return fmt.Errorf("unexpected answer %s", m)
	}
	l.pop()
	if off {
		return nil
	}
	if m.Channel == l.probe {
		close(l.up)
	}
	if s := r.subs[m.Channel]; s != nil && s.link == l && l.pending[m.Channel] == 0 {
		l.ack(s)
	}
	return nil
}

// refused takes an error answer. A slot that is elsewhere concerns one channel; anything
// else ends the link.
func (l *link) refused(err error) error {
	if !redis.HasErrorPrefix(err, "MOVED") {
		return err
	}
	r := l.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.inFlight) == 0 {
		return err
	}
	return l.moved(l.pop().channel)
}

// moved has a channel placed anew. r.mu is held.
func (l *link) moved(channel string) error {
	if channel == l.probe {
		return errors.New("the slot of the probe channel moved")
	}
	delete(l.sent, channel)
	if s := l.relay.subs[channel]; s != nil && s.link == l {
		s.movedFrom = l.addr
		l.relay.unplace(s)
	}
	return nil
}

// pop removes the oldest command in flight. r.mu is held.
func (l *link) pop() command {
	c := l.inFlight[0]
	l.inFlight = l.inFlight[1:]
	if l.pending[c.channel]--; l.pending[c.channel] == 0 {
		delete(l.pending, c.channel)
	}
	return c
}

// ack notes that Redis has a subscription. r.mu is held.
func (l *link) ack(s *subscription) {
	if s.acked {
		return
	}
	s.acked = true
	close(s.ready)
	if s.lost && s.channel != l.relay.base() {
		l.back = append(l.back, s.channel)
	}
	s.lost = false
}

// announce tells the handler of channels that are back, in few calls.
func (l *link) announce() {
	r := l.relay
	r.mu.Lock()
	var back []string
	if len(l.inFlight) == 0 || len(l.back) >= announced {
		back, l.back = l.back, nil
	}
	r.mu.Unlock()
	for some := range slices.Chunk(back, announced) {
		r.handler.Resubscribed(some)
	}
}
