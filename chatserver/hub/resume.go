package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// joining is how a client comes into a room.
type joining struct {
	id        string          // of the request, for the answer
	from      *store.Position // what the client saw last; nil: it starts with what is said from now on
	fromStart bool            // the client wants all that the log has
	leftOver  bool            // what is gone from the log is no reason to begin with what is said from now on
	quiet     bool            // the client did not ask and gets no answer
}

func (j joining) answer(c *Client, e protocol.Event) {
	if !j.quiet {
		e.ID = j.id
		c.enqueue(newFrame(e)) // not Event: a room is locked
	}
}

// errLeftBehind ends a resume whose messages left the log while they were being
// sent: the client comes back and is told that it cannot continue.
var errLeftBehind = errors.New("the room's log moved on faster than the client read")

// join makes c a member. With a position everything after it comes first, all
// of it, and the answer says so; or the answer says that it is lost.
func (r *room) join(ctx context.Context, c *Client, how joining) error {
	select {
	case <-r.ready:
	case <-ctx.Done():
		return fmt.Errorf("open room %s: %w", r.name, context.Cause(ctx))
	}
	if how.from != nil {
		if err := r.waitFor(ctx, *how.from); err != nil {
			return err
		}
	}
	r.mu.Lock()
	if how.fromStart {
		how.from, how.leftOver = &store.Position{Epoch: r.line.Epoch}, true
	}
	if how.from == nil || r.byOwner[c] != nil {
		how.answer(c, r.joined(r.position(), nil))
		r.add(c)
		r.mu.Unlock()
		return nil
	}
	r.mu.Unlock()
	return r.resume(ctx, c, how, *how.from)
}

// resume gives c what was said after a position, from the log in pages and at
// the client's pace, until the rest is in memory; then c becomes a member.
func (r *room) resume(ctx context.Context, c *Client, how joining, at store.Position) error {
	done, upTo := r.resumeFromMemory(c, how, at, true)
	if done {
		r.hub.metrics.resumes.WithLabelValues("memory").Inc()
		return nil
	}
	log, err := r.hub.store.Read(ctx, r.name, at.Offset, resumePage)
	if err != nil {
		return err
	}
	if how.leftOver && len(log.Entries) > 0 && log.Entries[0].Offset > at.Offset+1 {
		at = log.At(log.Entries[0].Offset - 1)
	}
	if !continues(log, at) {
		r.hub.metrics.resumes.WithLabelValues("lost").Inc()
		r.joinAnew(c, how)
		return nil
	}
	how.answer(c, protocol.Event{Type: protocol.TypeJoined, Room: r.name, Epoch: at.Epoch, Offset: at.Offset, Recovered: new(true)})
	if err := r.resumeFromLog(ctx, c, how, at, log, upTo); err != nil {
		// The client was told that everything follows: only a new connection can make that true.
		return fmt.Errorf("%w: %w", errLeftBehind, err)
	}
	r.hub.metrics.resumes.WithLabelValues("log").Inc()
	return nil
}

// continues says whether a part of the log follows a position without a gap.
func continues(log store.Log, at store.Position) bool {
	return log.Continues(at) && len(log.Entries) > 0 && log.Entries[0].Offset == at.Offset+1
}

// resumeFromLog queues the entries up to upTo, then what came meanwhile, until
// the client has caught up with the room.
func (r *room) resumeFromLog(ctx context.Context, c *Client, how joining, at store.Position, log store.Log, upTo uint64) error {
	for {
		for _, e := range log.Entries {
			if e.Offset > upTo {
				break
			}
			if err := r.enqueueEntry(ctx, c, log.At(e.Offset), e); err != nil {
				return err
			}
			at = log.At(e.Offset)
		}
		var done bool
		if done, upTo = r.resumeFromMemory(c, how, at, false); done {
			return nil
		}
		if err := c.waitForRoom(ctx); err != nil {
			return err
		}
		var err error
		if log, err = r.hub.store.Read(ctx, r.name, at.Offset, resumePage); err != nil {
			return err
		}
		if how.leftOver && len(log.Entries) > 0 && log.Entries[0].Offset > at.Offset+1 {
			at = log.At(log.Entries[0].Offset - 1)
		}
		if !continues(log, at) {
			return errors.New("messages left the log while they were being sent")
		}
	}
}

// enqueueEntry queues a log entry once the client has room for it. An entry that
// is not ours is left out, as it is for everybody.
func (r *room) enqueueEntry(ctx context.Context, c *Client, at store.Position, e store.Entry) error {
	event, ok := chat.EntryEvent(r.name, at.Epoch, e)
	if !ok {
		return nil // append has reported it when the entry was new
	}
	if err := c.waitForRoom(ctx); err != nil {
		return err
	}
	c.enqueue(newFrame(event))
	return nil
}

// resumePage is how many entries a resume reads from the log at once.
const resumePage = 100

// resumeFromMemory finishes a resume if what is missing is at hand and fits the
// client's queue, or if it is lost for good. Otherwise it tells how far the log
// may be read: what comes after that is not this room's to deliver yet.
func (r *room) resumeFromMemory(c *Client, how joining, at store.Position, first bool) (done bool, upTo uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.line.Continues(at) || at.Offset > r.last {
		how.answer(c, r.joined(r.position(), new(false)))
		r.add(c)
		return true, 0
	}
	if at.Offset+1 < r.oldest {
		return false, r.last
	}
	missing := make([]*Frame, 0, r.last-at.Offset)
	for offset := at.Offset + 1; offset <= r.last; offset++ {
		if f := r.recent[offset%recentFrames]; f != nil {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 && !c.hasRoomFor(missing) {
		return false, r.last
	}
	if first {
		how.answer(c, r.joined(at, new(true)))
	}
	for _, f := range missing {
		c.enqueue(f)
	}
	r.add(c)
	return true, 0
}

// joinAnew makes c a member that missed something for good.
func (r *room) joinAnew(c *Client, how joining) {
	r.mu.Lock()
	defer r.mu.Unlock()
	how.answer(c, r.joined(r.position(), new(false)))
	r.add(c)
}

// waitFor has the room read its log when a client has seen more than the room
// has: the client comes from a server that was faster.
func (r *room) waitFor(ctx context.Context, p store.Position) error {
	r.mu.Lock()
	_, known := r.line.Shared(p.Epoch)
	ahead := !known || r.line.Continues(p) && p.Offset > r.last
	r.mu.Unlock()
	if !ahead {
		return nil
	}
	head, err := r.hub.store.Head(ctx, r.name)
	if err != nil {
		return err
	}
	if !head.Continues(p) || head.Last < p.Offset {
		return nil // the log does not have it either: it is lost
	}
	select {
	case <-r.catchUp():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("catch up with room %s: %w", r.name, context.Cause(ctx))
	}
}

// position is where the room is: after its last message, in the epoch of the next one. Callers
// hold r.mu.
func (r *room) position() store.Position {
	return store.Position{Epoch: r.line.At(r.last + 1).Epoch, Offset: r.last}
}

// joined is the event for a new member: the messages after at follow. Callers hold r.mu.
func (r *room) joined(at store.Position, recovered *bool) protocol.Event {
	return protocol.Event{Type: protocol.TypeJoined, Room: r.name, Epoch: at.Epoch, Offset: at.Offset, Recovered: recovered}
}
