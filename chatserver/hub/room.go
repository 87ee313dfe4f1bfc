package hub

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

const (
	// recentFrames is how many of a room's last messages a server keeps encoded:
	// a client that was away for no longer resumes without a call to Redis.
	recentFrames = 128
	// maxInbox bounds what waits to be fanned out in one room. Beyond it the
	// inbox is thrown away and the log is read instead: nothing is lost, and the
	// memory of a room that cannot keep up stays bounded.
	maxInbox = 4096
	// burstBytes is how much text is joined into one write to each member, about:
	// what a socket's buffer takes.
	burstBytes = 64 << 10
	// A room's bursts may follow one another at once, so many of them: people who
	// talk, and a program that answers them. One that goes on faster than every
	// burstEvery gathers its messages for so long: in a room of 50 with a thousand
	// messages a second that is a fifth of the writes.
	burstsAtOnce = 20
	burstEvery   = 5 * time.Millisecond
	// chunk is how many members are written to before another core may take over:
	// a third of a millisecond's work.
	chunk = 64
	// quietRoom is the number of local members above which comings and goings
	// are no longer announced: in a crowd they would outnumber what people say.
	quietRoom = 100
)

// room is what this server knows of a room that at least one of its clients is in.
//
// Live messages go to the inbox; one goroutine at a time, started on demand,
// empties it. It is the only one that moves the position, so each member gets
// each message once and in order. Where the inbox does not continue the position
// (a gap, an overflow, a connection to Redis that was made anew) it reads the log
// from the position on.
//
// The same goroutine writes to the members, so while it does, the next messages
// gather in the inbox and go out together: the busier the server, the fewer the
// writes.
type room struct {
	hub     *Hub
	name    string
	channel string
	ready   chan struct{} // closed when the position is known
	pace    *rate.Limiter // of bursts

	inbox struct {
		sync.Mutex
		running bool
		behind  bool // the log has to be read: messages may be missing
		waiting []liveMessage
		filled  []chan struct{} // closed once the log was read after they were added
	}

	mu      sync.Mutex // guards what follows; held while a frame is queued to every member
	line    store.Lineage
	last    uint64   // offset of the last message delivered
	recent  []*Frame // ring: the frame with offset o is at o % recentFrames
	oldest  uint64   // lowest offset in recent
	members []*member
	byOwner map[*Client]*member
	burst   []*Frame  // for every member, to be queued by unlock
	idle    []*Client // have something in their queue that unlock is to write

	staleSince time.Time // guarded by mu: since when Redis answers with a former epoch

	refs   int       // guarded by Hub.mu: clients in or on their way into the room
	unused time.Time // guarded by Hub.mu: since when refs is 0

	listing   bool // guarded by mu: a user list is on its way
	listAgain bool // guarded by mu: and is out of date already
}

// member is a client in a room.
type member struct {
	client *Client
	index  int // in room.members
}

type liveMessage struct {
	offset uint64
	epoch  string
	body   []byte
}

func newRoom(h *Hub, name string) *room {
	return &room{
		hub: h, name: name, channel: store.RoomChannel(name), ready: make(chan struct{}),
		pace:   rate.NewLimiter(rate.Every(burstEvery), burstsAtOnce),
		recent: make([]*Frame, recentFrames), byOwner: map[*Client]*member{},
	}
}

// live takes a message from the relay. It never blocks.
func (r *room) live(m liveMessage) {
	r.inbox.Lock()
	if len(r.inbox.waiting) >= maxInbox {
		r.inbox.waiting, r.inbox.behind = nil, true
	} else if !r.inbox.behind || m.offset == 0 {
		r.inbox.waiting = append(r.inbox.waiting, m)
	}
	r.start()
	r.inbox.Unlock()
}

// catchUp has the room read its log, because something may have been missed.
// The channel is closed when that is done.
func (r *room) catchUp() <-chan struct{} {
	done := make(chan struct{})
	r.inbox.Lock()
	r.inbox.behind = true
	r.inbox.filled = append(r.inbox.filled, done)
	r.start()
	r.inbox.Unlock()
	return done
}

// start runs the inbox's goroutine unless it runs already. Callers hold r.inbox.
func (r *room) start() {
	if !r.inbox.running {
		r.inbox.running = r.hub.spawn(r.process)
	}
}

// process empties the inbox and ends.
func (r *room) process(ctx context.Context) {
	for r.hasWork() {
		if r.pace.Wait(ctx) != nil {
			return // the hub ends: running stays true, so that nothing starts again
		}
		r.inbox.Lock()
		behind, batch, filled := r.inbox.behind, r.inbox.waiting, r.inbox.filled
		r.inbox.behind, r.inbox.waiting, r.inbox.filled = false, nil, nil
		r.inbox.Unlock()

		if behind && !r.fill(ctx) {
			return
		}
		for _, done := range filled {
			close(done)
		}
		for len(batch) > 0 {
			n, continues := r.apply(batch)
			batch = batch[n:]
			if !continues && !r.fill(ctx) {
				return
			}
		}
	}
}

// hasWork says whether the inbox has something; if not, its goroutine has to end.
func (r *room) hasWork() bool {
	r.inbox.Lock()
	defer r.inbox.Unlock()
	r.inbox.running = r.inbox.behind || len(r.inbox.waiting) > 0 || len(r.inbox.filled) > 0
	return r.inbox.running
}

// apply delivers live messages, as many as make a burst, and returns how many it
// is done with. If it returns false the log has to be read before the rest.
func (r *room) apply(batch []liveMessage) (done int, continues bool) {
	r.mu.Lock()
	defer r.unlock()
	for size := 0; done < len(batch); done++ {
		m := batch[done]
		if size += len(m.body); size > r.burstLimit() && done > 0 {
			break
		}
		switch {
		case m.offset == 0 && len(m.body) > 0:
			r.ephemeral(m.body)
		case m.epoch != r.line.Epoch:
			return done + 1, false
		case len(m.body) == 0: // the news that this epoch began
		case m.offset > r.last+1:
			return done + 1, false
		case m.offset == r.last+1:
			r.append(store.Entry{Offset: m.offset, Payload: m.body})
		}
	}
	return done, true
}

// burstLimit is how many bytes may become one burst: a burst that does not fit
// into a queue would cut everybody off.
func (r *room) burstLimit() int { return min(burstBytes, r.hub.cfg.QueueBytes/4) }

// append delivers the entry that follows the position. Callers hold r.mu.
func (r *room) append(entry store.Entry) {
	offset := entry.Offset
	if offset <= r.last {
		return
	}
	event, ok := chat.EntryEvent(r.name, r.line.At(offset).Epoch, entry)
	if !ok {
		// Only another program that writes to our keys can cause this. The
		// position moves on, or one bad entry would stop the room for ever.
		r.hub.log.Error("a log entry is not ours; skipped", "room", r.name, "offset", offset)
		r.last, r.recent[offset%recentFrames] = offset, nil
		r.trimRecent()
		return
	}
	if event.Type == protocol.TypeDeleted {
		r.forget(event.Ref)
	}
	f := newFrame(event)
	r.last = offset
	r.recent[offset%recentFrames] = f
	r.trimRecent()
	r.broadcast(f)
	r.hub.metrics.arrived(event)
}

// forget leaves only the place of a deleted message in memory: who resumes from
// there must not get what the log no longer has. Callers hold r.mu.
func (r *room) forget(offset uint64) {
	if offset < r.oldest || offset > r.last || r.recent[offset%recentFrames] == nil {
		return
	}
	e := r.recent[offset%recentFrames].event
	r.recent[offset%recentFrames] = newFrame(protocol.Event{
		Type: protocol.TypeMessage, Room: e.Room, Username: e.Username, Timestamp: e.Timestamp,
		Epoch: e.Epoch, Offset: e.Offset, Deleted: true,
	})
}

// trimRecent keeps the ring's oldest offset within the ring. Callers hold r.mu.
func (r *room) trimRecent() {
	if r.last >= r.oldest+recentFrames {
		r.oldest = r.last - recentFrames + 1
	}
}

// reset starts anew from a position that the old one does not lead to, and
// tells the members, who have to read the history if they want it. Callers hold r.mu.
func (r *room) reset(line store.Lineage, last uint64) {
	r.line, r.last, r.oldest = line, last, last+1
	r.hub.metrics.resets.Inc()
	at := r.position()
	r.broadcast(newFrame(protocol.Event{Type: protocol.TypeReset, Room: r.name, Epoch: at.Epoch, Offset: at.Offset}))
}

// broadcast sends f to every member, when r.mu is given back by unlock.
// Callers hold r.mu.
func (r *room) broadcast(f *Frame) { r.burst = append(r.burst, f) }

// unlock queues what was broadcast, gives r.mu back, and writes.
func (r *room) unlock() {
	r.queueBurst()
	idle := r.idle
	r.idle = nil
	r.mu.Unlock()
	r.hub.flush(idle)
}

// queueBurst queues what was broadcast to every member. That this happens under
// r.mu keeps one room's frames in the same order for everybody. Callers hold r.mu.
func (r *room) queueBurst() {
	if len(r.burst) == 0 {
		return
	}
	f := joined(r.burst)
	r.burst = nil
	r.idle = slices.Grow(r.idle, len(r.members))
	for _, m := range r.members {
		if m.client.push(f) {
			r.idle = append(r.idle, m.client)
		}
	}
}

// flush writes to clients. The cores share the work in chunks, each taking the
// next when it is done with one: on a busy machine they are not equally fast.
func (h *Hub) flush(clients []*Client) {
	var next atomic.Int64
	work := func() {
		for {
			end := int(next.Add(chunk))
			if end-chunk >= len(clients) {
				return
			}
			for _, c := range clients[end-chunk : min(end, len(clients))] {
				c.flush()
			}
		}
	}
	var others sync.WaitGroup
	for range min(h.cores, (len(clients)+chunk-1)/chunk) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}

// add makes c a member, if it is not one. Callers hold r.mu.
func (r *room) add(c *Client) {
	if r.byOwner[c] != nil {
		return
	}
	m := &member{client: c, index: len(r.members)}
	r.members = append(r.members, m)
	r.byOwner[c] = m
}

// part ends c's membership.
func (r *room) part(c *Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.byOwner[c]
	if m == nil {
		return
	}
	delete(r.byOwner, c)
	end := len(r.members) - 1
	r.members[m.index] = r.members[end]
	r.members[m.index].index = m.index
	r.members[end] = nil
	r.members = r.members[:end]
}

// has reports whether c is a member.
func (r *room) has(c *Client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byOwner[c] != nil
}

// ephemeral handles what is on the room's channel but not in its log. Callers
// hold r.mu.
func (r *room) ephemeral(body []byte) {
	rec, err := chat.Decode(body)
	if err != nil {
		r.hub.log.Error("a live record is not ours; skipped", "room", r.name, "error", err)
		return
	}
	switch rec.Kind {
	case chat.KindInfo:
		r.broadcast(newFrame(protocol.Event{Type: protocol.TypeRoomInfo, Room: r.name, Info: rec.Info}))
	case chat.KindTyping:
		r.tellOthers(rec.User, protocol.Event{Type: protocol.TypeTyping, Room: r.name, Username: rec.User})
	case chat.KindRead:
		r.tellOthers("", protocol.Event{Type: protocol.TypeRead, Room: r.name, Username: rec.User, Ref: rec.Ref})
	case chat.KindJoined:
		r.tellOthers("", protocol.Event{Type: protocol.TypeAnnouncement, Room: r.name, Message: rec.User + " joined " + rec.Room})
		r.listSoon()
	case chat.KindLeft:
		r.tellOthers("", protocol.Event{Type: protocol.TypeAnnouncement, Room: r.name, Message: rec.User + " left " + rec.Room})
		r.listSoon()
	case chat.KindChanged:
		r.listSoon()
	}
}

// tellOthers tells the members, but a user, what one of them does, unless they
// are a crowd. Callers hold r.mu.
func (r *room) tellOthers(but string, e protocol.Event) {
	if len(r.members) > quietRoom {
		return
	}
	f := newFrame(e)
	r.queueBurst()
	for _, m := range r.members {
		if m.client.login.User != but && m.client.push(f) {
			r.idle = append(r.idle, m.client)
		}
	}
}
