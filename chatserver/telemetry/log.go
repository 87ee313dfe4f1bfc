// Package telemetry is how a server tells its operators what it does: the log,
// and the ids by which the lines of one request are found. It knows nothing of
// chat, and must be cheap where it is not used: what sends elsewhere (traces,
// errors) is in packages of its own below it.
package telemetry

import (
	"context"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// NewLog makes a log that writes lines of text, or of JSON for machines, which
// tell the request they belong to. What is logged goes to others too, if there are
// any.
func NewLog(w io.Writer, text bool, level slog.Leveler, others ...slog.Handler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	var lines slog.Handler = slog.NewJSONHandler(w, o)
	if text {
		lines = slog.NewTextHandler(w, o)
	}
	if len(others) > 0 {
		lines = slog.NewMultiHandler(append([]slog.Handler{lines}, others...)...)
	}
	return slog.New(handler{lines})
}

// readable writes durations as flags have them, with their unit: JSON would have
// a number of nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// handler adds what the context of a line knows.
type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
