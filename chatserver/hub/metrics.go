package hub

import "github.com/prometheus/client_golang/prometheus"

// metrics are what the hub counts. Their names are part of the product.
type metrics struct {
	published   prometheus.Counter     // messages that this server put into a log
	publishTime prometheus.Histogram   // until they were there
	delivered   prometheus.Counter     // events written to clients
	slow        prometheus.Counter     // clients cut off because they read too slowly
	limited     prometheus.Counter     // clients cut off because they sent too much
	fills       prometheus.Counter     // reads of a log because live messages were missing
	resets      prometheus.Counter     // rooms whose log did not continue what this server had
	resumes     *prometheus.CounterVec // joins with a position, by where the missed messages came from
	swept       prometheus.Counter     // dead servers that this one swept up after
}

func newMetrics(reg prometheus.Registerer, h *Hub) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "chatserver", Name: name, Help: help})
	}
	m := &metrics{
		published: counter("messages_published_total", "Messages this server stored and acknowledged."),
		publishTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "chatserver", Name: "publish_duration_seconds",
			Help:    "Time until a message was stored.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // 0.5 ms to 4 s
		}),
		delivered: counter("events_delivered_total", "Events written to clients."),
		slow:      counter("slow_clients_total", "Clients cut off because they read too slowly."),
		limited:   counter("rate_limited_clients_total", "Clients cut off because they sent too much."),
		fills:     counter("log_fills_total", "Reads of a room's log because live messages may have been missed."),
		resets:    counter("room_resets_total", "Rooms whose log did not continue what this server had delivered."),
		resumes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "chatserver", Name: "resumes_total",
			Help: "Joins that continued from a position, by the source of what was missed: memory, log or lost.",
		}, []string{"source"}),
		swept: counter("servers_swept_total", "Servers that died and whose presence this one removed."),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.published, m.publishTime, m.delivered, m.slow, m.limited, m.fills, m.resets, m.resumes, m.swept,
		connections{h}, gauge("rooms", "Rooms that clients of this server are in.", func() float64 {
			h.mu.Lock()
			defer h.mu.Unlock()
			return float64(len(h.rooms))
		}),
		gauge("users", "Users with a connection to this server.", func() float64 {
			h.mu.Lock()
			defer h.mu.Unlock()
			return float64(len(h.users))
		}))
	return m
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "chatserver", Name: name, Help: help}, f)
}

// connections counts the clients by protocol when it is asked.
type connections struct{ hub *Hub }

var connectionsDesc = prometheus.NewDesc("chatserver_connections", "Clients connected to this server.", []string{"protocol"}, nil)

func (connections) Describe(ch chan<- *prometheus.Desc) { ch <- connectionsDesc }

func (c connections) Collect(ch chan<- prometheus.Metric) {
	count := map[string]int{"websocket": 0, "line": 0}
	c.hub.mu.Lock()
	for client := range c.hub.clients {
		count[client.transport.Protocol()]++
	}
	c.hub.mu.Unlock()
	for protocol, n := range count {
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(n), protocol)
	}
}
