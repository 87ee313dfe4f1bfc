package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxID bounds a message id, and with the 64 pairs that publish.lua keeps the memory of
	// deduplication: about 6 KB for each user who spoke in a room within the window.
	maxID = 64
	// A retry finds its first try within this time.
	dedupeWindow = 15 * time.Minute
	// epochKept is how much longer than the log its epoch and offset are kept: a client that
	// comes back to a silent room within it learns that it missed nothing.
	epochKept = 30 * 24 * time.Hour
)

var (
	publish    = script("publish")
	head       = script("head")
	read       = script("read")
	readBefore = script("read_before")
)

// Position is a place in a room's log. Offsets count from 1 within an epoch; a new epoch
// means that the log was lost and positions of the old one mean nothing.
type Position struct {
	Epoch  string
	Offset uint64
}

// Message is one thing a user says in a room.
type Message struct {
	Room, User string
	ID         string // the sender's; the same ID again is the same message. At most 64 bytes; "" = none
	Payload    []byte // opaque; not to be changed any more, even if Publish fails
}

// Published is where a message is in its room's log.
type Published struct {
	Position
	Duplicate bool // it was there already; nothing was sent
}

// Entry is one message in a log.
type Entry struct {
	Offset  uint64
	Payload []byte
}

// Log is a part of a room's log, and of the same instant its epoch and bounds.
type Log struct {
	Epoch   string
	First   uint64 // offset of the oldest entry kept; Last+1 if none is
	Last    uint64 // offset of the newest message ever; 0 if there was none
	Entries []Entry
}

// Publish appends a message to its room's log and sends it to the room's channel, once: a
// message whose ID the user sent to the room in the last 15 minutes (among the last 64)
// returns the first one's position. If ctx ends first, the message may or may not be
// published; sending it again with the same ID settles that.
func (s *Store) Publish(ctx context.Context, m Message) (Published, error) {
	p, err := s.publish(ctx, m)
	if err != nil {
		return Published{}, fmt.Errorf("publish in room %s: %w", m.Room, err)
	}
	return p, nil
}

func (s *Store) publish(ctx context.Context, m Message) (Published, error) {
	if len(m.ID) > maxID {
		return Published{}, fmt.Errorf("message id of %d bytes: at most %d are allowed", len(m.ID), maxID)
	}
	if m.ID == "" {
		m.ID = randomID() // go-redis may send a command twice
	}
	reply, err := s.publishes.do(ctx, s.publishCall(m))
	if err != nil {
		return Published{}, err
	}
	return parsePublished(reply)
}

func (s *Store) publishCall(m Message) call {
	send := "PUBLISH"
	if s.sharded {
		send = "SPUBLISH"
	}
	return call{publish,
		[]string{logKey(m.Room), metaKey(m.Room), sentKey(m.Room, m.User), RoomChannel(m.Room)},
		[]any{m.ID, m.Payload, randomID(), send,
			s.historyCount, s.historyAge.Milliseconds(), s.metaAge(), dedupeWindow.Milliseconds()}}
}

// parsePublished reads "<offset> <epoch> <0|1>".
func parsePublished(reply string) (Published, error) {
	number, rest, _ := strings.Cut(reply, " ")
	epoch, duplicate, _ := strings.Cut(rest, " ")
	offset, err := strconv.ParseUint(number, 10, 64)
	if err != nil || epoch == "" {
		return Published{}, fmt.Errorf("unexpected answer of the publish script: %q", reply)
	}
	return Published{Position{epoch, offset}, duplicate == "1"}, nil
}

// Head is the position of a room's newest message. A room without an epoch gets one.
func (s *Store) Head(ctx context.Context, room string) (Position, error) {
	reply, err := head.Run(ctx, s.client, []string{logKey(room), metaKey(room)},
		randomID(), s.metaAge()).StringSlice()
	if err != nil {
		return Position{}, fmt.Errorf("read the head of room %s: %w", room, err)
	}
	offset, err := strconv.ParseUint(reply[1], 10, 64)
	if err != nil {
		return Position{}, fmt.Errorf("read the head of room %s: %w", room, err)
	}
	return Position{reply[0], offset}, nil
}

// Read returns the oldest entries after an offset, at most limit of them unless that is 0.
// They are all there are if the log still has after+1, and with a limit if the last of them
// is Last. A room without an epoch gets one.
func (s *Store) Read(ctx context.Context, room string, after uint64, limit int) (Log, error) {
	l, err := parseLog(read.Run(ctx, s.client, []string{logKey(room), metaKey(room)},
		randomID(), s.metaAge(), "("+streamID(after), max(limit, 0)).Slice())
	if err != nil {
		return Log{}, fmt.Errorf("read the log of room %s: %w", room, err)
	}
	return l, nil
}

// ReadBefore returns the newest entries before an offset, or the newest of all if that is 0,
// oldest first; at most limit of them unless that is 0.
func (s *Store) ReadBefore(ctx context.Context, room string, before uint64, limit int) (Log, error) {
	end := "+"
	if before > 0 {
		end = "(" + streamID(before)
	}
	l, err := parseLog(readBefore.Run(ctx, s.client, []string{logKey(room), metaKey(room)},
		randomID(), s.metaAge(), end, max(limit, 0)).Slice())
	if err != nil {
		return Log{}, fmt.Errorf("read the log of room %s backwards: %w", room, err)
	}
	slices.Reverse(l.Entries)
	return l, nil
}

func (s *Store) metaAge() int64 { return (s.historyAge + epochKept).Milliseconds() }

func streamID(offset uint64) string { return strconv.FormatUint(offset, 10) + "-0" }

var errLogReply = errors.New("unexpected answer of the script")

// parseLog reads {epoch, last offset, id of the first entry or "", {id, {"m", payload}}...}.
func parseLog(reply []any, err error) (Log, error) {
	if err != nil {
		return Log{}, err
	}
	if len(reply) < 3 {
		return Log{}, errLogReply
	}
	epoch, ok1 := reply[0].(string)
	last, ok2 := parseOffset(reply[1])
	first, ok3 := parseOffset(reply[2])
	if !ok1 || !ok2 {
		return Log{}, errLogReply
	}
	if !ok3 {
		first = last + 1
	}
	l := Log{Epoch: epoch, First: first, Last: last, Entries: make([]Entry, 0, len(reply)-3)}
	for _, item := range reply[3:] {
		e, ok := parseEntry(item)
		if !ok {
			return Log{}, errLogReply
		}
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

func parseEntry(item any) (Entry, bool) {
	pair, ok := item.([]any)
	if !ok || len(pair) != 2 {
		return Entry{}, false
	}
	fields, ok := pair[1].([]any)
	if !ok || len(fields) != 2 {
		return Entry{}, false
	}
	offset, ok1 := parseOffset(pair[0])
	payload, ok2 := fields[1].(string)
	return Entry{offset, []byte(payload)}, ok1 && ok2
}

// parseOffset reads "<offset>" and "<offset>-0".
func parseOffset(v any) (uint64, bool) {
	id, _ := v.(string)
	number, _, _ := strings.Cut(id, "-")
	offset, err := strconv.ParseUint(number, 10, 64)
	return offset, err == nil
}
