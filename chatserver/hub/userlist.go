package hub

import (
	"context"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

const (
	listDelay     = 200 * time.Millisecond
	listPerMember = 5 * time.Millisecond
)

// listSoon sends the members a new list of who is here, once for all the
// changes of the next moment; the larger the room, the longer the moment, so
// that the lists of a large room never outweigh its messages. Callers hold r.mu.
func (r *room) listSoon() {
	if r.listing || protocol.IsDirect(r.name) {
		r.listAgain = r.listing
		return
	}
	r.listing = r.hub.spawn(func(ctx context.Context) {
		for again := true; again; again = r.listedAndAgain() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.listDelay()):
			}
			r.sendList(ctx)
		}
	})
}

func (r *room) listDelay() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return listDelay + time.Duration(len(r.members))*listPerMember
}

func (r *room) listedAndAgain() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listing = r.listAgain
	return r.listing
}

func (r *room) sendList(ctx context.Context) {
	r.mu.Lock()
	r.listAgain = false // a change from here on wants another list
	r.mu.Unlock()
	users, total, err := r.hub.store.Members(ctx, r.name, chat.WhoLimit)
	if err != nil {
		r.hub.log.Warn("reading a room's members failed", "room", r.name, "error", err)
		return
	}
	f := newFrame(chat.UserList(r.name, users, total))
	f.jsonOnly = true // people at a terminal ask with /who
	r.mu.Lock()
	defer r.unlock()
	r.broadcast(f)
}
