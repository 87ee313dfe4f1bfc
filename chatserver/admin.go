package chatserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// probeTime bounds how long a readiness probe may wait for Redis.
const probeTime = 2 * time.Second

// admin answers probes, metrics and profiles. It belongs on an address that
// strangers cannot reach.
func (s *Server) admin() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{Registry: s.metrics}))
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
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeTime)
	defer cancel()
	if err := s.ready(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
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
		Namespace: "chatserver", Name: "certificate_not_after_seconds",
		Help:        "When the certificate that is served expires, in seconds since 1970.",
		ConstLabels: prometheus.Labels{"listener": listener},
	}, func() float64 { return float64(c.notAfter().Unix()) })
}
