package hub

import (
	"context"
	"errors"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

// How a room comes from its position to the end of the log, where its inbox does not lead.

const (
	// fillPage is how many entries are read from the log at once.
	fillPage  = 100
	fillRetry = 200 * time.Millisecond
	// memberTime bounds how long a page of the log may hold up the next one.
	memberTime = time.Second
	// staleTime is how long a master may take to learn that it is none any more.
	staleTime = 15 * time.Second
)

// fill brings the room from its position to the end of the log, and reports
// whether it got there before the hub ended. It keeps trying: a room without
// its messages is of no use to anyone.
func (r *room) fill(ctx context.Context) bool {
	late := map[*Client]bool{}
	for {
		done, err := r.fillPage(ctx)
		if err == nil && done {
			return true
		}
		if err == nil {
			r.awaitMembers(ctx, late)
			continue
		}
		r.hub.log.Warn("reading a room's log failed; trying again", "room", r.name, "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(fillRetry):
		}
	}
}

// awaitMembers waits until the members have taken most of what was read from the
// log, so that catching up does not look like slow reading. A member that does
// read slowly is not the others' problem: it is waited for once, not with every
// page, and is late from then on.
func (r *room) awaitMembers(ctx context.Context, late map[*Client]bool) {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	r.mu.Lock()
	clients := make([]*Client, 0, len(r.members))
	for _, m := range r.members {
		if !late[m.client] {
			clients = append(clients, m.client)
		}
	}
	r.mu.Unlock()
	for _, c := range clients {
		if c.waitForRoom(ctx) != nil { // of those after the first that is late, only who is late too
			late[c] = true
		}
	}
}

func (r *room) fillPage(ctx context.Context) (done bool, err error) {
	r.mu.Lock()
	line, last := r.line, r.last
	r.mu.Unlock()
	if line.Epoch == "" {
		return true, r.open(ctx)
	}

	log, err := r.hub.store.Read(ctx, r.name, last, fillPage)
	if err != nil {
		return false, err
	}
	r.hub.metrics.fills.Inc()
	r.mu.Lock()
	defer r.unlock()
	if r.isStale(log) {
		return false, errStale
	}
	if !log.Continues(r.position()) {
		fork, ok := log.Fork(r.line, r.last)
		if !ok {
			fork = log.First - 1 // all of it is unseen
		}
		r.reset(log.Lineage, fork)
		return false, nil
	}
	r.line = log.Lineage
	if len(log.Entries) == 0 {
		if log.Last > r.last {
			r.reset(log.Lineage, log.Last) // all that was missed has left the log
		}
		return true, nil
	}
	if first := log.Entries[0].Offset; first > r.last+1 {
		r.reset(log.Lineage, first-1)
	}
	size := 0
	for _, e := range log.Entries {
		if size += len(e.Payload); size > r.burstLimit() && e.Offset > log.Entries[0].Offset {
			break // the rest is read again, when the members have taken this
		}
		r.append(e)
	}
	return r.last >= log.Last, nil
}

// errStale is an answer of a Redis that does not know yet that another took over.
var errStale = errors.New("the log is of an epoch that has ended: another Redis has taken over")

// isStale says whether log is of an epoch that this room has left behind. A Redis that says
// so for long is not late: somebody went back to it. Callers hold r.mu.
func (r *room) isStale(log store.Log) bool {
	_, former := r.line.Shared(log.Epoch)
	if !former || log.Epoch == r.line.Epoch {
		r.staleSince = time.Time{}
		return false
	}
	if r.staleSince.IsZero() {
		r.staleSince = time.Now()
	}
	return time.Since(r.staleSince) < staleTime
}

// open takes the position at the end of the log. The channel is subscribed
// already, so what comes after the position is in the inbox.
func (r *room) open(ctx context.Context) error {
	head, err := r.hub.store.Head(ctx, r.name)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.line, r.last, r.oldest = head.Lineage, head.Last, head.Last+1
	close(r.ready)
	return nil
}
