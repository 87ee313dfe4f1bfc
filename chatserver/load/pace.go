package load

import (
	"context"
	"math"
	"time"
)

// pace is when things are to happen: at a rate that rises evenly from one value
// to another, a second each, for a time.
type pace struct {
	from, to float64
	during   time.Duration
}

// due is when the n-th thing, from 0, is to happen; false if it is not in the time.
func (p pace) due(n int) (time.Duration, bool) {
	var at float64 // seconds
	// After t seconds from·t + slope·t²/2 things have happened. The first happens
	// when half of it has, so that it is not at the very start of each phase.
	count, slope := float64(n)+0.5, (p.to-p.from)/p.during.Seconds()
	switch {
	case math.Abs(slope) < 1e-9 && p.from <= 0:
		return 0, false
	case math.Abs(slope) < 1e-9:
		at = count / p.from
	default:
		root := p.from*p.from + 2*slope*count
		if root < 0 {
			return 0, false
		}
		at = (math.Sqrt(root) - p.from) / slope
	}
	d := time.Duration(at * float64(time.Second))
	return d, d < p.during
}

// keep calls f for each thing when it is due, with its number and the time at
// which it was due, until all are done or ctx ends. A late one is not skipped.
func (p pace) keep(ctx context.Context, f func(n int, due time.Time)) {
	began := time.Now()
	for n := 0; ; n++ {
		after, more := p.due(n)
		if !more {
			wait(ctx, began.Add(p.during))
			return
		}
		due := began.Add(after)
		if !wait(ctx, due) {
			return
		}
		f(n, due)
	}
}

// precise is how long before a moment the precise way of waiting begins. The
// runtime's timers are late by up to a millisecond in a program that does nothing else.
const precise = 3 * time.Millisecond

// wait waits until a moment; false if ctx ended before.
func wait(ctx context.Context, until time.Time) bool {
	if left := time.Until(until); left > precise {
		timer := time.NewTimer(left - precise)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
	}
	for left := time.Until(until); left > 0; left = time.Until(until) {
		sleep(left) // a signal may end it early
	}
	return ctx.Err() == nil
}
