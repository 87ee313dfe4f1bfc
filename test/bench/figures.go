//go:build linux

package main

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// figures are what some of the connections have seen since the last reset.
// There are several, so that connections seldom wait for one another.
type figures struct {
	mu         sync.Mutex
	deliveries *hdrhistogram.Histogram // microseconds from when it should have been sent
	acks       *hdrhistogram.Histogram
	last       int64 // unix nanoseconds of the last delivery or acknowledgement
	skipped    int   // offsets that did not come
	repeated   int   // and that came again, or late
}

// A latency is known to 1 % from 1 µs to 2 min.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, (2 * time.Minute).Microseconds(), 2)
}

func newFigures() *figures {
	return &figures{deliveries: newHistogram(), acks: newHistogram()}
}

func (f *figures) delivered(sent, now int64) { f.record(f.deliveries, sent, now) }
func (f *figures) acked(sent, now int64)     { f.record(f.acks, sent, now) }

func (f *figures) record(h *hdrhistogram.Histogram, sent, now int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = h.RecordValue(max((now-sent)/1000, 1)) // it fails beyond 2 min, which no run lasts
	f.last = max(f.last, now)
}

// check compares a message's offset with the one before it.
func (f *figures) check(offset, before uint64) {
	if offset == before+1 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if offset <= before {
		f.repeated++
	} else {
		f.skipped += int(offset - before - 1)
	}
}

func (f *figures) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deliveries.Reset()
	f.acks.Reset()
	f.last, f.skipped, f.repeated = 0, 0, 0
}

// total merges all figures.
func total(all []*figures) *figures {
	sum := newFigures()
	for _, f := range all {
		f.mu.Lock()
		sum.deliveries.Merge(f.deliveries)
		sum.acks.Merge(f.acks)
		sum.last = max(sum.last, f.last)
		sum.skipped += f.skipped
		sum.repeated += f.repeated
		f.mu.Unlock()
	}
	return sum
}

// Latency is a distribution.
type Latency struct {
	Count         int64
	P50, P99, Max time.Duration
}

func latency(h *hdrhistogram.Histogram) Latency {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond }
	return Latency{h.TotalCount(), at(50), at(99), time.Duration(h.Max()) * time.Microsecond}
}
