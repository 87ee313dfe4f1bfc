//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// idle measures what a connection costs that says nothing, in a room of 100.
func idle(ctx context.Context, w *world, t *table) error {
	t.section("Idle connections, one user each, in rooms of 100")
	if err := idleWith(ctx, w, t, "without TLS", false, 10_000); err != nil {
		return err
	}
	return idleWith(ctx, w, t, "with TLS", true, 2_000)
}

func idleWith(ctx context.Context, w *world, t *table, how string, useTLS bool, count int) error {
	s, err := w.startChatServer("idle", useTLS)
	if err != nil {
		return err
	}
	defer s.stop()
	members, err := w.members(ctx, "idle", count, func(i int) string { return fmt.Sprint("idle", i/100) })
	if err != nil {
		return err
	}
	began := time.Now()
	if err := w.connect("idle", s, members); err != nil {
		return err
	}
	t.figure("connections made "+how, "%d in %s", count, time.Since(began).Round(time.Millisecond))
	each := func() float64 { return float64(resident(s.pid())-s.empty) / float64(count) / 1024 }
	atOnce := each()
	waited := settleMemory(s)
	var alive int
	if err := w.load.Call("Load.Alive", "idle", &alive); err != nil {
		return err
	}
	t.figure("server without connections", "%.1f MB resident", float64(s.empty)/(1<<20))
	t.figure("resident at once, a connection "+how, "%.1f KB", atOnce)
	if useTLS {
		t.figure("resident when settled, a connection "+how, "%.1f KB (after %s)", each(), waited)
	} else {
		t.bar(each() <= 10, "resident when settled, a connection "+how, "at most 10 KB", "%.1f KB (after %s)", each(), waited)
		t.bar(alive == count, "connections held", "10,000", "%d", alive)
	}
	return w.disconnect("idle")
}

// settleMemory waits until the server's memory has not shrunk for a while: Go
// returns memory bit by bit, and collects garbage every two minutes when nothing
// else makes it. The server is not asked to do so any sooner.
func settleMemory(s *server) time.Duration {
	began, least, since := time.Now(), resident(s.pid()), time.Now()
	for time.Since(since) < 45*time.Second || time.Since(began) < 130*time.Second {
		time.Sleep(time.Second)
		if now := resident(s.pid()); now < least-least/200 {
			least, since = now, time.Now()
		}
	}
	return time.Since(began).Round(time.Second)
}
