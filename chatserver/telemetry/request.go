package telemetry

import (
	"context"
	"crypto/rand"
	"strings"
)

// RequestIDHeader carries the id of a request, both ways.
const RequestIDHeader = "X-Request-Id"

// maxRequestID bounds the ids of others, in bytes: a UUID and a trace's id of any
// vendor fit well.
const maxRequestID = 128

type requestID struct{}

// WithRequestID has everything that is logged with the context tell the id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestID{}, id)
}

// RequestID is the id of the request or connection that ctx is about; empty if
// there is none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestID{}).(string)
	return id
}

// NewRequestID is an id that nobody has used.
func NewRequestID() string { return rand.Text() }

// AcceptRequestID is the id that a client or a proxy gave, if it is one that can
// stand in a log and a header without harm; else a new one.
func AcceptRequestID(given string) string {
	if given == "" || len(given) > maxRequestID || strings.ContainsFunc(given, strange) {
		return NewRequestID()
	}
	return strings.Clone(given) // not a part of all the headers, for as long as a WebSocket lives
}

func strange(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("-_.:/+=@", r)
}
