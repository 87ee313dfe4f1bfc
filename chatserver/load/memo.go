package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// memo reads events. A server sends the same bytes to all members of a room, so
// each event is decoded once and found again by its bytes: reading costs a hash.
type memo struct {
	seed  maphash.Seed
	run   string    // of our own messages
	began time.Time // what their times count from
	slots [memoSize]atomic.Pointer[event]
}

// memoSize is how many events may be on their way at once before they push one
// another out, which costs time and nothing else.
const memoSize = 4096

// event is one of the server's. It is shared and must not be changed.
type event struct {
	protocol.Event
	frame []byte
	ours  bool      // a message of this run,
	phase int       // of this phase,
	due   time.Time // that was to be sent at this time
}

func newMemo(run string, began time.Time) *memo {
	return &memo{seed: maphash.MakeSeed(), run: run, began: began}
}

func (m *memo) read(frame []byte) (*event, error) {
	slot := &m.slots[maphash.Bytes(m.seed, frame)%memoSize]
	if e := slot.Load(); e != nil && bytes.Equal(e.frame, frame) {
		return e, nil
	}
	e := &event{frame: bytes.Clone(frame)}
	if err := json.Unmarshal(frame, &e.Event); err != nil {
		return nil, fmt.Errorf("the server sent what is no event: %w", err)
	}
	if e.Type == protocol.TypeMessage || e.Type == protocol.TypeAck {
		e.phase, e.due, e.ours = m.parseID(e.ID)
	}
	slot.Store(e)
	return e, nil
}

// id names a message so that whoever gets it knows when it was to be sent.
func (m *memo) id(phase, number int, due time.Time) string {
	b := append([]byte(m.run), '.')
	b = strconv.AppendInt(b, int64(phase), 36)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(number), 36)
	b = append(b, '.')
	return string(strconv.AppendInt(b, due.Sub(m.began).Microseconds(), 36))
}

func (m *memo) parseID(id string) (phase int, due time.Time, ours bool) {
	parts := strings.Split(id, ".")
	if len(parts) != 4 || parts[0] != m.run {
		return 0, time.Time{}, false
	}
	number, err := strconv.ParseInt(parts[1], 36, 32)
	if err != nil {
		return 0, time.Time{}, false
	}
	after, err := strconv.ParseInt(parts[3], 36, 64)
	if err != nil {
		return 0, time.Time{}, false
	}
	return int(number), m.began.Add(time.Duration(after) * time.Microsecond), true
}
