package web

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"

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

// traced begins a trace for each request, or, where a trusted proxy is in front,
// goes on with the proxy's.
func (s *Server) traced(next http.Handler) http.Handler {
	if s.Traces == nil {
		return next
	}
	return otelhttp.NewHandler(next, "request",
		otelhttp.WithTracerProvider(s.Traces),
		otelhttp.WithMeterProvider(noop.NewMeterProvider()),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithPublicEndpointFn(func(r *http.Request) bool { return !s.Addresses.Proxied(r) }),
		otelhttp.WithFilter(func(r *http.Request) bool { return r.URL.Path != "/health" }))
}

// observed counts, times and logs every request, without its query, which may
// hold a token. What a defect makes panic is answered and told here.
func (s *Server) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		seen := &statusWriter{ResponseWriter: w}
		s.metrics.inFlight.Inc()
		defer func() {
			s.metrics.inFlight.Dec()
			took := time.Since(began)
			s.metrics.observe(r, seen.code(), took)
			if s.Log.Enabled(r.Context(), slog.LevelDebug) {
				s.Log.DebugContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path,
					"status", seen.code(), "took", took, "address", s.Addresses.OfRequest(r))
			}
		}()
		defer s.recovered(seen, r)
		next.ServeHTTP(seen, r)
	})
}

// recovered ends a panic of whoever answers r.
func (s *Server) recovered(w *statusWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // it is compared as net/http does
		panic(p)
	}
	s.Log.ErrorContext(r.Context(), "request ended by a defect", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if w.status == 0 {
		s.refuse(w, r, http.StatusInternalServerError, "the service made a mistake: its operators find it by the id of this request")
	}
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

// worthCompressing is from how many bytes on an answer is compressed: what fits
// into a packet takes no less time for being smaller.
const worthCompressing = 1400

// compressed has long answers compressed for those who can take it. That does not
// give secrets away by their length, as it could where a page can make a browser
// ask on its user's behalf: there are no cookies, a page has no token to ask with.
func compressed(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(worthCompressing), gzhttp.EnableZstd(false))
	if err != nil {
		panic(err) // the options are right
	}
	zipped := wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			next.ServeHTTP(w, r) // nothing comes between a WebSocket and its connection
			return
		}
		zipped.ServeHTTP(w, r)
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

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int // 0: nothing was answered yet
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK // what net/http answers for a handler that says nothing
	}
	return w.status
}
