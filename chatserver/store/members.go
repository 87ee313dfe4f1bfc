package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Errors about rooms that callers tell apart.
var (
	ErrRoomExists = errors.New("there is such a room already")
	ErrNoRoom     = errors.New("there is no such room")
	ErrPrivate    = errors.New("the room is private and the user was not invited")
)

var (
	joinRoom   = script("join_room")
	createRoom = script("create_room")
	restrict   = script("restrict")
	markRead   = script("mark_read")
)

// Room is what a room is, apart from what is said in it.
type Room struct {
	Name      string
	Kind      string // "public" or "private"
	Owner     string // "": none
	Topic     string
	Created   time.Time
	Encrypted bool // takes ciphertext only; for good
	Closed    bool
	Keep      Retention
	Members   int
}

// Retention is how much of a log is kept; a zero means as much as Options say.
type Retention struct {
	Messages int
	Age      time.Duration
}

// CreateRoom makes a room, or fails with ErrRoomExists. Its owner is its first member, unless
// it is a direct room, which needs no members. r.Created is the call's own: with the same one
// it can be repeated.
func (s *Store) CreateRoom(ctx context.Context, r Room) error {
	fields := []any{r.Owner, r.Created.UnixMilli(), !isDirect(r.Name), "kind", r.Kind, "topic", r.Topic}
	if r.Encrypted {
		fields = append(fields, "encrypted", 1)
	}
	fields = append(fields, retention(r.Keep)...)
	made, err := createRoom.Run(ctx, s.client, []string{infoKey(r.Name), membersKey(r.Name)}, fields...).Bool()
	if err == nil && !made {
		err = ErrRoomExists
	}
	if err == nil && !isDirect(r.Name) {
		err = s.client.SAdd(ctx, userRoomsKey(r.Owner), r.Name).Err()
	}
	if err != nil {
		return fmt.Errorf("create room %s: %w", r.Name, err)
	}
	return nil
}

func retention(r Retention) (fields []any) {
	if r.Messages > 0 {
		fields = append(fields, "keepMessages", r.Messages)
	}
	if r.Age > 0 {
		fields = append(fields, "keepMillis", r.Age.Milliseconds())
	}
	return fields
}

// Room looks a room up, or fails with ErrNoRoom. Direct rooms have no info unless they are encrypted.
func (s *Store) Room(ctx context.Context, room string) (Room, error) {
	pipe := s.client.Pipeline()
	info, members := pipe.HGetAll(ctx, infoKey(room)), pipe.HLen(ctx, membersKey(room))
	if _, err := pipe.Exec(ctx); err != nil {
		return Room{}, fmt.Errorf("look up room %s: %w", room, err)
	}
	if len(info.Val()) == 0 {
		return Room{}, fmt.Errorf("look up room %s: %w", room, ErrNoRoom)
	}
	return parseRoom(room, info.Val(), int(members.Val())), nil
}

func parseRoom(name string, info map[string]string, members int) Room {
	number := func(field string) int64 {
		n, _ := strconv.ParseInt(info[field], 10, 64)
		return n
	}
	return Room{
		Name: name, Kind: info["kind"], Owner: info["owner"], Topic: info["topic"],
		Created: time.UnixMilli(number("created")), Encrypted: info["encrypted"] != "", Closed: info["closed"] != "",
		Keep:    Retention{int(number("keepMessages")), time.Duration(number("keepMillis")) * time.Millisecond},
		Members: members,
	}
}

// SetTopic changes the topic of a room that exists.
func (s *Store) SetTopic(ctx context.Context, room, topic string) error {
	return s.setInfo(ctx, room, "topic", topic)
}

// SetRetention changes how much of its log a room keeps. Zeros leave the default in force.
func (s *Store) SetRetention(ctx context.Context, room string, r Retention) error {
	if err := s.client.HDel(ctx, infoKey(room), "keepMessages", "keepMillis").Err(); err != nil {
		return fmt.Errorf("change room %s: %w", room, err)
	}
	if fields := retention(r); len(fields) > 0 {
		return s.setInfo(ctx, room, fields...)
	}
	return nil
}

// SetClosed closes a room to all writing and joining, or opens it again.
func (s *Store) SetClosed(ctx context.Context, room string, closed bool) error {
	if closed {
		return s.setInfo(ctx, room, "closed", 1)
	}
	if err := s.client.HDel(ctx, infoKey(room), "closed").Err(); err != nil {
		return fmt.Errorf("change room %s: %w", room, err)
	}
	return nil
}

func (s *Store) setInfo(ctx context.Context, room string, fields ...any) error {
	if err := s.client.HSet(ctx, infoKey(room), fields...).Err(); err != nil {
		return fmt.Errorf("change room %s: %w", room, err)
	}
	return nil
}

// Join makes user a member and returns the room's kind; a room that is not there is made.
// Errors: ErrBanned, ErrRoomClosed, ErrPrivate. A member stays one.
func (s *Store) Join(ctx context.Context, room, user string) (kind string, err error) {
	reply, err := joinRoom.Run(ctx, s.client, []string{infoKey(room), membersKey(room), invitedKey(room), bannedKey(room), metaKey(room), readsKey(room)},
		user, time.Now().UnixMilli()).Slice()
	if err == nil {
		kind, err = parseJoin(reply)
	}
	if err == nil {
		// In another slot: a call that failed half-way is completed by repeating it.
		err = s.client.SAdd(ctx, userRoomsKey(user), room).Err()
	}
	if err != nil {
		return "", fmt.Errorf("let %s join room %s: %w", user, room, err)
	}
	return kind, nil
}

func parseJoin(reply []any) (kind string, err error) {
	switch reply[0] {
	case "ok":
		kind, _ = reply[1].(string)
		return kind, nil
	case "banned":
		return "", ErrBanned
	case "closed":
		return "", ErrRoomClosed
	case "private":
		return "", ErrPrivate
	}
	return "", fmt.Errorf("unexpected answer of the script: %v", reply)
}

// Leave ends a membership, with its read position.
func (s *Store) Leave(ctx context.Context, room, user string) error {
	pipe := s.client.Pipeline()
	pipe.HDel(ctx, membersKey(room), user)
	pipe.HDel(ctx, readsKey(room), user)
	pipe.SRem(ctx, userRoomsKey(user), room)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("let %s leave room %s: %w", user, room, err)
	}
	return nil
}

// IsMember tells whether user is a member of room.
func (s *Store) IsMember(ctx context.Context, room, user string) (bool, error) {
	is, err := s.client.HExists(ctx, membersKey(room), user).Result()
	if err != nil {
		return false, fmt.Errorf("look for %s in room %s: %w", user, room, err)
	}
	return is, nil
}

// IsBanned tells whether user is banned from room at present.
func (s *Store) IsBanned(ctx context.Context, room, user string) (bool, error) {
	ends, err := s.client.HGet(ctx, bannedKey(room), user).Int64()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a ban of %s from room %s: %w", user, room, err)
	}
	return ends == 0 || ends > time.Now().UnixMilli(), nil
}

// Invite lets user join a private room.
func (s *Store) Invite(ctx context.Context, room, user string) error {
	if err := s.client.SAdd(ctx, invitedKey(room), user).Err(); err != nil {
		return fmt.Errorf("invite %s to room %s: %w", user, room, err)
	}
	return nil
}

// Ban ends user's membership and refuses another one until the time given; the zero time
// means for good.
func (s *Store) Ban(ctx context.Context, room, user string, until time.Time) error {
	return s.restrict(ctx, room, user, bannedKey(room), ending(until), true)
}

// Unban ends a ban.
func (s *Store) Unban(ctx context.Context, room, user string) error {
	return s.restrict(ctx, room, user, bannedKey(room), "", false)
}

// Mute refuses what user writes to room until the time given; the zero time means for good.
func (s *Store) Mute(ctx context.Context, room, user string, until time.Time) error {
	return s.restrict(ctx, room, user, mutedKey(room), ending(until), false)
}

// Unmute ends a mute.
func (s *Store) Unmute(ctx context.Context, room, user string) error {
	return s.restrict(ctx, room, user, mutedKey(room), "", false)
}

func ending(until time.Time) string {
	if until.IsZero() {
		return "0"
	}
	return strconv.FormatInt(until.UnixMilli(), 10)
}

func (s *Store) restrict(ctx context.Context, room, user, key, ends string, leaves bool) error {
	err := restrict.Run(ctx, s.client, []string{infoKey(room), membersKey(room), invitedKey(room), key},
		user, ends, leaves).Err()
	if err == nil && leaves {
		err = s.client.SRem(ctx, userRoomsKey(user), room).Err()
	}
	if err != nil {
		return fmt.Errorf("change what %s may do in room %s: %w", user, room, err)
	}
	return nil
}

// Member is a user who belongs to a room, present or not.
type Member struct {
	Name  string
	Since time.Time
}

// MembersOf lists a page of a room's members, sorted by name: those after a name, at most
// limit of them. more tells that there are others behind them.
func (s *Store) MembersOf(ctx context.Context, room, after string, limit int) (page []Member, more bool, err error) {
	all, err := s.client.HGetAll(ctx, membersKey(room)).Result()
	if err != nil {
		return nil, false, fmt.Errorf("list the members of room %s: %w", room, err)
	}
	for name, since := range all {
		if name > after {
			ms, _ := strconv.ParseInt(since, 10, 64)
			page = append(page, Member{name, time.UnixMilli(ms)})
		}
	}
	slices.SortFunc(page, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	if len(page) > limit {
		return page[:limit], true, nil
	}
	return page, false, nil
}

// CountRoomsOf counts the rooms that user is a member of, without direct ones.
func (s *Store) CountRoomsOf(ctx context.Context, user string) (int, error) {
	n, err := s.client.SCard(ctx, userRoomsKey(user)).Result()
	if err != nil {
		return 0, fmt.Errorf("count the rooms of %s: %w", user, err)
	}
	return int(n), nil
}

// Online tells which of some users have a session, in their order.
func (s *Store) Online(ctx context.Context, users []string) ([]bool, error) {
	online := make([]bool, 0, len(users))
	for chunk := range chunks(users) {
		pipe := s.client.Pipeline()
		cmds := make([]*redis.IntCmd, len(chunk))
		for i, user := range chunk {
			cmds[i] = pipe.Exists(ctx, sessionKey(user))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, fmt.Errorf("look up who of %d users is online: %w", len(users), err)
		}
		for _, cmd := range cmds {
			online = append(online, cmd.Val() > 0)
		}
	}
	return online, nil
}

// RoomsOf lists the rooms that user is a member of, sorted, without direct ones.
func (s *Store) RoomsOf(ctx context.Context, user string) ([]string, error) {
	return s.sortedSet(ctx, userRoomsKey(user))
}

// Reading is where a user is in a room.
type Reading struct {
	Room          // Name is always set; the rest is empty for a direct room without rules
	Epoch  string // "": nothing was ever said
	Last   uint64 // offset of the newest entry
	Read   uint64 // offset of the last one read
	Unread uint64 // messages after that
	Member bool   // false: the membership has ended, or the room is a direct one
}

// Readings tells of several rooms where user is.
func (s *Store) Readings(ctx context.Context, user string, rooms []string) ([]Reading, error) {
	found := make([]Reading, 0, len(rooms))
	for chunk := range slices.Chunk(rooms, pipelined/5) {
		pipe := s.client.Pipeline()
		gather := make([]func() Reading, len(chunk))
		for i, room := range chunk {
			info, members := pipe.HGetAll(ctx, infoKey(room)), pipe.HLen(ctx, membersKey(room))
			member := pipe.HExists(ctx, membersKey(room), user)
			meta := pipe.HMGet(ctx, metaKey(room), "epoch", "offset", "messages")
			position := pipe.HGet(ctx, readsKey(room), user)
			gather[i] = func() Reading {
				r := Reading{Room: parseRoom(room, info.Val(), int(members.Val())), Member: member.Val()}
				r.Epoch, _ = meta.Val()[0].(string)
				r.Last, _ = parseOffset(meta.Val()[1])
				messages, _ := parseOffset(meta.Val()[2])
				r.Read, r.Unread = parseReading(position.Val(), messages)
				return r
			}
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("look up %d rooms of %s: %w", len(rooms), user, err)
		}
		for _, g := range gather {
			found = append(found, g())
		}
	}
	return found, nil
}

// parseReading reads "<offset> <messages up to there>".
func parseReading(position string, messages uint64) (read, unread uint64) {
	offset, n, _ := strings.Cut(position, " ")
	read, _ = strconv.ParseUint(offset, 10, 64)
	before, _ := strconv.ParseUint(n, 10, 64)
	return read, messages - min(before, messages)
}

// MarkRead notes that user has read a room up to an offset, which cannot go back. moved tells
// whether that was news; at is what counts now.
func (s *Store) MarkRead(ctx context.Context, room, user string, offset uint64) (at uint64, moved bool, err error) {
	reply, err := markRead.Run(ctx, s.client, []string{logKey(room), metaKey(room), readsKey(room)},
		user, offset, s.metaAge()).Int64Slice()
	if err != nil {
		return 0, false, fmt.Errorf("note what %s has read in room %s: %w", user, room, err)
	}
	return uint64(max(reply[0], 0)), reply[1] == 1, nil
}
