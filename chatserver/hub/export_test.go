package hub

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// FanOutForBenchmark returns a function that delivers one new message to so
// many clients, and waits until every one of them has written it.
func FanOutForBenchmark(b *testing.B, clients int, t Transport) func() {
	b.Helper()
	h := New(Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, nil, nil)
	b.Cleanup(h.tasks.end)
	r := newRoom(h, "Lobby")
	r.line, r.oldest = store.Lineage{Epoch: "epoch"}, 1
	var members []*Client
	for range clients {
		c := &Client{hub: h, transport: t}
		members = append(members, c)
		r.add(c)
	}
	offset := uint64(0)
	body := chat.Record{
		User: "alice", Time: time.Now().UnixMilli(), ID: "0123456789",
		Content: chat.Content{Text: "a message of about the length that people write"},
	}.Encode()
	return func() {
		offset++
		r.apply([]liveMessage{{offset, "epoch", body}})
		for _, c := range members {
			for c.busy() {
				time.Sleep(10 * time.Microsecond)
			}
		}
	}
}

func (c *Client) busy() bool {
	c.queue.Lock()
	defer c.queue.Unlock()
	return c.queue.writing
}

// Deafen has the hub hear nothing more of a room, until CatchUp.
func (h *Hub) Deafen(room string) { h.relay.Unsubscribe(store.RoomChannel(room)) }

// CatchUp has a room read its log; the channel is closed when it has.
func (h *Hub) CatchUp(room string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rooms[room].catchUp()
}

// What the tests measure with.
const (
	BurstsAtOnce = burstsAtOnce
	BurstEvery   = burstEvery
	MemberTime   = memberTime
)

// StandStill makes a hub believe that its process stood still for so long.
func StandStill(h *Hub, d time.Duration) { h.pulse.Add(-int64(d)) }

// StoodStill says whether the hub noticed.
func StoodStill(h *Hub) bool { return h.life.Load() > 0 && h.sincePulse() < heartbeatTTL }
