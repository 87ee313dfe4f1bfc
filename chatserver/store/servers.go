package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// firstHeartbeat is how long a server that just opened the store has until its Heartbeat.
const firstHeartbeat = 30 * time.Second

var mark = script("mark")

// A server's name in Redis is "<ServerID>.<random>". It is never used again: not by the
// next process with that id, and not by this one after its heartbeat lapsed. So whatever a
// name whose heartbeat is gone holds is garbage, and sweeping it needs no further care.
func (s *Store) newName() string {
	name := s.serverID + "." + randomID()[:10]
	s.name.Store(&name)
	return name
}

// Name is this server's name in Servers and Sweep. It is opaque, and changes when the
// heartbeat lapsed.
func (s *Store) Name() string { return *s.name.Load() }

// Inherited tells what Open swept of a former process with the same ServerID.
func (s *Store) Inherited() Swept { return s.inherited }

// Heartbeat says that this server lives and will for ttl. If the one before had run out, it
// starts a new life under a new name and returns ErrLapsed; see there.
func (s *Store) Heartbeat(ctx context.Context, ttl time.Duration) error {
	if s.departed.Load() {
		return fmt.Errorf("heartbeat after goodbye: %w", ErrClosed)
	}
	name := s.Name()
	pipe := s.client.Pipeline()
	renewed := pipe.SetXX(ctx, serverKey(name), 1, ttl)
	// Also for a lapsed name: what it added after its sweep must be swept again.
	indexed := pipe.SAdd(ctx, serversKey, name)
	_, _ = pipe.Exec(ctx) // each command carries its error
	if err := errors.Join(renewed.Err(), indexed.Err()); err != nil {
		return fmt.Errorf("heartbeat of %s: %w", name, err)
	}
	if renewed.Val() {
		return nil
	}
	s.newName()
	if err := s.register(ctx, ttl); err != nil {
		return err
	}
	return fmt.Errorf("heartbeat of %s, now %s: %w", name, s.Name(), ErrLapsed)
}

// Renew starts a new life under a new name, as Heartbeat does after a lapse; the caller then
// does Acquire and Enter for all it holds. It is for a server that knows that Redis shows
// what it does not hold any more, because a Release or an Exit failed. The old name is left
// to the next sweep, so that users who stay are never seen to go.
func (s *Store) Renew(ctx context.Context, ttl time.Duration) error {
	old := s.Name()
	s.newName()
	if err := s.register(ctx, ttl); err != nil {
		return err
	}
	if err := s.client.Del(ctx, serverKey(old)).Err(); err != nil {
		return fmt.Errorf("end server %s: %w", old, err)
	}
	return nil
}

// register makes the heartbeat before the index, because a server in the index without a
// heartbeat counts as dead.
func (s *Store) register(ctx context.Context, ttl time.Duration) error {
	name := s.Name()
	err := s.client.Set(ctx, serverKey(name), 1, ttl).Err()
	if err == nil {
		err = s.client.SAdd(ctx, serversKey, name).Err()
	}
	if err != nil {
		return fmt.Errorf("register server %s: %w", name, err)
	}
	return nil
}

// Goodbye ends this server's life: its heartbeat goes at once. What it should still hold is
// left for survivors to sweep.
func (s *Store) Goodbye(ctx context.Context) error {
	s.departed.Store(true)
	name := s.Name()
	err := s.client.Del(ctx, serverKey(name)).Err()
	if err == nil {
		err = s.forgetServer(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("goodbye of %s: %w", name, err)
	}
	return nil
}

// forgetServer drops a dead server from the index once it holds nothing.
func (s *Store) forgetServer(ctx context.Context, name string) error {
	held, err := s.client.SCard(ctx, heldKey(name)).Result()
	if err != nil || held > 0 {
		return err
	}
	return s.client.SRem(ctx, serversKey, name).Err()
}

// Servers lists the servers with a heartbeat and those whose heartbeat is gone but who have
// not been swept, both sorted.
func (s *Store) Servers(ctx context.Context) (live, dead []string, err error) {
	names, err := s.client.SMembers(ctx, serversKey).Result()
	if err == nil {
		live, dead, err = s.beating(ctx, names)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("list the servers: %w", err)
	}
	slices.Sort(live)
	slices.Sort(dead)
	return live, dead, nil
}

// beating parts names into those that have a heartbeat and those that have none.
func (s *Store) beating(ctx context.Context, names []string) (live, dead []string, err error) {
	for chunk := range chunks(names) {
		pipe := s.client.Pipeline()
		cmds := make([]*redis.IntCmd, len(chunk))
		for i, name := range chunk {
			cmds[i] = pipe.Exists(ctx, serverKey(name))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, nil, err
		}
		for i, name := range chunk {
			if cmds[i].Val() > 0 {
				live = append(live, name)
			} else {
				dead = append(dead, name)
			}
		}
	}
	return live, dead, nil
}

// Swept is what one Sweep removed; of several that race, each tells its own part.
type Swept struct {
	Rooms []string // rooms that lost a user, sorted
	Users int      // users who are not online any more
}

// Sweep removes the presence and the sessions that a dead server held. It does nothing to a
// server that has a heartbeat. It is idempotent, may be cut off and repeated, and several
// servers may do it at once.
func (s *Store) Sweep(ctx context.Context, server string) (Swept, error) {
	swept, err := s.sweep(ctx, server)
	if err != nil {
		return swept, fmt.Errorf("sweep server %s: %w", server, err)
	}
	return swept, nil
}

func (s *Store) sweep(ctx context.Context, server string) (Swept, error) {
	if n, err := s.client.Exists(ctx, serverKey(server)).Result(); err != nil || n > 0 {
		return Swept{}, err
	}
	rooms := map[string]bool{}
	var users int
	for {
		markers, err := s.client.SRandMemberN(ctx, heldKey(server), pipelined).Result()
		if err != nil || len(markers) == 0 {
			swept := Swept{Rooms: slices.Sorted(maps.Keys(rooms)), Users: users}
			return swept, errors.Join(err, s.forgetServer(ctx, server))
		}
		n, err := s.sweepCalls(ctx, server, markers, rooms)
		users += n
		if err == nil {
			err = s.unmark(ctx, server, markers...)
		}
		if err != nil {
			return Swept{Rooms: slices.Sorted(maps.Keys(rooms)), Users: users}, err
		}
	}
}

// sweepCalls undoes what the markers stand for; it adds to rooms and returns the number of
// users who went offline.
func (s *Store) sweepCalls(ctx context.Context, server string, markers []string, rooms map[string]bool) (users int, err error) {
	var calls []call
	var in []string // the room of each call, "" for a session
	for _, m := range markers {
		if room, c, ok := undo(server, m); ok {
			calls, in = append(calls, c), append(in, room)
		}
	}
	for i, cmd := range s.runAll(ctx, calls) {
		gone, err := cmd.Bool()
		switch {
		case err != nil:
			return users, err
		case gone && in[i] != "":
			rooms[in[i]] = true
		case gone:
			users++
		}
	}
	return users, nil
}

// sweepFormer ends what former processes with this ServerID left: one id is one process.
func (s *Store) sweepFormer(ctx context.Context) error {
	names, err := s.client.SMembers(ctx, serversKey).Result()
	if err != nil {
		return fmt.Errorf("list the servers: %w", err)
	}
	for _, name := range names {
		if name == s.Name() || name[:max(0, strings.LastIndexByte(name, '.'))] != s.serverID {
			continue
		}
		if err := s.client.Del(ctx, serverKey(name)).Err(); err != nil {
			return fmt.Errorf("end former server %s: %w", name, err)
		}
		swept, err := s.Sweep(ctx, name)
		s.inherited.Rooms = append(s.inherited.Rooms, swept.Rooms...)
		s.inherited.Users += swept.Users
		if err != nil {
			return err
		}
	}
	return nil
}

// A marker in a server's held set is written before the thing it stands for and removed
// after it, so that a sweep finds everything whenever the server dies.

func sessionMarker(user, sid string) string { return "session " + user + " " + sid }
func roomMarker(room, user string) string   { return "room " + room + " " + user }

// undo tells how to remove what a marker stands for.
func undo(server, marker string) (room string, c call, ok bool) {
	part := strings.Split(marker, " ")
	switch {
	case len(part) == 3 && part[0] == "session":
		return "", releaseCall(server, part[1], part[2]), true
	case len(part) == 3 && part[0] == "room":
		return part[1], exitCall(server, part[1], part[2]), true
	}
	return "", call{}, false
}

// mark fails with ErrLapsed if the server has no heartbeat: nobody would sweep the marker.
func (s *Store) mark(ctx context.Context, name, marker string) error {
	beating, err := mark.Run(ctx, s.client, []string{serverKey(name), heldKey(name)}, marker).Bool()
	if err == nil && !beating {
		err = ErrLapsed
	}
	return err
}

func (s *Store) unmark(ctx context.Context, name string, markers ...string) error {
	members := make([]any, len(markers))
	for i, m := range markers {
		members[i] = m
	}
	return s.client.SRem(ctx, heldKey(name), members...).Err()
}
