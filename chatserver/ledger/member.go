package ledger

import (
	"fmt"
	"math"
	"sync"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// Member is one reader. Its methods are called in the order in which things
// happened to it.
type Member struct {
	ledger *Ledger
	name   string

	mu    sync.Mutex
	views map[string][]*view // by room, oldest first
}

// view is what a member is to see of one log, and what it saw.
type view struct {
	log        *roomLog
	base       uint64 // it is entitled to what comes after this
	last       uint64 // the highest position it has got to
	left       bool   // and to nothing after last
	cut        bool   // another epoch followed without a word
	count      int    // messages seen, repeated ones included
	duplicated int
	reordered  int
	seen       spans
	declared   spans // what the server said is lost

	page   *page // of the last message seen
	number uint64
}

const end = math.MaxUint64

// Joined notes that the member came into a room: it is entitled to everything
// after offset. To a member that is in the room it is no news, whether it joined
// again or the server continued where it was. One that comes back without its
// position calls Left first: it asks for nothing of what it missed.
func (m *Member) Joined(room, epoch string, offset uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.current(room)
	if v != nil && v.log.epoch == epoch {
		return
	}
	if v != nil {
		v.cut = true
	}
	m.open(room, epoch, offset)
}

// Saw notes a message, or anything else that has a position in the room's log,
// in the order of arrival. A message of a room that was never joined (a direct
// one that somebody opened) makes the member one from there on. After Left it
// is counted but not judged.
func (m *Member) Saw(room, epoch string, offset uint64, sender, id string) {
	mark := m.ledger.mark(sender, id)
	m.mu.Lock()
	defer m.mu.Unlock()
	views := m.views[room]
	var v *view
	if len(views) > 0 {
		v = views[len(views)-1]
	}
	switch {
	case v == nil:
		v = m.open(room, epoch, offset-1)
	case v.left:
		v.count++
		return
	case v.log.epoch != epoch && epoch != "":
		v.cut = true
		v = m.open(room, epoch, 0)
	}
	v.saw(m, offset, mark)
}

// Reset notes that the server cannot continue where the member was and that it
// goes on after a position: what is between is declared lost.
func (m *Member) Reset(room, epoch string, offset uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.current(room)
	if v == nil {
		m.open(room, epoch, offset)
		return
	}
	if v.log.epoch != epoch {
		v.declared.cover(span{v.last + 1, end})
		v = m.open(room, epoch, 0)
	}
	if offset > v.last {
		v.declared.cover(span{v.last + 1, offset})
	}
	v.last = offset
}

// Left notes that the member leaves a room, or that it is gone without coming
// back for the rest: it is entitled to nothing more.
func (m *Member) Left(room string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.current(room); v != nil {
		v.left = true
	}
}

// Gone notes that the member leaves everything. One whose connection broke is
// not gone as long as it is to resume.
func (m *Member) Gone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for room := range m.views {
		if v := m.current(room); v != nil {
			v.left = true
		}
	}
}

// Observe notes what an event of the server means for this member; most mean
// nothing. Acknowledgements are noted under the member's name, so they fit the
// messages that others see if the member is named like its user.
func (m *Member) Observe(e protocol.Event) {
	switch e.Type {
	case protocol.TypeMessage:
		if !e.Followed && e.Offset > 0 { // those of followed users come from rooms the member is not in
			m.Saw(e.Room, e.Epoch, e.Offset, e.Username, e.ID)
		}
	case protocol.TypeAck:
		m.ledger.Acked(e.Room, e.Epoch, e.Offset, m.name, e.ID)
	case protocol.TypeJoined:
		if e.Recovered != nil && !*e.Recovered {
			m.Reset(e.Room, e.Epoch, e.Offset)
		} else {
			m.Joined(e.Room, e.Epoch, e.Offset)
		}
	case protocol.TypeReset:
		m.Reset(e.Room, e.Epoch, e.Offset)
	case protocol.TypeLeft:
		m.Left(e.Room)
	}
}

// current is the view of a room the member is in; nil if it is not. Callers hold m.mu.
func (m *Member) current(room string) *view {
	views := m.views[room]
	if len(views) == 0 || views[len(views)-1].left {
		return nil
	}
	return views[len(views)-1]
}

// open begins a view. Callers hold m.mu.
func (m *Member) open(room, epoch string, base uint64) *view {
	v := &view{log: m.ledger.room(room).log(epoch), base: base, last: base}
	m.views[room] = append(m.views[room], v)
	return v
}

func (v *view) saw(m *Member, offset, mark uint64) {
	v.count++
	if v.page == nil || v.number != offset/64 {
		v.number = offset / 64
		v.page = v.log.page(v.number)
	}
	before := v.last
	v.last = max(v.last, offset)
	if !v.page.claim(offset, mark) {
		v.log.room.conflicts.Add(1)
		m.note(func() string {
			return fmt.Sprintf("saw another message at %s than others did", v.at(span{offset, offset}))
		})
	}
	switch fresh := v.seen.add(offset); {
	case !fresh:
		v.duplicated++
		m.note(func() string { return fmt.Sprintf("saw %s again after %d", v.at(span{offset, offset}), before) })
	case offset <= before:
		v.reordered++
		m.note(func() string { return fmt.Sprintf("saw %s after %d", v.at(span{offset, offset}), before) })
	}
}

func (m *Member) note(finding func() string) {
	m.ledger.notes.add(func() string { return m.name + " " + finding() })
}
