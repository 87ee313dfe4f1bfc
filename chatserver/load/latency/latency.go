// Package latency collects times from very many goroutines at once, in HDR
// histograms: constant memory, three digits.
package latency

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	lowest  = int64(time.Microsecond / unit)
	highest = int64(time.Hour / unit) // what takes longer is counted as this
	digits  = 3
	unit    = time.Microsecond
)

// shards is how many recordings can go on at once.
const shards = 8

// Recorder collects times. The zero value is ready.
type Recorder struct {
	parts [shards]struct {
		mu   sync.Mutex
		hist *hdrhistogram.Histogram // since the last Drain; nil: nothing
		_    [40]byte                // no two of them on one cache line
	}

	mu    sync.Mutex
	total *hdrhistogram.Histogram // up to the last Drain
}

// Record adds a time. Callers with different shards do not wait for one another.
func (r *Recorder) Record(shard int, d time.Duration) {
	value := min(max(int64(d/unit), 0), highest)
	p := &r.parts[uint(shard)%shards]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hist == nil {
		p.hist = hdrhistogram.New(lowest, highest, digits)
	}
	_ = p.hist.RecordValue(value) // it is in range
}

// Drain is what was recorded since it was called last.
func (r *Recorder) Drain() Times {
	r.mu.Lock()
	defer r.mu.Unlock()
	var t Times
	for i := range r.parts {
		p := &r.parts[i]
		p.mu.Lock()
		if p.hist != nil {
			t.merge(p.hist)
			p.hist.Reset()
		}
		p.mu.Unlock()
	}
	if t.hist != nil {
		if r.total == nil {
			r.total = hdrhistogram.New(lowest, highest, digits)
		}
		r.total.Merge(t.hist)
	}
	return t
}

// Total is all that was recorded. It takes nothing from the next Drain.
func (r *Recorder) Total() Times {
	r.mu.Lock()
	defer r.mu.Unlock()
	var t Times
	t.merge(r.total)
	for i := range r.parts {
		p := &r.parts[i]
		p.mu.Lock()
		t.merge(p.hist)
		p.mu.Unlock()
	}
	return t
}

// Times are what a Recorder has collected. The zero value is none.
type Times struct{ hist *hdrhistogram.Histogram }

// Add puts more together with t.
func (t *Times) Add(more Times) { t.merge(more.hist) }

func (t *Times) merge(more *hdrhistogram.Histogram) {
	if more == nil || more.TotalCount() == 0 {
		return
	}
	if t.hist == nil {
		t.hist = hdrhistogram.New(lowest, highest, digits)
	}
	t.hist.Merge(more)
}

// Count is how many there are.
func (t Times) Count() int64 {
	if t.hist == nil {
		return 0
	}
	return t.hist.TotalCount()
}

// Quantile is the time that a share of them, from 0 to 1, did not exceed; 0 of none.
func (t Times) Quantile(share float64) time.Duration {
	if t.hist == nil {
		return 0
	}
	return time.Duration(t.hist.ValueAtQuantile(share*100)) * unit
}

// Min is the shortest; 0 of none.
func (t Times) Min() time.Duration {
	if t.Count() == 0 {
		return 0
	}
	return time.Duration(t.hist.Min()) * unit
}

// Max is the longest; 0 of none.
func (t Times) Max() time.Duration {
	if t.Count() == 0 {
		return 0
	}
	return time.Duration(t.hist.Max()) * unit
}

// Mean is their mean; 0 of none.
func (t Times) Mean() time.Duration {
	if t.Count() == 0 {
		return 0
	}
	return time.Duration(t.hist.Mean() * float64(unit))
}
