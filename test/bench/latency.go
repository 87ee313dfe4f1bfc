//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// latencies measures how long a delivery takes, and whether somebody who does not
// read makes it longer for the others: where people talk in many rooms, as they
// do, and where all are in one, so that each message is a crowd's.
func latencies(ctx context.Context, w *world, t *table) error {
	if err := latencyIn(ctx, w, t, 100); err != nil {
		return err
	}
	return latencyIn(ctx, w, t, 1)
}

func latencyIn(ctx context.Context, w *world, t *table, rooms int) error {
	where := fmt.Sprintf("rooms of %d", crowd/rooms)
	t.section("Latency: %d members in %s, no TLS", crowd, where)
	room := func(i int) string { return fmt.Sprint("latency", i%rooms) }
	s, err := w.startChatServer("latency", false)
	if err != nil {
		return err
	}
	defer s.stop()
	members, err := w.members(ctx, "latency", crowd, room)
	if err != nil {
		return err
	}
	if err := w.connect("latency", s, members); err != nil {
		return err
	}
	f := &fan{w, t, max(rooms, speakers), map[string]*server{"latency": s}}
	saturating := w.saturating
	if saturating == 0 || rooms > 1 {
		if saturating, err = f.saturating("latency"); err != nil {
			return err
		}
	}
	half := saturating / 2
	stalled, err := w.members(ctx, "stalled", 1, room)
	if err != nil {
		return err
	}
	var alone, beside []time.Duration
	for range t.rounds {
		m, err := f.run("latency", half, t.long)
		if err != nil {
			return err
		}
		alone = append(alone, m.Deliveries.P99)
		if err := w.load.Call("Load.Stall", ConnectArgs{Group: "stalled", Target: s.target, Members: stalled}, nil); err != nil {
			return err
		}
		if m, err = f.run("latency", half, t.long); err != nil {
			return err
		}
		beside = append(beside, m.Deliveries.P99)
		if err := w.disconnect("stalled"); err != nil {
			return err
		}
	}
	t.bar(median(alone) < 20*time.Millisecond, "p99 of a delivery at half the saturating load, "+where, "below 20 ms",
		"%.1f ms at %.0f messages/s, %.0f deliveries/s", ms(median(alone)), half, half*float64(crowd/rooms))
	change := float64(median(beside))/float64(median(alone)) - 1
	t.bar(change < 0.1, "the same beside a member that does not read, "+where, "less than 10 % more", "%.1f ms: %+.0f %%", ms(median(beside)), 100*change)

	m, err := f.run("latency", 2, t.long)
	if err != nil {
		return err
	}
	t.figure("a lone message, to all members, "+where, "p50 %.1f ms, p99 %.1f ms", ms(m.Deliveries.P50), ms(m.Deliveries.P99))
	return w.disconnect("latency")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
