package store

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
)

// Names of channels. Each shares its entity's hash tag, so it is in the entity's slot.

// RoomChannel carries what is said in a room.
func RoomChannel(room string) string { return "room:{" + room + "}:live" }

// UserChannel carries what concerns one user, wherever connected.
func UserChannel(user string) string { return "user:{" + user + "}:live" }

// FollowChannel carries copies of what a user says, for the followers.
func FollowChannel(user string) string { return "follow:{" + user + "}:live" }

// Broadcast sends a payload that no log keeps. Whoever is not subscribed misses it.
func (s *Store) Broadcast(ctx context.Context, channel string, payload []byte) error {
	live := append([]byte("0 - "), payload...)
	var err error
	if s.sharded {
		err = s.client.SPublish(ctx, channel, live).Err()
	} else {
		err = s.client.Publish(ctx, channel, live).Err()
	}
	if err != nil {
		return fmt.Errorf("broadcast on %s: %w", channel, err)
	}
	return nil
}

// ParseLive parts what a channel carries, "<offset> <epoch> <payload>". Offset 0 and epoch
// "-" mark a broadcast; without a body a room's log has to be read, since an epoch began.
// body is a part of payload.
func ParseLive(payload []byte) (offset uint64, epoch string, body []byte, ok bool) {
	number, rest, ok := bytes.Cut(payload, []byte{' '})
	if !ok {
		return 0, "", nil, false
	}
	name, body, ok := bytes.Cut(rest, []byte{' '})
	if !ok || len(name) == 0 {
		return 0, "", nil, false
	}
	offset, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil {
		return 0, "", nil, false
	}
	return offset, string(name), body, true
}
