// Package memory has a process that is quiet give memory back to the system.
//
// Go keeps as much memory for garbage as there is of live objects and stacks, and
// gives back no more than what goes beyond that. To a server that has thousands of
// connections on which little is said, that is most of what it holds; and where
// nothing is allocated, nothing is collected either. So here a quiet process
// collects once more, and returns what is free. A busy one is left alone: the
// collector would be at work again in a moment.
//
// It knows the Go runtime and nothing of what the process does.
package memory

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// lookEvery is how often a process is looked at.
const lookEvery = 30 * time.Second

// GiveBack looks after the process until ctx ends.
func GiveBack(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for before, least := look(), uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := look()
		least = min(least, now.held)
		if quiet(before, now) && worthwhile(least, now) {
			debug.FreeOSMemory()
			now = look()
			least = now.held
		}
		before = now
	}
}

// sample is what a process has allocated since it began, and what it holds of the
// system's memory for it, in bytes.
type sample struct{ allocated, held uint64 }

// quiet says that between two looks a process allocated less than it holds, so that
// the collector is idle for most of the time.
func quiet(before, now sample) bool { return now.allocated-before.allocated < now.held/4 }

// worthwhile says that since it last gave memory back a process has come to hold so
// much more that it may have something to give.
func worthwhile(least uint64, now sample) bool { return now.held-least > max(now.held/8, 4<<20) }

func look() sample {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	held := uint64(0)
	for _, class := range s[1:] {
		held += class.Value.Uint64()
	}
	return sample{allocated: s[0].Value.Uint64(), held: held}
}
