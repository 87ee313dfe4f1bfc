package store

import (
	"slices"
	"strconv"
	"strings"
)

// Lineage is a room's epoch and those it continues.
//
// Redis can come back without the newest messages: after a crash, or because a replica took
// over that did not have them. Their offsets are then taken once more, so a new epoch begins,
// which continues the former one up to what was left of it. A position beyond that leads
// nowhere: whoever holds it saw something that is in no log any more.
type Lineage struct {
	Epoch  string
	before []Position // newest first; each Offset is the last that the epoch shares with this one
}

// Shared is up to which offset an epoch's offsets mean the same in this one; ok is false if
// it is none that this one continues. For the epoch itself that is all of them.
func (l Lineage) Shared(epoch string) (offset uint64, ok bool) {
	if epoch == l.Epoch {
		return 1<<64 - 1, true
	}
	i := slices.IndexFunc(l.before, func(p Position) bool { return p.Epoch == epoch })
	if i < 0 {
		return 0, false
	}
	return l.before[i].Offset, true
}

// Continues says whether what follows a position in the log is what followed it when it was
// taken.
func (l Lineage) Continues(p Position) bool {
	shared, ok := l.Shared(p.Epoch)
	return ok && p.Offset <= shared
}

// At is the position of the entry with an offset: one of a former epoch, if it was taken then.
// So each entry has one position for ever, and everybody who reads it is told the same.
func (l Lineage) At(offset uint64) Position {
	epoch := l.Epoch
	for _, p := range l.before {
		if p.Offset < offset {
			break
		}
		epoch = p.Epoch
	}
	return Position{epoch, offset}
}

// Fork is the last offset that this lineage shares with another, on which somebody is at
// last; ok is false if they have no epoch in common.
func (l Lineage) Fork(other Lineage, last uint64) (offset uint64, ok bool) {
	for _, p := range append([]Position{{other.Epoch, last}}, other.before...) {
		if shared, ok := l.Shared(p.Epoch); ok {
			return min(shared, p.Offset, last), true
		}
	}
	return 0, false
}

// parseLineage reads the former epochs as lib/epoch.lua writes them.
func parseLineage(epoch, before string) (Lineage, bool) {
	words := strings.Fields(before)
	if epoch == "" || len(words)%2 != 0 {
		return Lineage{}, false
	}
	l := Lineage{Epoch: epoch}
	for pair := range slices.Chunk(words, 2) {
		offset, err := strconv.ParseUint(pair[1], 10, 64)
		if err != nil {
			return Lineage{}, false
		}
		l.before = append(l.before, Position{pair[0], offset})
	}
	return l, true
}
