package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

var (
	acquire = script("acquire")
	release = script("release")
	setRoom = script("set_room")
)

// Policy says what a login of a user who is online already does. The zero Policy lets
// everybody be online as often as they like.
type Policy struct {
	Most    int  // sessions a user may have online; a newcomer beyond is refused; 0: no limit
	Replace bool // let every newcomer in, and signal the others out
}

// The policies with names.
var (
	Reject  = Policy{Most: 1}
	Replace = Policy{Replace: true}
	Allow   = Policy{}
)

// AllowMost allows n sessions at once, on all servers together.
func AllowMost(n int) Policy { return Policy{Most: n} }

// Acquired is what Acquire found.
type Acquired struct {
	Replaced []string // sids that the caller must signal out, under Replace
}

// Acquire records that this server holds the session sid of user, or fails with ErrOnline:
// when servers that are alive hold as many other sessions of the user as the policy allows.
// The same sid is never refused. It is idempotent.
//
// live is what the caller knows of live servers; a server that it lacks is looked up before
// its hold is dropped, so a stale list does no harm and a crash never refuses for ever.
func (s *Store) Acquire(ctx context.Context, user, sid string, p Policy, live []string) (Acquired, error) {
	defer s.hold(user)()
	a, err := s.acquire(ctx, user, sid, p, live)
	if err != nil {
		return Acquired{}, fmt.Errorf("acquire the session of %s: %w", user, err)
	}
	return a, nil
}

func (s *Store) acquire(ctx context.Context, user, sid string, p Policy, live []string) (Acquired, error) {
	name := s.Name()
	marker := sessionMarker(user, sid)
	if err := s.mark(ctx, name, marker); err != nil {
		return Acquired{}, err
	}
	live = append(slices.Clone(live), name)
	var dead []string
	for {
		reply, err := s.tryAcquire(ctx, user, sid, name, p, live, dead)
		if err != nil {
			return Acquired{}, err // the marker stays: Redis may have done it
		}
		switch reply.outcome {
		case "held":
			if p.Replace {
				return Acquired{Replaced: reply.names}, nil
			}
			return Acquired{}, nil
		case "online":
			return Acquired{}, errors.Join(ErrOnline, s.unmark(ctx, name, marker))
		}
		l, d, err := s.beating(ctx, reply.names)
		if err != nil {
			return Acquired{}, err
		}
		live, dead = append(live, l...), append(dead, d...)
	}
}

type acquireReply struct {
	outcome string // "held", "online" or "unknown"
	names   []string
}

func (s *Store) tryAcquire(ctx context.Context, user, sid, name string, p Policy, live, dead []string) (acquireReply, error) {
	reply, err := acquire.Run(ctx, s.client, []string{sessionKey(user), sessionHeldKey(user)},
		name, sid, p.Most, time.Now().UnixMilli(), strings.Join(live, " "), strings.Join(dead, " ")).StringSlice()
	if err != nil {
		return acquireReply{}, err
	}
	return acquireReply{outcome: reply[0], names: reply[1:]}, nil
}

// Release is the inverse of Acquire. When no server holds a session of the user any more,
// the session is deleted.
func (s *Store) Release(ctx context.Context, user, sid string) error {
	defer s.hold(user)()
	name := s.Name()
	c := releaseCall(name, user, sid)
	err := c.script.Run(ctx, s.client, c.keys, c.args...).Err()
	if err == nil {
		err = s.unmark(ctx, name, sessionMarker(user, sid))
	}
	if err != nil {
		return fmt.Errorf("release the session of %s: %w", user, err)
	}
	return nil
}

// releaseCall returns 1 if the user is not online any more.
func releaseCall(server, user, sid string) call {
	return call{release, []string{sessionKey(user), sessionHeldKey(user)}, []any{server, sid}}
}

// SetRoom notes the room a user is in, if the user is online.
func (s *Store) SetRoom(ctx context.Context, user, room string) error {
	err := setRoom.Run(ctx, s.client, []string{sessionKey(user)}, room).Err()
	if err != nil {
		return fmt.Errorf("note the room of %s: %w", user, err)
	}
	return nil
}
