package chat

import (
	"context"
	"errors"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

const (
	// MaxRooms is how many rooms one user can be a member of, direct ones apart.
	MaxRooms = 200
	// maxPage is how many lines one page of a list has.
	maxPage = 200
	// maxNames is how many names a request can ask about.
	maxNames = 200
)

// join makes the user a member. What the membership brings to a connection is
// the hub's to do.
func (c *Chat) join(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.Join(ctx, user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	head, err := c.store.Head(ctx, req.Room)
	if err != nil {
		return protocol.Event{}, err
	}
	return protocol.Event{Type: protocol.TypeJoined, Room: req.Room, Epoch: head.Epoch, Offset: head.Last}, nil
}

// Join makes the user a member of a room, or says why not. Direct rooms are
// their users' without it.
func (c *Chat) Join(ctx context.Context, user, room string) error {
	if protocol.IsDirect(room) {
		if err := ownRoom(user, room); err != nil {
			return err
		}
		a, b, _ := protocol.DirectUsers(room)
		if a == user {
			a = b
		}
		return c.knownUser(ctx, user, a)
	}
	if err := protocol.ValidateRoom(room); err != nil {
		return Refuse(protocol.CodeBadRequest, "%v", err)
	}
	rooms, err := c.store.CountRoomsOf(ctx, user)
	if err != nil {
		return err
	}
	if rooms >= MaxRooms {
		member, err := c.store.IsMember(ctx, room, user)
		if err != nil {
			return err
		}
		if !member {
			return Refuse(protocol.CodeLimit, "you are in %d rooms, which is the limit: leave one first", rooms)
		}
	}
	_, err = c.store.Join(ctx, room, user)
	return refused(room, err)
}

// leave ends the membership, and with it the user's presence in the room on
// every connection.
func (c *Chat) leave(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if protocol.IsDirect(req.Room) {
		return protocol.Event{}, Refuse(protocol.CodeBadRequest, "a direct room cannot be left: it is the two users' own")
	}
	if err := c.remove(ctx, user, req.Room, user); err != nil {
		return protocol.Event{}, err
	}
	return protocol.Event{Type: protocol.TypeLeft, Room: req.Room}, nil
}

// remove ends the membership of a user, at the wish of another one or their own.
func (c *Chat) remove(ctx context.Context, by, room, user string) error {
	if err := c.store.Leave(ctx, room, user); err != nil {
		return err
	}
	return c.tellRemoved(ctx, by, room, user)
}

// tellRemoved reaches the user's connections. Unlike other broadcasts it must not
// be lost: whoever was removed would go on hearing the room.
func (c *Chat) tellRemoved(ctx context.Context, by, room, user string) error {
	return c.store.Broadcast(ctx, store.UserChannel(user), Record{Kind: KindRemoved, User: by, Room: room}.Encode())
}

// create makes a room that belongs to the user.
func (c *Chat) create(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	r := store.Room{
		Name: req.Room, Kind: req.Kind, Owner: user, Encrypted: req.Encrypted, Created: time.Now(),
	}
	if err := c.describe(&r, req); err != nil {
		return protocol.Event{}, err
	}
	switch {
	case protocol.IsDirect(r.Name):
		// The one thing to make of a direct room: that it takes ciphertext only.
		if err := ownRoom(user, r.Name); err != nil {
			return protocol.Event{}, err
		}
		if !r.Encrypted {
			return protocol.Event{}, Refuse(protocol.CodeBadRequest, "a direct room is there without being made; make it encrypted, or send to it")
		}
		r.Kind = protocol.KindDirect
	case protocol.ValidateRoom(r.Name) != nil:
		return protocol.Event{}, Refuse(protocol.CodeBadRequest, "%v", protocol.ValidateRoom(r.Name))
	case r.Kind == "":
		r.Kind = protocol.KindPublic
	case r.Kind != protocol.KindPublic && r.Kind != protocol.KindPrivate:
		return protocol.Event{}, Refuse(protocol.CodeBadRequest, "a room is %s or %s, not %q", protocol.KindPublic, protocol.KindPrivate, r.Kind)
	}
	if n, err := c.store.CountRoomsOf(ctx, user); err != nil || n >= MaxRooms {
		if err == nil {
			err = Refuse(protocol.CodeLimit, "you are in %d rooms, which is the limit: leave one first", n)
		}
		return protocol.Event{}, err
	}
	if _, err := retryUntilFinal(ctx, store.ErrRoomExists, func() error { return c.store.CreateRoom(ctx, r) }); err != nil {
		return protocol.Event{}, err
	}
	return c.info(ctx, r.Name)
}

// describe takes topic and retention from a request.
func (c *Chat) describe(r *store.Room, req protocol.Request) error {
	if req.Topic != nil {
		if err := protocol.ValidateTopic(*req.Topic); err != nil {
			return Refuse(protocol.CodeBadRequest, "%v", err)
		}
		r.Topic = *req.Topic
	}
	if keep := req.Retention; keep != nil {
		if keep.Messages < 0 || keep.Messages > maxKeepMessages || keep.Seconds < 0 || keep.Seconds > maxKeepSeconds {
			return Refuse(protocol.CodeBadRequest, "a room keeps up to %d messages and up to %d days", maxKeepMessages, maxKeepSeconds/86400)
		}
		r.Keep = store.Retention{Messages: keep.Messages, Age: time.Duration(keep.Seconds) * time.Second}
	}
	return nil
}

const (
	maxKeepMessages = 1_000_000
	maxKeepSeconds  = 10 * 365 * 86400
)

// room tells about a room; its owner and moderators may change its topic and
// retention with the same request.
func (c *Chat) room(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if req.Topic == nil && req.Retention == nil {
		if err := c.mayRead(ctx, user, req.Room); err != nil {
			return protocol.Event{}, err
		}
		return c.info(ctx, req.Room)
	}
	var wanted store.Room
	if err := c.describe(&wanted, req); err != nil {
		return protocol.Event{}, err
	}
	if err := c.mustModerate(ctx, user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	if req.Topic != nil {
		if err := c.store.SetTopic(ctx, req.Room, wanted.Topic); err != nil {
			return protocol.Event{}, err
		}
	}
	if req.Retention != nil {
		if err := c.store.SetRetention(ctx, req.Room, wanted.Keep); err != nil {
			return protocol.Event{}, err
		}
	}
	return c.changed(ctx, req.Room)
}

// info is the answer about one room.
func (c *Chat) info(ctx context.Context, room string) (protocol.Event, error) {
	r, err := c.store.Room(ctx, room)
	if errors.Is(err, store.ErrNoRoom) && protocol.IsDirect(room) {
		r, err = store.Room{Name: room, Kind: protocol.KindDirect}, nil
	}
	if err != nil {
		return protocol.Event{}, err
	}
	_, present, err := c.store.Members(ctx, room, 1)
	if err != nil {
		return protocol.Event{}, err
	}
	info := describe(r)
	info.Users = present
	return protocol.Event{Type: protocol.TypeRoomInfo, Room: room, Info: &info}, nil
}

// changed answers with what a room is now, and shows it to those in it.
func (c *Chat) changed(ctx context.Context, room string) (protocol.Event, error) {
	answer, err := c.info(ctx, room)
	if err == nil {
		c.Broadcast(ctx, store.RoomChannel(room), Record{Kind: KindInfo, Info: answer.Info})
	}
	return answer, err
}

func describe(r store.Room) protocol.RoomInfo {
	info := protocol.RoomInfo{
		Name: r.Name, Kind: r.Kind, Encrypted: r.Encrypted, Topic: r.Topic, Owner: r.Owner, Members: r.Members, Closed: r.Closed,
	}
	if protocol.IsDirect(r.Name) {
		info.Kind = protocol.KindDirect
	}
	if r.Keep != (store.Retention{}) {
		info.Retention = &protocol.Retention{Messages: r.Keep.Messages, Seconds: int64(r.Keep.Age / time.Second)}
	}
	return info
}

// rooms lists a page of the rooms in which somebody is, private ones apart.
func (c *Chat) rooms(ctx context.Context, _ string, req protocol.Request) (protocol.Event, error) {
	limit := pageSize(req.Limit)
	found, err := c.store.Rooms(ctx)
	if err != nil {
		return protocol.Event{}, err
	}
	answer := protocol.Event{Type: protocol.TypeRoomList, Rooms: []protocol.RoomInfo{}}
	for _, r := range found {
		if r.Name <= req.After && req.After != "" || r.Kind == protocol.KindPrivate {
			continue
		}
		if len(answer.Rooms) == limit {
			answer.More = true
			break
		}
		answer.Rooms = append(answer.Rooms, protocol.RoomInfo{
			Name: r.Name, Users: r.Users, Kind: r.Kind, Topic: r.Topic, Encrypted: r.Encrypted, Closed: r.Closed,
		})
	}
	return answer, nil
}

// myRooms lists what the user is a member of and what is unread there.
func (c *Chat) myRooms(ctx context.Context, user string, _ protocol.Request) (protocol.Event, error) {
	mine, err := c.MyRooms(ctx, user)
	return protocol.Event{Type: protocol.TypeMyRooms, MyRooms: mine}, err
}

// MyRooms are the rooms of a user, direct ones included, with what is unread.
func (c *Chat) MyRooms(ctx context.Context, user string) ([]protocol.RoomInfo, error) {
	names, err := c.store.RoomsOf(ctx, user)
	if err != nil {
		return nil, err
	}
	directs, err := c.store.Directs(ctx, user)
	if err != nil {
		return nil, err
	}
	readings, err := c.store.Readings(ctx, user, append(names, directs...))
	if err != nil {
		return nil, err
	}
	mine := make([]protocol.RoomInfo, 0, len(readings))
	for _, r := range readings {
		if !r.Member && !protocol.IsDirect(r.Name) {
			continue // the membership ended and the list could not be told
		}
		info := describe(r.Room)
		info.Epoch, info.Offset, info.Read, info.Unread = r.Epoch, r.Last, r.Read, r.Unread
		mine = append(mine, info)
	}
	return mine, nil
}

// members lists a page of a room's members, present or not.
func (c *Chat) members(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.mayRead(ctx, user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	page, more, err := c.store.MembersOf(ctx, req.Room, req.After, pageSize(req.Limit))
	if err != nil {
		return protocol.Event{}, err
	}
	names := make([]string, len(page))
	for i, m := range page {
		names[i] = m.Name
	}
	online, err := c.store.Online(ctx, names)
	if err != nil {
		return protocol.Event{}, err
	}
	answer := protocol.Event{Type: protocol.TypeMemberList, Room: req.Room, Members: []protocol.MemberInfo{}, More: more}
	for i, m := range page {
		answer.Members = append(answer.Members, protocol.MemberInfo{Name: m.Name, Online: online[i], Since: timestamp(m.Since.UnixMilli())})
	}
	return answer, nil
}

// WhoLimit is how many names a list of who is present has.
const WhoLimit = 500

// who lists who is present in a room.
func (c *Chat) who(ctx context.Context, user string, req protocol.Request) (protocol.Event, error) {
	if err := c.mayRead(ctx, user, req.Room); err != nil {
		return protocol.Event{}, err
	}
	users, total, err := c.store.Members(ctx, req.Room, WhoLimit)
	if err != nil {
		return protocol.Event{}, err
	}
	return UserList(req.Room, users, total), nil
}

// UserList has a list even where nobody is: clients look for one.
func UserList(room string, users []string, total int) protocol.Event {
	if users == nil {
		users = []string{}
	}
	return protocol.Event{Type: protocol.TypeUserList, Room: room, Users: users, Total: total}
}

// presence tells which of some users are online.
func (c *Chat) presence(ctx context.Context, _ string, req protocol.Request) (protocol.Event, error) {
	if len(req.Names) > maxNames {
		return protocol.Event{}, Refuse(protocol.CodeLimit, "a request asks about up to %d users, not %d", maxNames, len(req.Names))
	}
	online, err := c.store.Online(ctx, req.Names)
	if err != nil {
		return protocol.Event{}, err
	}
	answer := protocol.Event{Type: protocol.TypeMemberList, Members: []protocol.MemberInfo{}}
	for i, name := range req.Names {
		answer.Members = append(answer.Members, protocol.MemberInfo{Name: name, Online: online[i]})
	}
	return answer, nil
}

func pageSize(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}
