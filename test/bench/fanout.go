//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	crowd     = 2000 // members of the room
	textBytes = 45   // of a message's text: about 200 bytes of JSON
	speakers  = 16
)

// fanOut compares what a delivery costs with the baseline, and finds out how
// much the server takes.
func fanOut(ctx context.Context, w *world, t *table) error {
	t.section("Fan-out: one room, %d members, no TLS, %d bytes of text", crowd, textBytes)
	base, err := w.startBaseline()
	if err != nil {
		return err
	}
	defer base.stop()
	ours, err := w.startChatServer("fanout", false)
	if err != nil {
		return err
	}
	defer ours.stop()
	members, err := w.members(ctx, "member", crowd, everyone("fanout"))
	if err != nil {
		return err
	}
	if err := w.connect("baseline", base, make([]Member, crowd)); err != nil {
		return err
	}
	if err := w.connect("chatserver", ours, members); err != nil {
		return err
	}
	f := &fan{w, t, speakers, map[string]*server{"baseline": base, "chatserver": ours}}
	if w.against != "" {
		other, err := w.startChatServerOf(w.against, "against", false)
		if err != nil {
			return err
		}
		defer other.stop()
		if members, err = w.members(ctx, "other", crowd, everyone("against")); err != nil {
			return err
		}
		if err := w.connect("against", other, members); err != nil {
			return err
		}
		f.servers["against"] = other
	}
	return f.compare()
}

type fan struct {
	w        *world
	t        *table
	speakers int // of each group: its first connections
	servers  map[string]*server
}

func (f *fan) run(name string, rate float64, d time.Duration) (measured, error) {
	m, err := f.w.publish(f.servers[name], PublishArgs{Group: name, Publishers: f.speakers, Rate: rate, For: d, Bytes: textBytes})
	if err == nil {
		f.t.log("%s at %.0f messages/s: %.0f deliveries/s, %.0f a core-second (server %.2f cores, load %.2f), p50 %s, p99 %s, max %s, %d missing, lag %s",
			name, rate, m.perSecond(), m.perCoreSecond(), m.serverCPU.Seconds()/m.Took.Seconds(), m.CPU.Seconds()/m.Took.Seconds(),
			m.Deliveries.P50, m.Deliveries.P99, m.Deliveries.Max, m.Expected-m.Deliveries.Count, m.Lag)
	}
	return m, err
}

// saturating is the highest rate of messages that a server keeps up with, to
// some 10 %.
func (f *fan) saturating(name string) (float64, error) {
	const d = 2 * time.Second
	keptUp := 0.0
	for rate, step := 20.0, 1.5; step > 1.1; rate *= step {
		m, err := f.run(name, rate, d)
		if err != nil {
			return 0, err
		}
		if !m.saturated(d) {
			keptUp = rate
			continue
		}
		if keptUp == 0 {
			return 0, fmt.Errorf("%s does not keep up with %.0f messages a second", name, rate)
		}
		rate, step = keptUp, 1+(step-1)/2
	}
	return keptUp, nil
}

// compare runs both side by side, in turns, at the rates that matter.
func (f *fan) compare() error {
	rates := map[string]float64{}
	for _, name := range []string{"baseline", "chatserver"} {
		rate, err := f.saturating(name)
		if err != nil {
			return err
		}
		rates[name] = rate
	}
	f.w.saturating = rates["chatserver"]
	f.t.figure("saturating load, baseline", "%.0f messages/s, %.0f deliveries/s", rates["baseline"], rates["baseline"]*crowd)
	f.t.figure("saturating load, chatserver", "%.0f messages/s, %.0f deliveries/s", rates["chatserver"], rates["chatserver"]*crowd)

	for _, at := range []struct {
		what       string
		base, ours float64 // messages a second
	}{
		{"at 19 messages/s each", 19, 19},
		{"at the baseline's saturating load each", rates["baseline"], rates["baseline"]},
		{"each at its own saturating load", rates["baseline"], rates["chatserver"]},
	} {
		if err := f.ratio("deliveries a core-second, "+at.what, map[string]float64{
			"baseline": at.base, "chatserver": at.ours, "against": at.ours,
		}); err != nil {
			return err
		}
	}
	return nil
}

// ratio runs the servers in turns, so that what else the machine does meets all
// of them, and compares the medians.
func (f *fan) ratio(what string, rates map[string]float64) error {
	names := slices.Sorted(maps.Keys(f.servers)) // the baseline after what is compared with ours
	figures := map[string][]float64{}
	for range f.t.rounds {
		for _, name := range names {
			m, err := f.run(name, rates[name], f.t.long)
			if err != nil {
				return err
			}
			figures[name] = append(figures[name], m.perCoreSecond())
		}
	}
	base, ours := median(figures["baseline"]), median(figures["chatserver"])
	f.t.figure(what, "baseline %.0f, chatserver %.0f: %.2fx", base, ours, ours/base)
	if other := figures["against"]; other != nil {
		f.t.figure("  the other build", "%.0f: %.2fx of it", median(other), ours/median(other))
	}
	return nil
}

func median[T float64 | time.Duration](of []T) T {
	slices.Sort(of)
	return of[len(of)/2]
}
