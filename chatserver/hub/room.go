package hub

import (
	"context"
	"errors"
	"sync"
	"time"

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
	// fillPage is how many entries are read from the log at once.
	fillPage = 100
	// parallelFanout is from how many members on the work is spread over cores.
	parallelFanout = 512
	// quietRoom is the number of local members above which comings and goings
	// are no longer announced: in a crowd they would outnumber what people say.
	quietRoom = 100
)

// room is what this server knows of a room that at least one of its clients is in.
//
// Live messages go to the inbox; one goroutine at a time, started on demand,
// empties it. It is the only one that moves the position, so each member gets each message once and in order. Where the inbox does not
// continue the position (a gap, an overflow, a connection to Redis that was made
// anew) it reads the log from the position on.
type room struct {
	hub     *Hub
	name    string
	channel string
	ready   chan struct{} // closed when the position is known

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
	for {
		r.inbox.Lock()
		behind, batch, filled := r.inbox.behind, r.inbox.waiting, r.inbox.filled
		r.inbox.behind, r.inbox.waiting, r.inbox.filled = false, nil, nil
		if !behind && len(batch) == 0 {
			r.inbox.running = false
			r.inbox.Unlock()
			return
		}
		r.inbox.Unlock()

		if behind && !r.fill(ctx) {
			return // the hub ends: running stays true, so that nothing starts again
		}
		for _, done := range filled {
			close(done)
		}
		for _, m := range batch {
			if !r.apply(m) && !r.fill(ctx) {
				return
			}
		}
	}
}

// apply delivers a live message, or reports that the log has to be read first.
func (r *room) apply(m liveMessage) bool {
	if m.offset == 0 && len(m.body) > 0 {
		r.ephemeral(m.body)
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.epoch != r.line.Epoch {
		return false
	}
	if len(m.body) == 0 { // the news that this epoch began
		return true
	}
	if m.offset > r.last+1 {
		return false
	}
	if m.offset == r.last+1 {
		r.append(store.Entry{Offset: m.offset, Payload: m.body})
	}
	return true
}

// fill brings the room from its position to the end of the log, and reports
// whether it got there before the hub ended. It keeps trying: a room without
// its messages is of no use to anyone.
func (r *room) fill(ctx context.Context) bool {
	for {
		done, err := r.fillPage(ctx)
		if err == nil && done {
			return true
		}
		if err == nil {
			r.pace(ctx)
			continue
		}
		r.hub.log.Warn("reading a room's log failed; trying again", "room", r.name, "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(fillRetry):
		}
	}
}

const fillRetry = 200 * time.Millisecond

// pace waits until every member has taken most of what was read from the log,
// so that catching up does not look like slow reading. It does not wait for
// long: a member that does read slowly is not the others' problem.
func (r *room) pace(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, paceTime)
	defer cancel()
	r.mu.Lock()
	clients := make([]*Client, 0, len(r.members))
	for _, m := range r.members {
		clients = append(clients, m.client)
	}
	r.mu.Unlock()
	for _, c := range clients {
		if c.waitForRoom(ctx) != nil && ctx.Err() != nil {
			return
		}
	}
}

// paceTime bounds how long a page of the log may hold up the next one.
const paceTime = time.Second

func (r *room) fillPage(ctx context.Context) (done bool, err error) {
	r.mu.Lock()
	line, last := r.line, r.last
	r.mu.Unlock()
	if line.Epoch == "" {
		return true, r.open(ctx)
	}

	log, err := r.hub.store.Read(ctx, r.name, last, fillPage)
	if err != nil {
		return false, err
	}
	r.hub.metrics.fills.Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isStale(log) {
		return false, errStale
	}
	if !log.Continues(r.position()) {
		fork, ok := log.Fork(r.line, r.last)
		if !ok {
			fork = log.First - 1 // all of it is unseen
		}
		r.reset(log.Lineage, fork)
		return false, nil
	}
	r.line = log.Lineage
	if len(log.Entries) == 0 {
		if log.Last > r.last {
			r.reset(log.Lineage, log.Last) // all that was missed has left the log
		}
		return true, nil
	}
	if first := log.Entries[0].Offset; first > r.last+1 {
		r.reset(log.Lineage, first-1)
	}
	for _, e := range log.Entries {
		r.append(e)
	}
	return r.last >= log.Last, nil
}

// errStale is an answer of a Redis that does not know yet that another took over.
var errStale = errors.New("the log is of an epoch that has ended: another Redis has taken over")

// isStale says whether log is of an epoch that this room has left behind. A Redis that says
// so for long is not late: somebody went back to it. Callers hold r.mu.
func (r *room) isStale(log store.Log) bool {
	_, former := r.line.Shared(log.Epoch)
	if !former || log.Epoch == r.line.Epoch {
		r.staleSince = time.Time{}
		return false
	}
	if r.staleSince.IsZero() {
		r.staleSince = time.Now()
	}
	return time.Since(r.staleSince) < staleTime
}

// staleTime is how long a master may take to learn that it is none any more.
const staleTime = 15 * time.Second

// open takes the position at the end of the log. The channel is subscribed
// already, so what comes after the position is in the inbox.
func (r *room) open(ctx context.Context) error {
	head, err := r.hub.store.Head(ctx, r.name)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line, r.last, r.oldest = head.Lineage, head.Last, head.Last+1
	close(r.ready)
	return nil
}

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
	r.broadcast(newFrame(protocol.Event{Type: protocol.TypeReset, Room: r.name, Epoch: line.Epoch, Offset: last}))
}

// broadcast queues f to every member. Callers hold r.mu, which is what keeps
// one room's frames in the same order for everybody; the queues never block.
func (r *room) broadcast(f *Frame) {
	if len(r.members) < parallelFanout {
		fanOut(r.members, f)
		return
	}
	var wg sync.WaitGroup
	for chunk := range chunks(r.members, r.hub.cores) {
		wg.Go(func() { fanOut(chunk, f) })
	}
	wg.Wait()
}

func fanOut(members []*member, f *Frame) {
	for _, m := range members {
		m.client.enqueue(f)
	}
}

// chunks splits members into n parts of nearly the same size.
func chunks(members []*member, n int) func(yield func([]*member) bool) {
	return func(yield func([]*member) bool) {
		size := (len(members) + n - 1) / n
		for start := 0; start < len(members); start += size {
			if !yield(members[start:min(start+size, len(members))]) {
				return
			}
		}
	}
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

// ephemeral handles what is on the room's channel but not in its log.
func (r *room) ephemeral(body []byte) {
	rec, err := chat.Decode(body)
	if err != nil {
		r.hub.log.Error("a live record is not ours; skipped", "room", r.name, "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
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
	for _, m := range r.members {
		if m.client.login.User != but {
			m.client.enqueue(f)
		}
	}
}
