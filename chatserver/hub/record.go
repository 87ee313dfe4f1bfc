package hub

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// record is what servers tell one another: the payload of a log entry and of
// everything on the live channels. Its names are short because Redis keeps
// millions of them.
type record struct {
	Kind   string `json:"k,omitempty"` // "" is a message
	User   string `json:"u,omitempty"`
	Time   int64  `json:"t,omitempty"` // unix milliseconds
	Text   string `json:"m,omitempty"`
	ID     string `json:"i,omitempty"` // the sender's
	Room   string `json:"r,omitempty"` // where the channel does not tell
	Offset uint64 `json:"o,omitempty"` // the same
	Login  string `json:"s,omitempty"` // session id
}

// Kinds of records that are not messages.
const (
	kindJoined   = "joined"   // room channel: User is in the room now
	kindLeft     = "left"     // room channel: User is in it no more
	kindChanged  = "changed"  // room channel: who is here changed, ask again
	kindDirect   = "direct"   // user channel: Room is a new direct room of this user
	kindLogout   = "logout"   // user channel: the session Login has ended
	kindReplaced = "replaced" // user channel: another login took over from Login
)

func (r record) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		// Strings and numbers always encode.
		panic(fmt.Sprintf("hub: encode record: %v", err))
	}
	return b
}

func decodeRecord(b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, fmt.Errorf("decode record: %w", err)
	}
	return r, nil
}

const timestampLayout = "2006-01-02T15:04:05.000Z07:00"

// event is the message as clients see it.
func (r record) event(room, epoch string, offset uint64) protocol.Event {
	return protocol.Event{
		Type: protocol.TypeMessage, ID: r.ID, Room: room, Username: r.User, Message: r.Text,
		Timestamp: time.UnixMilli(r.Time).UTC().Format(timestampLayout),
		Epoch:     epoch, Offset: offset,
	}
}
