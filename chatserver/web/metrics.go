package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what is counted of requests. Their names are part of the product.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "chatserver", Name: "http_requests_total",
			Help: "HTTP requests answered, WebSocket handshakes included.",
		}, []string{"code", "method", "path"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "chatserver", Name: "http_request_duration_seconds",
			Help:    "Time to answer an HTTP request; of a WebSocket, its handshake.",
			Buckets: prometheus.DefBuckets, // 5 ms to 10 s: a login takes some 60 ms, and up to 2 s in a storm of them
		}, []string{"method", "path"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "chatserver", Name: "http_requests_in_flight",
			Help: "HTTP requests that are being answered.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.inFlight)
	}
	return m
}

func (m *metrics) observe(r *http.Request, code int, took time.Duration) {
	method, path := methodOf(r), pathOf(r)
	m.requests.WithLabelValues(strconv.Itoa(code), method, path).Inc()
	m.duration.WithLabelValues(method, path).Observe(took.Seconds())
}

// unmatched stands for all paths that nothing answers: strangers try many.
const unmatched = "unmatched"

// pathOf is the pattern of the paths that are answered in the same way.
func pathOf(r *http.Request) string {
	_, path, _ := strings.Cut(r.Pattern, " ")
	switch path {
	case "":
		return unmatched
	case "/{$}":
		return "/"
	}
	return path
}

func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}
