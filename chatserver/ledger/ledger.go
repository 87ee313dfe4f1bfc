// Package ledger checks delivery. Senders note what was acknowledged to them,
// members note what they saw, and the Report compares the two: what was lost,
// doubled, put out of order or skipped without a word, in each room.
//
// The promise it holds a chat to: what was acknowledged at a position of a
// room is seen there by every member that is entitled to it, once and in order.
// A member is entitled to all that follows the position at which it joined, until
// it leaves. A connection that breaks changes nothing: the member is to come back,
// and has to be given what it missed.
//
// A position is an epoch and an offset. The next message has the next offset, in
// the same epoch or in one that continues it; where an epoch does not continue
// what a member saw, the server has to say so. What a server declares lost (it
// could not resume, it reset a room) is counted apart, as Declared: a client that
// is told can fetch the history again, one that is not cannot know.
//
// A test or a load generator that reads the wire gives every event to Observe:
//
//	l := ledger.New()
//	bob := l.Member("bob")
//	...
//	bob.Observe(event) // each event, acknowledgements included, as it comes
//	...
//	for l.Missing() > 0 && time.Now().Before(deadline) { wait a little }
//	if err := l.Report().Err(); err != nil {
//		t.Error(err)
//	}
//
// With chatserver/client the same is one line, Handle: func(e client.Event) {
// bob.Observe(e.Event) }. That client hides what the server sent twice, so that
// what is judged is what its user sees; to judge the server, read the wire.
//
// It does no I/O, knows no clock, and may be used from any goroutine. Noting
// what was seen in order allocates nothing but a kilobyte for each 64 messages
// of a room, however many members see them.
package ledger

import (
	"hash/maphash"
	"math/bits"
	"sync"
)

// Ledger is the record of one run. The zero value does not work; see New.
type Ledger struct {
	seed maphash.Seed // of the marks

	mu      sync.RWMutex
	rooms   map[string]*room
	members []*Member
	notes   findings
}

// New opens an empty ledger.
func New() *Ledger {
	return &Ledger{seed: maphash.MakeSeed(), rooms: make(map[string]*room)}
}

// Acked notes that the message that sender calls id was acknowledged at a
// position. A repeated acknowledgement of the same is no news. Together sender
// and id name one message of the room; an empty id is not compared with anything.
func (l *Ledger) Acked(room, epoch string, offset uint64, sender, id string) {
	log := l.room(room).log(epoch)
	log.ack(offset, l.mark(sender, id))
}

// Member opens the account of one reader. Name is what reports call it and, for
// Observe, the user as whom it sends. One user with two devices is two members
// of one name.
func (l *Ledger) Member(name string) *Member {
	m := &Member{ledger: l, name: name, stays: make(map[string][]*stay)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members = append(l.members, m)
	return m
}

// mark stands for a message; 0 for one without an id. Two different messages
// of a million have the same mark in one run of forty million.
func (l *Ledger) mark(sender, id string) uint64 {
	if id == "" {
		return 0
	}
	return max(1, bits.RotateLeft64(maphash.String(l.seed, sender), 1)^maphash.String(l.seed, id))
}

func (l *Ledger) room(name string) *room {
	l.mu.RLock()
	r := l.rooms[name]
	l.mu.RUnlock()
	if r != nil {
		return r
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r = l.rooms[name]; r == nil {
		r = &room{name: name}
		l.rooms[name] = r
	}
	return r
}
