package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
	epoch   string
	last    uint64   // offset of the last message delivered
	recent  []*Frame // ring: the frame with offset o is at o % recentFrames
	oldest  uint64   // lowest offset in recent
	members []*member
	byOwner map[*Client]*member

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
	if m.offset == 0 {
		r.ephemeral(m.body)
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.epoch != r.epoch || m.offset > r.last+1 {
		return false
	}
	if m.offset == r.last+1 {
		r.append(m.offset, m.body)
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
	epoch, last := r.epoch, r.last
	r.mu.Unlock()
	if epoch == "" {
		return true, r.open(ctx)
	}

	log, err := r.hub.store.Read(ctx, r.name, last, fillPage)
	if err != nil {
		return false, err
	}
	r.hub.metrics.fills.Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if log.Epoch != r.epoch {
		r.reset(log.Epoch, log.First-1) // all of the new epoch is unseen
		return false, nil
	}
	if log.Last < r.last {
		r.reset(log.Epoch, log.Last)
		return true, nil
	}
	if len(log.Entries) == 0 {
		if log.Last > r.last {
			r.reset(log.Epoch, log.Last) // all that was missed has left the log
		}
		return true, nil
	}
	if first := log.Entries[0].Offset; first > r.last+1 {
		r.reset(log.Epoch, first-1)
	}
	for _, e := range log.Entries {
		r.append(e.Offset, e.Payload)
	}
	return r.last >= log.Last, nil
}

// open takes the position at the end of the log. The channel is subscribed
// already, so what comes after the position is in the inbox.
func (r *room) open(ctx context.Context) error {
	head, err := r.hub.store.Head(ctx, r.name)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch, r.last, r.oldest = head.Epoch, head.Offset, head.Offset+1
	close(r.ready)
	return nil
}

// append delivers the message that follows the position. Callers hold r.mu.
func (r *room) append(offset uint64, body []byte) {
	if offset <= r.last {
		return
	}
	rec, err := decodeRecord(body)
	if err != nil {
		// Only another program that writes to our keys can cause this. The
		// position moves on, or one bad entry would stop the room for ever.
		r.hub.log.Error("a log entry is not ours; skipped", "room", r.name, "offset", offset, "error", err)
		r.last, r.recent[offset%recentFrames] = offset, nil
		r.trimRecent()
		return
	}
	f := newFrame(rec.event(r.name, r.epoch, offset))
	r.last = offset
	r.recent[offset%recentFrames] = f
	r.trimRecent()
	r.broadcast(f)
}

// trimRecent keeps the ring's oldest offset within the ring. Callers hold r.mu.
func (r *room) trimRecent() {
	if r.last >= r.oldest+recentFrames {
		r.oldest = r.last - recentFrames + 1
	}
}

// reset starts anew from a position that the old one does not lead to, and
// tells the members, who have to read the history if they want it. Callers hold r.mu.
func (r *room) reset(epoch string, last uint64) {
	r.epoch, r.last, r.oldest = epoch, last, last+1
	r.hub.metrics.resets.Inc()
	r.broadcast(newFrame(protocol.Event{Type: protocol.TypeReset, Room: r.name, Epoch: epoch, Offset: last}))
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

// joining is how a client comes into a room.
type joining struct {
	id        string          // of the request, for the answer
	from      *store.Position // what the client saw last; nil: it starts with what is said from now on
	fromStart bool            // the client wants all that the log has
	quiet     bool            // the client did not ask and gets no answer
}

func (j joining) answer(c *Client, e protocol.Event) {
	if !j.quiet {
		e.ID = j.id
		c.Event(e)
	}
}

// errLeftBehind ends a resume whose messages left the log while they were being
// sent: the client comes back and is told that it cannot continue.
var errLeftBehind = errors.New("the room's log moved on faster than the client read")

// join makes c a member. With a position everything after it comes first, all
// of it, and the answer says so; or the answer says that it is lost.
func (r *room) join(ctx context.Context, c *Client, how joining) error {
	select {
	case <-r.ready:
	case <-ctx.Done():
		return fmt.Errorf("open room %s: %w", r.name, context.Cause(ctx))
	}
	if how.from != nil {
		if err := r.waitFor(ctx, *how.from); err != nil {
			return err
		}
	}
	r.mu.Lock()
	if how.fromStart {
		how.from = &store.Position{Epoch: r.epoch}
	}
	if how.from == nil || r.byOwner[c] != nil {
		how.answer(c, r.joined(r.last, nil))
		r.add(c)
		r.mu.Unlock()
		return nil
	}
	r.mu.Unlock()
	return r.resume(ctx, c, how, *how.from)
}

// resume gives c what was said after a position, from the log in pages and at
// the client's pace, until the rest is in memory; then c becomes a member.
func (r *room) resume(ctx context.Context, c *Client, how joining, at store.Position) error {
	done, upTo := r.resumeFromMemory(c, how, at, true)
	if done {
		r.hub.metrics.resumes.WithLabelValues("memory").Inc()
		return nil
	}
	log, err := r.hub.store.Read(ctx, r.name, at.Offset, resumePage)
	if err != nil {
		return err
	}
	if !continues(log, at) {
		r.hub.metrics.resumes.WithLabelValues("lost").Inc()
		r.joinAnew(c, how)
		return nil
	}
	how.answer(c, protocol.Event{Type: protocol.TypeJoined, Room: r.name, Epoch: at.Epoch, Offset: at.Offset, Recovered: new(true)})
	if err := r.resumeFromLog(ctx, c, how, at, log, upTo); err != nil {
		// The client was told that everything follows: only a new connection can make that true.
		return fmt.Errorf("%w: %w", errLeftBehind, err)
	}
	r.hub.metrics.resumes.WithLabelValues("log").Inc()
	return nil
}

// continues says whether a part of the log follows a position without a gap.
func continues(log store.Log, at store.Position) bool {
	return log.Epoch == at.Epoch && len(log.Entries) > 0 && log.Entries[0].Offset == at.Offset+1
}

// resumeFromLog queues the entries up to upTo, then what came meanwhile, until
// the client has caught up with the room.
func (r *room) resumeFromLog(ctx context.Context, c *Client, how joining, at store.Position, log store.Log, upTo uint64) error {
	for {
		for _, e := range log.Entries {
			if e.Offset > upTo {
				break
			}
			if err := r.enqueueEntry(ctx, c, at.Epoch, e); err != nil {
				return err
			}
			at.Offset = e.Offset
		}
		var done bool
		if done, upTo = r.resumeFromMemory(c, how, at, false); done {
			return nil
		}
		if err := c.waitForRoom(ctx); err != nil {
			return err
		}
		var err error
		if log, err = r.hub.store.Read(ctx, r.name, at.Offset, resumePage); err != nil {
			return err
		}
		if !continues(log, at) {
			return errors.New("messages left the log while they were being sent")
		}
	}
}

// enqueueEntry queues a log entry once the client has room for it. An entry that
// is not ours is left out, as it is for everybody.
func (r *room) enqueueEntry(ctx context.Context, c *Client, epoch string, e store.Entry) error {
	rec, err := decodeRecord(e.Payload)
	if err != nil {
		return nil //nolint:nilerr // append has reported it when the entry was new
	}
	if err := c.waitForRoom(ctx); err != nil {
		return err
	}
	c.enqueue(newFrame(rec.event(r.name, epoch, e.Offset)))
	return nil
}

// resumePage is how many entries a resume reads from the log at once.
const resumePage = 100

// resumeFromMemory finishes a resume if what is missing is at hand and fits the
// client's queue, or if it is lost for good. Otherwise it tells how far the log
// may be read: what comes after that is not this room's to deliver yet.
func (r *room) resumeFromMemory(c *Client, how joining, at store.Position, first bool) (done bool, upTo uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Epoch != r.epoch || at.Offset > r.last {
		how.answer(c, r.joined(r.last, new(false)))
		r.add(c)
		return true, 0
	}
	if at.Offset+1 < r.oldest {
		return false, r.last
	}
	missing := make([]*Frame, 0, r.last-at.Offset)
	for offset := at.Offset + 1; offset <= r.last; offset++ {
		if f := r.recent[offset%recentFrames]; f != nil {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 && !c.hasRoomFor(missing) {
		return false, r.last
	}
	if first {
		how.answer(c, r.joined(at.Offset, new(true)))
	}
	for _, f := range missing {
		c.enqueue(f)
	}
	r.add(c)
	return true, 0
}

// joinAnew makes c a member that missed something for good.
func (r *room) joinAnew(c *Client, how joining) {
	r.mu.Lock()
	defer r.mu.Unlock()
	how.answer(c, r.joined(r.last, new(false)))
	r.add(c)
}

// waitFor has the room read its log when a client has seen more than the room
// has: the client comes from a server that was faster.
func (r *room) waitFor(ctx context.Context, p store.Position) error {
	r.mu.Lock()
	ahead := p.Epoch != r.epoch || p.Offset > r.last
	r.mu.Unlock()
	if !ahead {
		return nil
	}
	head, err := r.hub.store.Head(ctx, r.name)
	if err != nil {
		return err
	}
	if head.Epoch != p.Epoch || head.Offset < p.Offset {
		return nil // the log does not have it either: it is lost
	}
	select {
	case <-r.catchUp():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("catch up with room %s: %w", r.name, context.Cause(ctx))
	}
}

// joined is the event for a new member: the messages after offset follow.
// Callers hold r.mu.
func (r *room) joined(offset uint64, recovered *bool) protocol.Event {
	return protocol.Event{Type: protocol.TypeJoined, Room: r.name, Epoch: r.epoch, Offset: offset, Recovered: recovered}
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
	rec, err := decodeRecord(body)
	if err != nil {
		r.hub.log.Error("a live record is not ours; skipped", "room", r.name, "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if text := rec.announcement(); text != "" && len(r.members) <= quietRoom {
		r.broadcast(newFrame(protocol.Event{Type: protocol.TypeAnnouncement, Room: r.name, Message: text}))
	}
	r.listSoon()
}

func (r record) announcement() string {
	switch r.Kind {
	case kindJoined:
		return r.User + " joined " + r.Room
	case kindLeft:
		return r.User + " left " + r.Room
	}
	return ""
}

const (
	listDelay     = 200 * time.Millisecond
	listPerMember = 5 * time.Millisecond
	listLimit     = 500 // names in a user list
)

// listSoon sends the members a new list of who is here, once for all the
// changes of the next moment; the larger the room, the longer the moment, so
// that the lists of a large room never outweigh its messages. Callers hold r.mu.
func (r *room) listSoon() {
	if r.listing || protocol.IsDirect(r.name) {
		r.listAgain = r.listing
		return
	}
	r.listing = r.hub.spawn(func(ctx context.Context) {
		for again := true; again; again = r.listedAndAgain() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.listDelay()):
			}
			r.sendList(ctx)
		}
	})
}

func (r *room) listDelay() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return listDelay + time.Duration(len(r.members))*listPerMember
}

func (r *room) listedAndAgain() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listing = r.listAgain
	return r.listing
}

func (r *room) sendList(ctx context.Context) {
	r.mu.Lock()
	r.listAgain = false // a change from here on wants another list
	r.mu.Unlock()
	users, total, err := r.hub.store.Members(ctx, r.name, listLimit)
	if err != nil {
		r.hub.log.Warn("reading a room's members failed", "room", r.name, "error", err)
		return
	}
	f := newFrame(userList(r.name, "", users, total))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if m.client.transport.Encoding() == JSON {
			m.client.enqueue(f)
		}
	}
}

// userList has a list even where nobody is: clients look for one.
func userList(room, id string, users []string, total int) protocol.Event {
	if users == nil {
		users = []string{}
	}
	return protocol.Event{Type: protocol.TypeUserList, ID: id, Room: room, Users: users, Total: total}
}
