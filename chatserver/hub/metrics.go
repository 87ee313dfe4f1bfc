package hub

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// metrics are what the hub counts. Their names are part of the product. None has
// a label of a user or a room: there are as many of those as people like.
type metrics struct {
	opened  *prometheus.CounterVec // connections that became clients, by protocol
	refused *prometheus.CounterVec // and that did not, by protocol and reason
	closed  *prometheus.CounterVec // clients that ended, by protocol and close code

	requests  *prometheus.CounterVec // of clients, by type and outcome
	delivered prometheus.Counter     // events written to clients: one addition for each write
	latency   prometheus.Histogram   // of messages, once for all of a server's members
	slow      prometheus.Counter     // clients cut off because they read too slowly
	limited   prometheus.Counter     // clients cut off because they sent too much
	fills     prometheus.Counter     // reads of a log because live messages were missing
	resets    prometheus.Counter     // rooms whose log did not continue what this server had
	resumes   *prometheus.CounterVec // joins with a position, by where the missed messages came from
	swept     prometheus.Counter     // dead servers that this one swept up after
}

func newMetrics(reg prometheus.Registerer, h *Hub) *metrics {
	m := &metrics{
		opened:    counters("connections_opened_total", "Connections that became clients.", "protocol"),
		refused:   counters("connections_refused_total", "Connections with a good token or password that did not become clients.", "protocol", "reason"),
		closed:    counters("connections_closed_total", "Clients whose connections ended, by WebSocket close code; 1006 is one that broke.", "protocol", "code"),
		requests:  counters("requests_total", "Requests of clients, by type and by ok or the code of the error.", "type", "code"),
		delivered: counter("events_delivered_total", "Events written to clients."),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "chatserver", Name: "delivery_latency_seconds",
			Help:    "Time from when a server took a message until it was queued for all members on this server; one observation a message.",
			Buckets: []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}),
		slow:    counter("slow_clients_total", "Clients cut off because they read too slowly."),
		limited: counter("rate_limited_clients_total", "Clients cut off because they sent too much."),
		fills:   counter("log_fills_total", "Reads of a room's log because live messages may have been missed."),
		resets:  counter("room_resets_total", "Rooms whose log did not continue what this server had delivered."),
		resumes: counters("resumes_total", "Joins that continued from a position, by the source of what was missed: memory, log or lost.", "source"),
		swept:   counter("servers_swept_total", "Servers that died and whose presence this one removed."),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.opened, m.refused, m.closed, m.requests, m.delivered, m.latency,
		m.slow, m.limited, m.fills, m.resets, m.resumes, m.swept, state{h})
	return m
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "chatserver", Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "chatserver", Name: name, Help: help}, labels)
}

// codeLabel keeps clients, who may close with thousands of codes, from making as
// many series.
func codeLabel(code int) string {
	switch code {
	case protocol.CloseNormal, 1001, 1002, 1003, 1005, protocol.CloseAbnormal, 1007, protocol.CloseRateLimit,
		protocol.CloseTooBig, 1010, protocol.CloseInternal, protocol.CloseServiceRestart, 1013, 1014,
		protocol.CloseUnauthorized, protocol.CloseSlow, protocol.CloseReplaced, protocol.CloseOnline:
		return strconv.Itoa(code)
	}
	return "other"
}

// reason is why a connection did not become a client.
func reason(err error) string {
	switch {
	case errors.Is(err, store.ErrOnline):
		return "online"
	case errors.Is(err, ErrDraining):
		return "draining"
	case errors.Is(err, ErrLoggedOut):
		return "logged_out"
	case errors.Is(err, ErrCrowd):
		return "crowd"
	}
	return "error"
}

// outcome is what was asked, and what came of it: ok, or the code of the error.
func outcome(req protocol.Request, err error) (kind, code string) {
	code = "ok"
	var refusal *chat.Refusal
	switch {
	case errors.As(err, &refusal):
		code = refusal.Code
	case err != nil:
		code = protocol.CodeUnavailable
	}
	if code == protocol.CodeUnknownInput {
		return "unknown", code // clients may think of any
	}
	return req.Type, code
}

// arrived notes how long a message took, by the clock of the server that took it.
func (m *metrics) arrived(e protocol.Event) {
	taken, err := time.Parse(time.RFC3339, e.Timestamp)
	if err == nil && !e.Deleted { // what is left of a message that was deleted long ago is not late
		m.latency.Observe(max(0, time.Since(taken).Seconds())) // clocks differ a little
	}
}

// state is what the hub tells of itself when it is asked.
type state struct{ hub *Hub }

func gaugeDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("chatserver_"+name, help, labels, nil)
}

var (
	connectionsDesc = gaugeDesc("connections", "Clients connected to this server.", "protocol")
	usersDesc       = gaugeDesc("users", "Users with a connection to this server.")
	roomsDesc       = gaugeDesc("rooms", "Rooms that clients of this server are in.")
	queueDesc       = gaugeDesc("queue_bytes", "Bytes that wait to be written to clients.")
	longestDesc     = gaugeDesc("queue_longest_bytes", "Bytes that wait for the client with the most of them.")
	drainingDesc    = gaugeDesc("draining", "1 while this server sends its clients away, else 0.")
	heartbeatDesc   = gaugeDesc("last_heartbeat_timestamp_seconds", "When Redis last took this server's heartbeat, in seconds since 1970.")
	healthyDesc     = gaugeDesc("relay_healthy", "1 if the last probe of the subscriptions to Redis came back, else 0.")
	linksDesc       = gaugeDesc("relay_connections", "Connections to Redis that carry subscriptions.")
	channelsDesc    = gaugeDesc("relay_channels", "Channels that this server is subscribed to or wants to be.")
	receivedDesc    = gaugeDesc("relay_messages_total", "Messages that came by the subscriptions.")
	reconnectsDesc  = gaugeDesc("relay_reconnects_total", "Connections that carried subscriptions and broke.")
)

func (state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		connectionsDesc, usersDesc, roomsDesc, queueDesc, longestDesc, drainingDesc, heartbeatDesc,
		healthyDesc, linksDesc, channelsDesc, receivedDesc, reconnectsDesc,
	} {
		ch <- d
	}
}

func (s state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	h := s.hub
	connections := map[string]int{"websocket": 0, "line": 0}
	h.mu.Lock()
	clients := make([]*Client, 0, len(h.clients))
	for c := range h.clients {
		connections[c.transport.Protocol()]++
		clients = append(clients, c)
	}
	users, rooms, draining := len(h.users), len(h.rooms), h.draining
	h.mu.Unlock()
	for protocol, n := range connections {
		gauge(connectionsDesc, float64(n), protocol)
	}
	gauge(usersDesc, float64(users))
	gauge(roomsDesc, float64(rooms))
	gauge(drainingDesc, number(draining))

	all, longest := 0, 0
	for _, c := range clients {
		c.queue.Lock()
		n := c.queue.bytes
		c.queue.Unlock()
		all, longest = all+n, max(longest, n)
	}
	gauge(queueDesc, float64(all))
	gauge(longestDesc, float64(longest))

	gauge(heartbeatDesc, float64(h.beat.Load())/float64(time.Second))
	gauge(healthyDesc, number(h.relay.Healthy() == nil))
	stats := h.relay.Stats()
	gauge(linksDesc, float64(stats.Links))
	gauge(channelsDesc, float64(stats.Channels))
	ch <- prometheus.MustNewConstMetric(receivedDesc, prometheus.CounterValue, float64(stats.Received))
	ch <- prometheus.MustNewConstMetric(reconnectsDesc, prometheus.CounterValue, float64(stats.Broken))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
