package store

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// observer counts and times what is asked of Redis, and tells the trace that asked.
// It sees pipelines as one: their commands share the way.
type observer struct {
	duration *prometheus.HistogramVec
	failures prometheus.Counter
}

// observe has a client's commands and connections seen in the metrics. Registering
// fails for the second store of one registry.
func observe(client redis.UniversalClient, reg prometheus.Registerer) error {
	o := &observer{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "chatserver", Name: "redis_request_duration_seconds",
			Help:    "Time until Redis answered, by the kind of request: one command, or a pipeline of several.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14), // 0.25 ms to 2 s
		}, []string{"request"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "chatserver", Name: "redis_errors_total",
			Help: "Requests that Redis did not answer, or answered with an error.",
		}),
	}
	for _, c := range []prometheus.Collector{o.duration, o.failures, pool{client}} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	client.AddHook(o)
	return nil
}

func (*observer) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (o *observer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return o.time(ctx, "command", cmd.FullName, func(ctx context.Context) error { return next(ctx, cmd) })
	}
}

func (o *observer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return o.time(ctx, "pipeline", func() string { return "pipeline" }, func(ctx context.Context) error { return next(ctx, cmds) })
	}
}

func (o *observer) time(ctx context.Context, request string, name func() string, do func(context.Context) error) error {
	if parent := trace.SpanFromContext(ctx); parent.IsRecording() {
		var span trace.Span
		ctx, span = parent.TracerProvider().Tracer(tracer).Start(ctx, "redis "+name(), trace.WithSpanKind(trace.SpanKindClient))
		defer span.End()
		do = told(span, do)
	}
	began := time.Now()
	err := do(ctx)
	o.duration.WithLabelValues(request).Observe(time.Since(began).Seconds())
	if failed(err) {
		o.failures.Inc()
	}
	return err
}

const tracer = "github.com/chatcluster/chatcluster/chatserver/store"

// told does something and tells the span if it failed.
func told(span trace.Span, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := do(ctx)
		if failed(err) {
			span.SetStatus(codes.Error, err.Error())
		}
		return err
	}
}

// failed tells errors from answers: that there is nothing under a key, and that a script
// has to be sent once more, are part of the day.
func failed(err error) bool {
	return err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "NOSCRIPT") && !errors.Is(err, context.Canceled)
}

// pool tells of the connections to Redis when it is asked.
type pool struct{ client redis.UniversalClient }

func poolDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("chatserver_redis_pool_"+name, help, labels, nil)
}

var (
	poolConnections = poolDesc("connections", "Connections to Redis for commands, by state.", "state")
	poolGets        = poolDesc("gets_total", "Times that a connection was wanted, by result: there was a free one (hit), one had to be made (miss), none came in time (timeout).", "result")
	poolStale       = poolDesc("stale_connections_total", "Connections that were given up because they were broken or old.")
)

func (pool) Describe(ch chan<- *prometheus.Desc) {
	ch <- poolConnections
	ch <- poolGets
	ch <- poolStale
}

func (p pool) Collect(ch chan<- prometheus.Metric) {
	s := p.client.PoolStats()
	ch <- prometheus.MustNewConstMetric(poolConnections, prometheus.GaugeValue, float64(s.IdleConns), "idle")
	ch <- prometheus.MustNewConstMetric(poolConnections, prometheus.GaugeValue, float64(s.TotalConns-min(s.IdleConns, s.TotalConns)), "used")
	ch <- prometheus.MustNewConstMetric(poolGets, prometheus.CounterValue, float64(s.Hits), "hit")
	ch <- prometheus.MustNewConstMetric(poolGets, prometheus.CounterValue, float64(s.Misses), "miss")
	ch <- prometheus.MustNewConstMetric(poolGets, prometheus.CounterValue, float64(s.Timeouts), "timeout")
	ch <- prometheus.MustNewConstMetric(poolStale, prometheus.CounterValue, float64(s.StaleConns))
}
