package store

import (
	"cmp"
	"context"
	"encoding/json"
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
	publish = script("publish", "lib/epoch", "lib/log")
	amend   = script("amend", "lib/epoch", "lib/log")
	head    = script("head", "lib/epoch")
	read    = script("read", "lib/epoch")
)

// Why a room does not take what a user wants to write to it.
var (
	ErrRoomClosed = errors.New("the room is closed")
	ErrBanned     = errors.New("the user is banned from the room")
	ErrMuted      = errors.New("the user is muted in the room")
	ErrNotMember  = errors.New("the user is no member of the room")
	ErrPlaintext  = errors.New("the room takes encrypted messages only")
	ErrGone       = errors.New("the message is not in the log")
	ErrForeign    = errors.New("the message is another user's")
	ErrTooMany    = errors.New("the message has as many reactions as it may have")
	ErrSame       = errors.New("the reaction is as asked already")
)

// refusals are the scripts' words for them.
var refusals = map[string]error{
	"closed": ErrRoomClosed, "banned": ErrBanned, "muted": ErrMuted, "stranger": ErrNotMember,
	"plaintext": ErrPlaintext, "gone": ErrGone, "foreign": ErrForeign, "many": ErrTooMany, "same": ErrSame,
}

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
	Series     string // of messages that the sender numbers; "" = none
	Seq        uint64 // one that is not above the last of its series in the room was there before
	Payload    []byte // opaque; not to be changed any more, even if Publish fails
	Encrypted  bool   // the payload holds ciphertext; an encrypted room takes nothing else
}

// Amendment is what a user says about a message that is in the log: a message of its own kind,
// with a place in the log, that changes how the other one is read from now on.
type Amendment struct {
	Message
	Op        Op
	Ref       uint64 // offset of the message
	Content   string // Edit: the new content, opaque; React and Unreact: the emoji
	Moderator bool   // may delete what others wrote
}

// Op is what an amendment does.
type Op string

// The amendments there are.
const (
	Edit    Op = "edit"    // by the author alone
	Delete  Op = "delete"  // by the author or a moderator; the content leaves the log
	React   Op = "react"   // ErrSame if the user has reacted so
	Unreact Op = "unreact" // ErrSame if the user has not
)

// maxReactions is how many reactions one message can have.
const maxReactions = 1000

// Published is where a message is in its room's log.
type Published struct {
	Position
	Duplicate bool   // it was there already; nothing was sent
	Kind      string // of the room; "" if it has no rules. Not known of a duplicate,
	Guarded   bool   // nor whether somebody is banned or muted there
}

// Entry is one message in a log, or the place of one that was deleted.
type Entry struct {
	Offset  uint64
	Payload []byte // nil: deleted
	State   *State // what became of the message; nil: nothing
}

// State is what became of a message after it was sent.
type State struct {
	Content   string     `json:"e"`         // of the last edit; opaque
	Edited    int64      `json:"at,string"` // unix ms
	DeletedBy string     `json:"d"`
	Author    string     `json:"u"`        // of a deleted message
	Time      int64      `json:"t,string"` // of a deleted message, unix ms
	Reactions []Reaction `json:"r"`
}

// Reaction is who reacted to a message with one emoji, in the order they did.
type Reaction struct {
	Emoji string   `json:"e"`
	Users []string `json:"u"`
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

// Amend appends an amendment to the log, under the rules of Publish.
func (s *Store) Amend(ctx context.Context, a Amendment) (Published, error) {
	p, err := s.amend(ctx, a)
	if err != nil {
		return Published{}, fmt.Errorf("%s message %d of room %s: %w", a.Op, a.Ref, a.Room, err)
	}
	return p, nil
}

func (s *Store) amend(ctx context.Context, a Amendment) (Published, error) {
	if len(a.ID) > maxID {
		return Published{}, fmt.Errorf("message id of %d bytes: at most %d are allowed", len(a.ID), maxID)
	}
	if a.ID == "" {
		a.ID = randomID()
	}
	c := s.publishCall(a.Message)
	c.script = amend
	c.args = append(c.args, string(a.Op), a.Ref, a.Content, a.Moderator, maxReactions)
	reply, err := s.publishes.do(ctx, c)
	if err != nil {
		return Published{}, err
	}
	return parsePublished(reply)
}

func (s *Store) publishCall(m Message) call {
	return call{publish,
		[]string{logKey(m.Room), metaKey(m.Room), sentKey(m.Room, m.User), RoomChannel(m.Room),
			infoKey(m.Room), membersKey(m.Room), bannedKey(m.Room), mutedKey(m.Room), readsKey(m.Room), stateKey(m.Room),
			seriesKey(m.Room, m.User)},
		[]any{m.ID, m.Payload, randomID(), s.sending(), s.historyCount, s.historyAge.Milliseconds(),
			s.metaAge(), dedupeWindow.Milliseconds(), s.atOnce, m.User, time.Now().UnixMilli(), m.Encrypted,
			m.Series, m.Seq}}
}

// sending is the command that sends to a channel.
func (s *Store) sending() string {
	if s.sharded {
		return "SPUBLISH"
	}
	return "PUBLISH"
}

// parsePublished reads "<offset> <epoch> <0|1> <kind or -> <0|1>" and "!<why not>".
func parsePublished(reply string) (Published, error) {
	if why, refused := strings.CutPrefix(reply, "!"); refused {
		if err := refusals[why]; err != nil {
			return Published{}, err
		}
	}
	parts := strings.Split(reply, " ")
	if len(parts) != 5 {
		return Published{}, fmt.Errorf("unexpected answer of the publish script: %q", reply)
	}
	offset, err := strconv.ParseUint(parts[0], 10, 64)
	if err != nil || parts[1] == "" {
		return Published{}, fmt.Errorf("unexpected answer of the publish script: %q", reply)
	}
	kind := strings.TrimPrefix(parts[3], "-")
	return Published{Position{parts[1], offset}, parts[2] == "1", kind, parts[4] == "1"}, nil
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

// Read returns the oldest entries after an offset, at most limit of them unless that is 0,
// and between them the places of deleted ones. They are all there are if the log still has
// after+1, and with a limit if the last of them is Last. A room without an epoch gets one.
func (s *Store) Read(ctx context.Context, room string, after uint64, limit int) (Log, error) {
	l, err := s.readLog(ctx, room, "after", after, limit)
	if err != nil {
		return Log{}, fmt.Errorf("read the log of room %s: %w", room, err)
	}
	return l, nil
}

// ReadBefore returns the newest entries before an offset, or the newest of all if that is 0,
// oldest first; at most limit of them unless that is 0, and between them the places of deleted ones.
func (s *Store) ReadBefore(ctx context.Context, room string, before uint64, limit int) (Log, error) {
	l, err := s.readLog(ctx, room, "before", before, limit)
	if err != nil {
		return Log{}, fmt.Errorf("read the log of room %s backwards: %w", room, err)
	}
	return l, nil
}

func (s *Store) readLog(ctx context.Context, room, direction string, from uint64, limit int) (Log, error) {
	return parseLog(read.Run(ctx, s.client, logKeys(room),
		randomID(), s.metaAge(), s.sending(), direction, from, max(limit, 0)).Slice())
}

func logKeys(room string) []string {
	return []string{logKey(room), metaKey(room), RoomChannel(room), stateKey(room), readsKey(room)}
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

// parseLog reads the same and {id of the first entry or "", {{id, {"m", payload, ...}}...},
// {offset, state...}}.
func parseLog(reply []any, err error) (Log, error) {
	if err != nil {
		return Log{}, err
	}
	if len(reply) != 6 {
		return Log{}, errLogReply
	}
	l, err := parseHead(reply)
	if err != nil {
		return Log{}, err
	}
	entries, ok1 := reply[4].([]any)
	states, ok2 := parseStates(reply[5])
	if !ok1 || !ok2 {
		return Log{}, errLogReply
	}
	var ok bool
	if l.First, ok = parseOffset(reply[3]); !ok {
		l.First = l.Last + 1
	}
	l.Entries = make([]Entry, 0, len(entries)+len(states))
	for _, item := range entries {
		e, ok := parseEntry(item)
		if !ok {
			return Log{}, errLogReply
		}
		e.State = states[e.Offset]
		delete(states, e.Offset)
		l.Entries = append(l.Entries, e)
	}
	for offset, state := range states {
		if state.DeletedBy != "" {
			l.Entries = append(l.Entries, Entry{Offset: offset, State: state})
			l.First = min(l.First, offset)
		}
	}
	slices.SortFunc(l.Entries, func(a, b Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	return l, nil
}

func parseStates(v any) (map[uint64]*State, bool) {
	list, ok := v.([]any)
	if !ok || len(list)%2 != 0 {
		return nil, false
	}
	states := make(map[uint64]*State, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		offset, ok := parseOffset(list[i])
		text, _ := list[i+1].(string)
		state := new(State)
		if !ok || json.Unmarshal([]byte(text), state) != nil {
			return nil, false
		}
		states[offset] = state
	}
	return states, true
}

func parseEntry(item any) (Entry, bool) {
	pair, ok := item.([]any)
	if !ok || len(pair) != 2 {
		return Entry{}, false
	}
	offset, ok := parseOffset(pair[0])
	fields, _ := pair[1].([]any)
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "m" {
			payload, isText := fields[i+1].(string)
			return Entry{Offset: offset, Payload: []byte(payload)}, ok && isText
		}
	}
	return Entry{}, false
}

// parseOffset reads "<offset>" and "<offset>-0".
func parseOffset(v any) (uint64, bool) {
	id, _ := v.(string)
	number, _, _ := strings.Cut(id, "-")
	offset, err := strconv.ParseUint(number, 10, 64)
	return offset, err == nil
}
