package chatserver

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin answers probes, metrics and profiles. It belongs on an address that
// strangers cannot reach.
func (s *Server) admin() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{Registry: s.metrics}))
	mux.HandleFunc("GET /debug/log-level", s.logLevel)
	mux.HandleFunc("PUT /debug/log-level", s.setLogLevel)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
}

// healthz says that the process runs. Nothing that a restart would not mend is
// part of it: Redis being away is not this server's illness.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintln(w, "ok")
}

// readyz says whether new clients should come here, and why not.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := s.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// level is the body of /debug/log-level, both ways.
type level struct {
	Level slog.Level `json:"level"`
}

func (s *Server) logLevel(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(level{s.config.LogLevel.Level()})
}

// setLogLevel changes what is logged from now on, until the next restart.
func (s *Server) setLogLevel(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Level *slog.Level `json:"level"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&wanted); err != nil || wanted.Level == nil {
		http.Error(w, `send a level, like {"level":"debug"}: debug, info, warn or error`, http.StatusBadRequest)
		return
	}
	before := s.config.LogLevel.Level()
	s.config.LogLevel.Set(*wanted.Level)
	s.log.WarnContext(r.Context(), "log level changed", "level", *wanted.Level, "before", before)
	s.logLevel(w, r)
}

func buildInfo(version, node string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "chatserver", Name: "build_info",
		Help:        "Always 1; its labels tell which program this is.",
		ConstLabels: prometheus.Labels{"version": version, "node": node},
	})
	info.Set(1)
	return info
}

// expiry tells when the certificate of a listener ends.
func expiry(listener string, c *certificate) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "chatserver", Name: "certificate_not_after_timestamp_seconds",
		Help:        "When the certificate that is served expires, in seconds since 1970.",
		ConstLabels: prometheus.Labels{"listener": listener},
	}, func() float64 { return float64(c.notAfter().Unix()) })
}
