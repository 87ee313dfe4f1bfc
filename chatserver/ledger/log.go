package ledger

import (
	"maps"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// room is what is known of one room: a log an epoch.
type room struct {
	name      string
	conflicts atomic.Int64

	mu   sync.RWMutex
	logs []*roomLog // in the order in which somebody first told of them
}

// roomLog is what all together know of the messages that a room got in one epoch.
type roomLog struct {
	room   *room
	epoch  string
	number int // in room.logs

	mu    sync.RWMutex
	pages map[uint64]*page
}

// page is 64 consecutive positions of a log.
type page struct {
	marks [64]atomic.Uint64 // of the message that was first noted at each; 0: none yet
	acked atomic.Uint64     // a bit a position
}

func (r *room) log(epoch string) *roomLog {
	is := func(l *roomLog) bool { return l.epoch == epoch }
	r.mu.RLock()
	i := slices.IndexFunc(r.logs, is)
	if i >= 0 {
		defer r.mu.RUnlock()
		return r.logs[i]
	}
	r.mu.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.logs, is); i >= 0 {
		return r.logs[i]
	}
	l := &roomLog{room: r, epoch: epoch, number: len(r.logs), pages: make(map[uint64]*page)}
	r.logs = append(r.logs, l)
	return l
}

func (l *roomLog) page(number uint64) *page {
	l.mu.RLock()
	p := l.pages[number]
	l.mu.RUnlock()
	if p != nil {
		return p
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p = l.pages[number]; p == nil {
		p = new(page)
		l.pages[number] = p
	}
	return p
}

func (l *roomLog) ack(offset, mark uint64) {
	p := l.page(offset / 64)
	if !p.claim(offset, mark) {
		l.room.conflicts.Add(1)
	}
	p.acked.Or(1 << (offset % 64))
}

// claim says that the message at offset is the one with this mark. It is false
// if another one is known to be there.
func (p *page) claim(offset, mark uint64) bool {
	slot := &p.marks[offset%64]
	switch first := slot.Load(); {
	case mark == 0 || first == mark:
		return true
	case first != 0:
		return false
	}
	return slot.CompareAndSwap(0, mark) || slot.Load() == mark
}

// sums are a log's acknowledged positions, to be counted by range.
type sums struct {
	log    *roomLog
	pages  []uint64 // numbers of the pages, ascending
	acked  []uint64 // their bits
	before []int    // acknowledged positions on all pages before each
	total  int
}

// sums are of each log of the room.
func (r *room) sums() []sums {
	r.mu.RLock()
	logs := slices.Clone(r.logs)
	r.mu.RUnlock()
	all := make([]sums, len(logs))
	for i, l := range logs {
		all[i] = l.sums()
	}
	return all
}

func (l *roomLog) sums() sums {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := sums{log: l}
	for _, number := range slices.Sorted(maps.Keys(l.pages)) {
		acked := l.pages[number].acked.Load()
		if acked == 0 {
			continue
		}
		s.pages, s.acked, s.before = append(s.pages, number), append(s.acked, acked), append(s.before, s.total)
		s.total += bits.OnesCount64(acked)
	}
	return s
}

// upTo is how many positions up to offset were acknowledged.
func (s *sums) upTo(offset uint64) int {
	i, here := slices.BinarySearch(s.pages, offset/64)
	switch {
	case here:
		return s.before[i] + bits.OnesCount64(s.acked[i]<<(63-offset%64))
	case i == len(s.pages):
		return s.total
	}
	return s.before[i]
}

// in is how many positions of a span were acknowledged. Positions begin at 1.
func (s *sums) in(r span) int { return s.upTo(r.to) - s.upTo(r.from-1) }

// position is a place in a room.
type position struct {
	log    *roomLog
	offset uint64
}

// repeated are the positions of each message that has more than one.
func (r *room) repeated() [][]position {
	first := make(map[uint64]position)
	again := make(map[uint64][]position)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, l := range r.logs {
		l.mu.RLock()
		for number, page := range l.pages {
			for i := range page.marks {
				mark, at := page.marks[i].Load(), position{l, number*64 + uint64(i)}
				switch _, known := first[mark]; {
				case mark == 0:
				case known:
					again[mark] = append(again[mark], at)
				default:
					first[mark] = at
				}
			}
		}
		l.mu.RUnlock()
	}
	var all [][]position
	for mark, more := range again {
		all = append(all, append(more, first[mark]))
	}
	return all
}
