package web

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/address"
	"github.com/chatcluster/chatcluster/chatserver/telemetry"
)

// identified gives the request an id, which the answer and all lines about it in
// the log tell.
func identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := telemetry.AcceptRequestID(r.Header.Get(telemetry.RequestIDHeader))
		w.Header().Set(telemetry.RequestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(telemetry.WithRequestID(r.Context(), id)))
	})
}

// secured sets the headers that tell browsers to be strict.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// limited counts the request against one of its address's limits.
func (s *Server) limited(limit address.Limit, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		retry, ok := s.Addresses.Allow(r.Context(), limit, s.Addresses.OfRequest(r))
		if ok {
			next(w, r)
			return
		}
		retryAfter(w, retry)
		s.refuse(w, r, http.StatusTooManyRequests, "too many requests from this address: try again later")
	})
}

// logged tells of every request, without its query, which may hold a token.
func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.Log.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(w, r)
			return
		}
		began := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		s.Log.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path,
			"status", seen.status, "took", time.Since(began), "address", s.Addresses.OfRequest(r))
	})
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
