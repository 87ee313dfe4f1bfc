package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// ParseJSON reads one request from a WebSocket text frame. The errors are
// sentences for the person who wrote the client.
func ParseJSON(frame []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(frame, &r); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return Request{}, fmt.Errorf("field %q cannot be a JSON %s", wrong.Field, wrong.Value)
		}
		return Request{}, errors.New(`a frame is one JSON object, like {"type":"message","message":"Hello!"}`)
	}
	if r.Type == "" {
		return Request{}, errors.New(`the field "type" is missing`)
	}
	if err := r.ValidateIDs(); err != nil {
		return Request{}, err
	}
	if r.Type == TypeChat {
		r.Type = TypeMessage
	}
	return r, nil
}

// ValidateIDs says what is wrong with how a request is told from others. The server
// remembers these words, so their length is bounded.
func (r *Request) ValidateIDs() error {
	if len(r.ID) > MaxID {
		return fmt.Errorf("an id has at most %d bytes", MaxID)
	}
	if len(r.Series) > MaxID || (r.Series == "") != (r.Seq == 0) {
		return fmt.Errorf("a series has a name of at most %d bytes, and each message in it a number above 0", MaxID)
	}
	return nil
}

// AppendJSON appends the event's JSON to b. Characters that mean something in
// HTML are left as they are: escaping is for whoever makes HTML of it.
func (e *Event) AppendJSON(b []byte) []byte {
	buf := bytes.NewBuffer(b)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		// Event has only strings, numbers and lists of them: it always encodes.
		panic(fmt.Sprintf("protocol: encode %s event: %v", e.Type, err))
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
