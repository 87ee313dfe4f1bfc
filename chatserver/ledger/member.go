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
	stays map[string][]*stay // by room, oldest first
}

// Joined notes that the member came into a room: it is entitled to everything
// after offset. To a member that is in the room it is no news, whether it joined
// again or the server continued where it was. One that comes back without its
// position calls Left first: it asks for nothing of what it missed.
func (m *Member) Joined(room, epoch string, offset uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current(room) == nil {
		m.enter(room, epoch, offset)
	}
}

// Saw notes a message, or anything else that has a position in the room, in the
// order of arrival. A message of a room that was never joined (a direct one that
// somebody opened) makes the member one from there on. After Left it is counted
// but not judged.
func (m *Member) Saw(room, epoch string, offset uint64, sender, id string) {
	mark := m.ledger.mark(sender, id)
	m.mu.Lock()
	defer m.mu.Unlock()
	var s *stay
	if stays := m.stays[room]; len(stays) > 0 {
		s = stays[len(stays)-1]
	} else {
		s = m.enter(room, epoch, offset-1)
	}
	s.saw(m, epoch, offset, mark)
}

// Reset notes that the server cannot continue where the member was and that it
// goes on after a position: what is between is declared lost.
func (m *Member) Reset(room, epoch string, offset uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.current(room); s != nil {
		s.reset(epoch, offset)
	} else {
		m.enter(room, epoch, offset)
	}
}

// Left notes that the member leaves a room, or that it is gone without coming
// back for the rest: it is entitled to nothing more.
func (m *Member) Left(room string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.current(room); s != nil {
		s.left = true
	}
}

// Gone notes that the member leaves everything. One whose connection broke is
// not gone as long as it is to resume.
func (m *Member) Gone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for room := range m.stays {
		if s := m.current(room); s != nil {
			s.left = true
		}
	}
}

// Observe notes what an event of the server means for this member; most mean
// nothing. Acknowledgements are noted under the member's name, so they fit the
// messages that others see if the member is named like its user.
func (m *Member) Observe(e protocol.Event) {
	switch e.Type {
	case protocol.TypeMessage, protocol.TypeEdited, protocol.TypeDeleted, protocol.TypeReaction:
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

// current is the stay in a room the member is in; nil if it is in it not. Callers hold m.mu.
func (m *Member) current(room string) *stay {
	stays := m.stays[room]
	if len(stays) == 0 || stays[len(stays)-1].left {
		return nil
	}
	return stays[len(stays)-1]
}

// enter begins a stay. Callers hold m.mu.
func (m *Member) enter(room, epoch string, base uint64) *stay {
	s := &stay{room: m.ledger.room(room), base: base, run: run{base: base, last: base}}
	s.part = s.of(epoch)
	s.first = s.part.log.number
	m.stays[room] = append(m.stays[room], s)
	return s
}

func (m *Member) note(finding func() string) {
	m.ledger.notes.add(func() string { return m.name + " " + finding() })
}

// stay is a member's time in a room, from a join until it leaves.
type stay struct {
	room       *room
	first      int    // it is due what was acknowledged in this epoch
	base       uint64 // after this offset, and in those that came later
	left       bool   // and nothing after the last offset
	told       int    // the epochs before this one were declared over
	parts      []*part
	part       *part // of the last message
	era        int   // how often the past was declared over
	run        run
	count      int // messages seen, repeated ones included
	duplicated int
	reordered  int
	gaps       int // of former runs
}

// part is what was seen in one epoch.
type part struct {
	log      *roomLog
	era      int
	seen     spans
	declared spans // what the server said is lost

	page   *page // of the last message
	number uint64
}

// run is what was seen since offsets last went back. They mean the same in all
// of its epochs.
type run struct {
	base, last     uint64 // the highest offset it has got to
	seen, declared spans
}

const end = math.MaxUint64

// of is the part of an epoch.
func (s *stay) of(epoch string) *part {
	for _, p := range s.parts {
		if p.log.epoch == epoch {
			return p
		}
	}
	p := &part{log: s.room.log(epoch), era: s.era}
	s.parts = append(s.parts, p)
	return p
}

func (s *stay) saw(m *Member, epoch string, offset, mark uint64) {
	s.count++
	if s.left {
		return
	}
	if epoch != "" && epoch != s.part.log.epoch {
		s.part = s.of(epoch)
	}
	p := s.part
	if p.page == nil || p.number != offset/64 {
		p.number = offset / 64
		p.page = p.log.page(p.number)
	}
	if !p.page.claim(offset, mark) {
		s.room.conflicts.Add(1)
		m.note(func() string {
			return fmt.Sprintf("saw another message at %s than others did", p.log.at(offset, offset))
		})
	}
	before := s.run.last
	switch fresh, next := p.seen.add(offset), s.run.seen.add(offset); {
	case !fresh:
		s.duplicated++
		m.note(func() string { return fmt.Sprintf("saw %s again after %d", p.log.at(offset, offset), before) })
	case !next: // the offset was seen in another epoch
		s.gaps++
		s.goBack(offset - 1)
		s.run.seen.add(offset)
		m.note(func() string {
			return fmt.Sprintf("was taken back to %s from %d without a word", p.log.at(offset, offset), before)
		})
		before = offset - 1
	case offset <= before:
		s.reordered++
		m.note(func() string { return fmt.Sprintf("saw %s after %d", p.log.at(offset, offset), before) })
	}
	s.run.last = max(before, offset)
}

// reset has the stay go on after a position.
func (s *stay) reset(epoch string, offset uint64) {
	from := s.run.last + 1
	if epoch != s.part.log.epoch {
		s.era++
		s.part = s.of(epoch)
		s.told = max(s.told, s.part.log.number)
		from = 1 // nothing of the new epoch was seen
	}
	if from <= offset {
		s.part.declared.cover(span{from, offset})
	}
	if offset < s.run.last {
		s.goBack(offset)
	} else if offset > s.run.last {
		s.run.declared.cover(span{s.run.last + 1, offset})
		s.run.last = offset
	}
}

// goBack begins a run.
func (s *stay) goBack(base uint64) {
	s.run.gaps(func(span) { s.gaps++ })
	s.run = run{base: base, last: base}
}

// gaps calls f for what was left out on the way without a word.
func (r *run) gaps(f func(span)) {
	if r.base < r.last {
		r.seen.missing(span{r.base + 1, r.last}, func(hole span) { r.declared.missing(hole, f) })
	}
}
