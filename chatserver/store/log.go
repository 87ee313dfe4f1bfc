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
	publish    = script("publish", "lib/epoch")
	head       = script("head", "lib/epoch")
	read       = script("read", "lib/epoch")
	readBefore = script("read_before", "lib/epoch")
)

// Position is a place in a room's log. Offsets count from 1 without gaps. The same offset
// stands for another message only in another epoch; see Lineage.
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
	Lineage
	First   uint64 // offset of the oldest entry kept; Last+1 if none is
	Last    uint64 // offset of the newest message ever; 0 if there was none
	Entries []Entry
}

// Publish appends a message to its room's log and, as soon as it is as safe as Options asks
// for, announces it on the room's channel, once: a message whose ID the user sent to the room in the last 15 minutes (among the last 64)
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
	return call{publish,
		[]string{logKey(m.Room), metaKey(m.Room), sentKey(m.Room, m.User), RoomChannel(m.Room)},
		[]any{m.ID, m.Payload, randomID(), s.sending(), s.historyCount, s.historyAge.Milliseconds(),
			s.metaAge(), dedupeWindow.Milliseconds(), s.atOnce}}
}

// sending is the command that sends to a channel.
func (s *Store) sending() string {
	if s.sharded {
		return "SPUBLISH"
	}
	return "PUBLISH"
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

// Head is a Log without entries and without First. A room without an epoch gets one.
func (s *Store) Head(ctx context.Context, room string) (Log, error) {
	reply, err := head.Run(ctx, s.client, logKeys(room), randomID(), s.metaAge(), s.sending()).Slice()
	if err == nil && len(reply) != 3 {
		err = errLogReply
	}
	var l Log
	if err == nil {
		l, err = parseHead(reply)
	}
	if err != nil {
		return Log{}, fmt.Errorf("read the head of room %s: %w", room, err)
	}
	return l, nil
}

// Read returns the oldest entries after an offset, at most limit of them unless that is 0.
// They are all there are if the log still has after+1, and with a limit if the last of them
// is Last. A room without an epoch gets one.
func (s *Store) Read(ctx context.Context, room string, after uint64, limit int) (Log, error) {
	l, err := parseLog(read.Run(ctx, s.client, logKeys(room),
		randomID(), s.metaAge(), s.sending(), after, max(limit, 0)).Slice())
	if err != nil {
		return Log{}, fmt.Errorf("read the log of room %s: %w", room, err)
	}
	return l, nil
}

// ReadBefore returns the newest entries before an offset, or the newest of all if that is 0,
// oldest first; at most limit of them unless that is 0.
func (s *Store) ReadBefore(ctx context.Context, room string, before uint64, limit int) (Log, error) {
	l, err := parseLog(readBefore.Run(ctx, s.client, logKeys(room),
		randomID(), s.metaAge(), s.sending(), before, max(limit, 0)).Slice())
	if err != nil {
		return Log{}, fmt.Errorf("read the log of room %s backwards: %w", room, err)
	}
	slices.Reverse(l.Entries)
	return l, nil
}

func logKeys(room string) []string {
	return []string{logKey(room), metaKey(room), RoomChannel(room)}
}

func (s *Store) metaAge() int64 { return (s.historyAge + epochKept).Milliseconds() }

var errLogReply = errors.New("unexpected answer of the script")

// parseHead reads {epoch, epochs it continues, last offset}.
func parseHead(reply []any) (Log, error) {
	epoch, ok1 := reply[0].(string)
	before, ok2 := reply[1].(string)
	last, ok3 := parseOffset(reply[2])
	lineage, ok4 := parseLineage(epoch, before)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return Log{}, errLogReply
	}
	return Log{Lineage: lineage, Last: last}, nil
}

// parseLog reads the same and {id of the first entry or "", {{id, {"m", payload}}...}}.
func parseLog(reply []any, err error) (Log, error) {
	if err != nil {
		return Log{}, err
	}
	if len(reply) != 5 {
		return Log{}, errLogReply
	}
	l, err := parseHead(reply)
	if err != nil {
		return Log{}, err
	}
	entries, ok := reply[4].([]any)
	if !ok {
		return Log{}, errLogReply
	}
	if l.First, ok = parseOffset(reply[3]); !ok {
		l.First = l.Last + 1
	}
	l.Entries = make([]Entry, 0, len(entries))
	for _, item := range entries {
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
