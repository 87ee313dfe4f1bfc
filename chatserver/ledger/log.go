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

	mu   sync.Mutex
	logs map[string]*roomLog
}

// roomLog is what all together know of a room's log in one epoch.
type roomLog struct {
	room  *room
	epoch string

	mu    sync.RWMutex
	pages map[uint64]*page
}

// page is 64 consecutive positions of a log.
type page struct {
	marks [64]atomic.Uint64 // of the message that was first noted at each; 0: none yet
	acked atomic.Uint64     // a bit a position
}

func (r *room) log(epoch string) *roomLog {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.logs[epoch]
	if l == nil {
		l = &roomLog{room: r, epoch: epoch, pages: make(map[uint64]*page)}
		r.logs[epoch] = l
	}
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
	pages  []uint64 // numbers of the pages, ascending
	acked  []uint64 // their bits
	before []int    // acknowledged positions on all pages before each
	total  int
}

func (l *roomLog) sums() sums {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var s sums
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

// repeated calls f for each position of the room at which a message is that
// another position has as well.
func (r *room) repeated(f func(epoch string, offset uint64)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[uint64]struct{})
	for _, epoch := range slices.Sorted(maps.Keys(r.logs)) {
		l := r.logs[epoch]
		l.mu.RLock()
		for _, number := range slices.Sorted(maps.Keys(l.pages)) {
			for i := range l.pages[number].marks {
				mark := l.pages[number].marks[i].Load()
				if mark == 0 {
					continue
				}
				if _, again := seen[mark]; again {
					f(epoch, number*64+uint64(i))
				}
				seen[mark] = struct{}{}
			}
		}
		l.mu.RUnlock()
	}
}
