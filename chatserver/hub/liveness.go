package hub

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

const (
	heartbeatEvery = time.Second
	// heartbeatTTL is how long a server counts as alive after its last
	// heartbeat, and so how long a crashed one's users look online.
	heartbeatTTL = 5 * time.Second
	// lingerRoom is how long a room without clients is kept.
	lingerRoom = 10 * time.Second
)

// watchPauses notices when this process stood still, because it was stopped or its machine
// was. After the time a heartbeat lives the others count it as dead and its clients have gone
// elsewhere; what they asked for here waits in the connections, long out of date. So none of
// those connections is served any more. Clients that are still there come back.
func (h *Hub) watchPauses(ctx context.Context) {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		if since := h.sincePulse(); since > heartbeatTTL {
			h.log.Warn("this server stood still: its connections are closed, so that nothing out of date is done", "for", since)
			h.life.Add(1) // before the pulse: a request in between sees one or the other
			h.eachClient(func(c *Client) { h.spawn(func(context.Context) { c.closeIfStale() }) })
		}
		h.pulse.Store(int64(time.Since(h.born)))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pulseEvery is how often a server notes that it runs.
const pulseEvery = 250 * time.Millisecond

func (h *Hub) sincePulse() time.Duration { return time.Since(h.born) - time.Duration(h.pulse.Load()) }

// isStale says whether the server stood still since the client came.
func (c *Client) isStale() bool {
	return c.life != c.hub.life.Load() || c.hub.sincePulse() > heartbeatTTL
}

func (c *Client) closeIfStale() {
	if c.isStale() {
		c.close(protocol.CloseServiceRestart, "the server stood still for a while: connect again and resume")
	}
}

func (h *Hub) eachClient(f func(*Client)) {
	h.mu.Lock()
	clients := slices.Collect(maps.Keys(h.clients))
	h.mu.Unlock()
	for _, c := range clients {
		f(c)
	}
}

// heartbeats tells the other servers that this one lives. Nothing else is done
// here: a heartbeat that waits for other work is one that comes too late.
func (h *Hub) heartbeats(ctx context.Context) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		h.heartbeat(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (h *Hub) heartbeat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTTL/2)
	defer cancel()
	err := h.store.Heartbeat(ctx, heartbeatTTL)
	if errors.Is(err, store.ErrLapsed) {
		h.lapsed.Store(true)
		err = nil
	}
	if err != nil {
		h.log.Warn("the heartbeat failed", "error", err)
		return
	}
	h.beat.Store(time.Now().UnixNano())
}

// upkeep makes presence in Redis right: this server's own where it is not, and
// that of servers which died.
func (h *Hub) upkeep(ctx context.Context) {
	// A process that came back under the same id has swept up after itself.
	h.announce(ctx, h.store.Inherited().Rooms)
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		h.keepUp(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (h *Hub) keepUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keepUpTime)
	defer cancel()
	lapsed, unsettled := h.lapsed.Swap(false), h.unsettles.Swap(false)
	if lapsed || unsettled {
		h.settle(ctx, lapsed)
	}
	if err := h.listServers(ctx); err != nil {
		h.log.Warn("listing the servers failed", "error", err)
		return
	}
	for _, server := range *h.dead.Load() {
		h.sweep(ctx, server)
	}
}

// keepUpTime bounds one round of upkeep; what it did not get to waits for the next.
const keepUpTime = 30 * time.Second

func (h *Hub) listServers(ctx context.Context) error {
	live, dead, err := h.store.Servers(ctx)
	if err != nil {
		return err
	}
	h.live.Store(&live)
	h.dead.Store(&dead)
	return nil
}

func (h *Hub) liveServers() []string {
	if live := h.live.Load(); live != nil {
		return *live
	}
	return []string{h.store.Name()}
}

// sweep removes what a dead server held.
func (h *Hub) sweep(ctx context.Context, server string) {
	swept, err := h.store.Sweep(ctx, server)
	if err != nil {
		h.log.Warn("sweeping up after a server failed; trying again with the next heartbeat", "server", server, "error", err)
		return
	}
	h.metrics.swept.Inc()
	h.log.Info("swept up after a server that died", "server", server, "users", swept.Users, "rooms", len(swept.Rooms))
	h.announce(ctx, swept.Rooms)
}

// announce tells the servers that users went from these rooms.
func (h *Hub) announce(ctx context.Context, rooms []string) {
	for _, room := range rooms {
		h.chat.Broadcast(ctx, store.RoomChannel(room), chat.Record{Kind: chat.KindChanged})
	}
}

// unsettled notes that presence in Redis is not what it should be.
func (h *Hub) unsettled(err error, doing, user string) {
	h.log.Warn("presence could not be stored; the next heartbeat does it", "doing", doing, "user", user, "error", err)
	h.unsettles.Store(true)
}

// settle stores the presence of everybody here again, under a new name; what
// the old name held is swept like that of any server that died. After a lapse
// there is a new name already.
func (h *Hub) settle(ctx context.Context, lapsed bool) {
	if !lapsed {
		if err := h.store.Renew(ctx, heartbeatTTL); err != nil {
			h.unsettled(err, "settling", "")
			return
		}
	}
	if err := h.listServers(ctx); err != nil {
		h.unsettled(err, "settling", "")
		return
	}
	h.mu.Lock()
	users := slices.Collect(maps.Values(h.users))
	h.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(settlers)
	for _, u := range users {
		g.Go(func() error {
			err := u.assert(ctx)
			if err != nil {
				h.unsettled(err, "settling", u.name)
			}
			return err
		})
	}
	if g.Wait() == nil {
		h.log.Info("stored the presence of all users here again", "users", len(users))
	}
}

// settlers is how many users are settled at once.
const settlers = 32

// tidy forgets rooms that nobody has been in for a while.
func (h *Hub) tidy(ctx context.Context) {
	tick := time.NewTicker(lingerRoom / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h.mu.Lock()
			for name, r := range h.rooms {
				if r.refs == 0 && now.Sub(r.unused) > lingerRoom {
					delete(h.rooms, name)
					h.relay.Unsubscribe(r.channel)
				}
			}
			h.mu.Unlock()
		}
	}
}

// Drain sends every client away, spread over the drain window so that the other
// servers get them one by one, and returns when all are gone or ctx ends. What
// a client was being answered is answered; what it sent after that was not
// acknowledged, and it sends it again elsewhere.
func (h *Hub) Drain(ctx context.Context) {
	h.mu.Lock()
	h.draining = true
	h.noteEmptyLocked()
	clients := make([]*Client, 0, len(h.clients))
	for c := range h.clients {
		clients = append(clients, c)
	}
	h.mu.Unlock()
	h.log.Info("draining", "clients", len(clients), "window", h.cfg.DrainWindow)

	// The closes leave time within the window for the last of them to finish.
	step := h.cfg.DrainWindow * 3 / 4 / time.Duration(max(len(clients), 1))
	step = min(step, maxDrainStep)
	for _, c := range clients {
		c.sendAway()
		select {
		case <-ctx.Done():
			return
		case <-time.After(rand.N(2*step + 1)):
		}
	}
	select {
	case <-ctx.Done():
		return
	case <-h.empty:
	}
	h.log.Info("drained", "clients", len(clients))
}

// maxDrainStep keeps the drain of a nearly empty server short.
const maxDrainStep = 100 * time.Millisecond

// reconnectSpread is over how long clients are asked to spread their return, in milliseconds.
const reconnectSpread = 1000

// sendAway closes the connection so that the client comes back elsewhere. It
// waits for the request that is being handled.
func (c *Client) sendAway() {
	c.hub.spawn(func(context.Context) {
		c.handling.Lock()
		defer c.handling.Unlock()
		if c.opts.Full || c.transport.Encoding() == Line {
			c.Event(protocol.Event{Type: protocol.TypeReconnect, After: rand.Int64N(reconnectSpread)})
		}
		c.close(protocol.CloseServiceRestart, "the server is going away: connect again")
	})
}
