// Package sentrylog sends the log's errors to Sentry, with what the line says and
// where it was written, and with nothing of who was concerned: attributes that name
// people and addresses stay in the log.
package sentrylog

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/getsentry/sentry-go"
)

// Options say where errors go.
type Options struct {
	DSN               string
	Release, Instance string // which program this is, and which of its servers
}

// Handler takes log lines of level error and above. It is made by New.
type Handler struct {
	client *sentry.Client
	fields map[string]any // of WithAttrs
	prefix string         // of WithGroup
}

// New makes a handler. Lines are sent by a goroutine of the client's, which keeps up
// to a thousand and drops more.
func New(o Options) (*Handler, error) {
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn: o.DSN, Release: o.Release, ServerName: o.Instance,
		AttachStacktrace: true,
	})
	if err != nil {
		return nil, fmt.Errorf("read the DSN of Sentry: %w", err)
	}
	return &Handler{client: client}, nil
}

// Flush waits until everything is sent, or for as long as timeout.
func (h *Handler) Flush(timeout time.Duration) { h.client.Flush(timeout) }

// Enabled is part of slog.Handler.
func (*Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

// Handle is part of slog.Handler.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	fields := maps.Clone(h.fields)
	if fields == nil {
		fields = map[string]any{}
	}
	r.Attrs(func(a slog.Attr) bool {
		add(fields, h.prefix, a)
		return true
	})
	event := sentry.NewEvent()
	event.Level, event.Message, event.Timestamp = sentry.LevelError, r.Message, r.Time
	event.Logger = "chatserver"
	event.Contexts["log"] = fields
	// What was written by one line of the program is one issue, whatever it is about.
	event.Fingerprint = []string{r.Message}
	if id, ok := fields["request_id"].(string); ok {
		event.Tags["request_id"] = id
	}
	event.Exception = []sentry.Exception{{
		Type: r.Message, Value: fmt.Sprint(cause(fields)), Stacktrace: sentry.NewStacktrace(),
	}}
	h.client.CaptureEvent(event, nil, sentry.NewScope())
	return nil
}

// cause is what a line tells of why.
func cause(fields map[string]any) any {
	for _, name := range []string{"error", "panic"} {
		if v, ok := fields[name]; ok {
			return v
		}
	}
	return "no error was told"
}

// people are the attributes that tell who was concerned.
var people = map[string]bool{"user": true, "address": true}

func add(fields map[string]any, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindGroup:
		for _, one := range v.Group() {
			add(fields, prefix+a.Key+".", one)
		}
	case !people[a.Key]:
		fields[prefix+a.Key] = v.String()
	}
}

// WithAttrs is part of slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := *h
	more.fields = maps.Clone(h.fields)
	if more.fields == nil {
		more.fields = map[string]any{}
	}
	for _, a := range attrs {
		add(more.fields, h.prefix, a)
	}
	return &more
}

// WithGroup is part of slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	more := *h
	more.prefix += name + "."
	return &more
}
