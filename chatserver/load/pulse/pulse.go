// Package pulse watches the program it runs in: how much of the processors it
// takes, and how late its goroutines run. A load generator that is late itself
// measures itself.
package pulse

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/load/latency"
)

// every is how often the pulse is felt.
const every = 5 * time.Millisecond

// Pulse is the probe; New starts none: run Watch.
type Pulse struct {
	late atomic.Pointer[latency.Recorder]

	// Of Tick.
	ticked time.Time
	used   time.Duration
}

// New makes a Pulse.
func New() *Pulse {
	p := &Pulse{ticked: time.Now(), used: processTime()}
	p.late.Store(new(latency.Recorder))
	return p
}

// Watch feels the pulse until ctx ends.
func (p *Pulse) Watch(ctx context.Context) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	due := time.Now().Add(every)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		p.late.Load().Record(0, now.Sub(due))
		due = now.Add(every)
		timer.Reset(every)
	}
}

// Reading is how the program was at one moment.
type Reading struct {
	at            time.Time
	cpu           time.Duration // used by this program, in all
	busy, machine time.Duration // of all of the machine's processors, and how much there was; 0: unknown
	late          *latency.Recorder
}

// Begin starts a measurement.
func (p *Pulse) Begin() Reading {
	fresh := new(latency.Recorder)
	p.late.Store(fresh)
	busy, machine := machineTimes()
	return Reading{time.Now(), processTime(), busy, machine, fresh}
}

// Usage is how the program was over a time.
type Usage struct {
	Cores     float64 // processors' worth of time that this program took
	Available int     // processors that it may use
	Machine   float64 // share of the machine's processors that was taken by anybody, 0 to 1; 0: unknown
	Late      latency.Times
}

// Since is what happened since Begin. Of two measurements that overlap the
// later one has the lateness.
func (p *Pulse) Since(r Reading) Usage {
	took := time.Since(r.at)
	u := Usage{
		Cores:     (processTime() - r.cpu).Seconds() / took.Seconds(),
		Available: runtime.GOMAXPROCS(0),
		Late:      r.late.Total(),
	}
	if busy, machine := machineTimes(); machine > r.machine {
		u.Machine = float64(busy-r.busy) / float64(machine-r.machine)
	}
	return u
}

// Tick is how the program was since it was called last, by one goroutine.
func (p *Pulse) Tick() (cores float64, late latency.Times) {
	now, used := time.Now(), processTime()
	cores = (used - p.used).Seconds() / now.Sub(p.ticked).Seconds()
	p.ticked, p.used = now, used
	return cores, p.late.Load().Drain()
}
