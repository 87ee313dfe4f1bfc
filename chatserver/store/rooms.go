package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	enter      = script("enter")
	exit       = script("exit")
	pruneRooms = script("prune_rooms")
)

// RoomInfo is one active room.
type RoomInfo struct {
	Room
	Users int // present; Members is not filled in
}

// Enter records that this server has user in room. first tells that the user was not in it
// on any server before. It is idempotent.
func (s *Store) Enter(ctx context.Context, room, user string) (first bool, err error) {
	defer s.hold(user)()
	name := s.Name()
	if err = s.mark(ctx, name, roomMarker(room, user)); err == nil {
		first, err = enter.Run(ctx, s.client, []string{roomKey(room), presenceKey(room)}, name, user).Bool()
	}
	if err == nil && !isDirect(room) {
		err = s.client.ZAdd(ctx, roomsKey, redis.Z{Score: float64(time.Now().UnixMicro()), Member: room}).Err()
	}
	if err != nil {
		return false, fmt.Errorf("enter %s into room %s: %w", user, room, err)
	}
	return first, nil
}

// Exit is the inverse of Enter. last tells that the user is in the room on no server now.
func (s *Store) Exit(ctx context.Context, room, user string) (last bool, err error) {
	defer s.hold(user)()
	name := s.Name()
	c := exitCall(name, room, user)
	last, err = c.script.Run(ctx, s.client, c.keys, c.args...).Bool()
	if err == nil {
		err = s.unmark(ctx, name, roomMarker(room, user))
	}
	if err != nil {
		return false, fmt.Errorf("let %s leave room %s: %w", user, room, err)
	}
	return last, nil
}

// exitCall returns 1 if the user left the room with it.
func exitCall(server, room, user string) call {
	return call{exit, []string{roomKey(room), presenceKey(room)}, []any{server, user}}
}

// Members lists the users in a room, sorted, and how many there are. Of a room with more
// than limit users it lists limit of them, which ones is not defined; a limit of 0 or less
// lists all.
func (s *Store) Members(ctx context.Context, room string, limit int) (users []string, total int, err error) {
	n, err := s.client.SCard(ctx, roomKey(room)).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("count the members of room %s: %w", room, err)
	}
	if limit <= 0 || int(n) <= limit {
		users, err = s.client.SMembers(ctx, roomKey(room)).Result()
	} else {
		users, err = s.client.SRandMemberN(ctx, roomKey(room), int64(limit)).Result()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list the members of room %s: %w", room, err)
	}
	slices.Sort(users)
	if limit > 0 && len(users) > limit { // the room grew in between
		users = users[:limit]
	}
	return users, max(int(n), len(users)), nil
}

// Rooms lists the rooms that have users, sorted by name, without direct ones. It also
// forgets rooms that have none.
func (s *Store) Rooms(ctx context.Context) ([]RoomInfo, error) {
	index, err := s.client.ZRangeWithScores(ctx, roomsKey, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list the rooms: %w", err)
	}
	var rooms []RoomInfo
	var empty []any // room, score, room, score...
	for chunk := range chunks(index) {
		found, err := s.lookUp(ctx, chunk)
		if err != nil {
			return nil, fmt.Errorf("count the users of %d rooms: %w", len(chunk), err)
		}
		for i, room := range found {
			if room.Users > 0 {
				rooms = append(rooms, room)
			} else {
				empty = append(empty, room.Name, chunk[i].Score)
			}
		}
	}
	if err := s.forgetRooms(ctx, empty); err != nil {
		return nil, err
	}
	slices.SortFunc(rooms, func(a, b RoomInfo) int { return cmp.Compare(a.Name, b.Name) })
	return rooms, nil
}

func (s *Store) lookUp(ctx context.Context, rooms []redis.Z) ([]RoomInfo, error) {
	pipe := s.client.Pipeline()
	users, infos := make([]*redis.IntCmd, len(rooms)), make([]*redis.MapStringStringCmd, len(rooms))
	for i, z := range rooms {
		users[i] = pipe.SCard(ctx, roomKey(z.Member.(string)))
		infos[i] = pipe.HGetAll(ctx, infoKey(z.Member.(string)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	found := make([]RoomInfo, len(rooms))
	for i, z := range rooms {
		found[i] = RoomInfo{Room: parseRoom(z.Member.(string), infos[i].Val(), 0), Users: int(users[i].Val())}
	}
	return found, nil
}

// forgetRooms drops rooms from the index unless somebody entered one since its score was read.
func (s *Store) forgetRooms(ctx context.Context, empty []any) error {
	for chunk := range chunks(empty) {
		if err := pruneRooms.Run(ctx, s.client, []string{roomsKey}, chunk...).Err(); err != nil {
			return fmt.Errorf("forget %d empty rooms: %w", len(chunk)/2, err)
		}
	}
	return nil
}

// isDirect tells the rooms of two users, "@alice:bob", which no list shows.
func isDirect(room string) bool { return strings.HasPrefix(room, "@") }
