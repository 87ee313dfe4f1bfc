package chatserver_test

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// metrics are what a server says at one moment.
type metrics map[string]*dto.MetricFamily

func scrape(t *testing.T, s *server) (metrics, string) {
	t.Helper()
	resp, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return families, string(text)
}

// sum adds up the series that have all the labels, given as names and values.
func (m metrics) sum(name string, labels ...string) (sum float64) {
	for _, series := range m[name].GetMetric() {
		if hasLabels(series, labels) {
			sum += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func hasLabels(series *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if !slices.ContainsFunc(series.GetLabel(), func(l *dto.LabelPair) bool {
			return l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}) {
			return false
		}
	}
	return true
}

// busy is a server on which everything has happened once that is counted.
func busy(t *testing.T) *server {
	t.Helper()
	redis := redistest.Standalone(t)
	s := run(t, redis, "busy", append(pushFlags(), "--messages-per-10s=10")...)
	st, err := openStore(redis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	a, b, room := newUser(t, st, "ann"), newUser(t, st, "ben"), unique("room")

	ann := connectFully(t, s, a)
	ann.enter(room)
	ann.send(`{"type":"message","id":"1","room":"` + room + `","message":"by socket"}`)
	ann.expect(map[string]any{"type": "message", "message": "by socket"})
	ann.send(`{"type":"message","id":"1","room":"` + room + `","message":"by socket"}`)
	ann.expect(map[string]any{"type": "ack", "duplicate": true})
	ann.send(`{"type":"nonsense","id":"2"}`)
	ann.expect(map[string]any{"type": "error", "id": "2"})

	ben := callsOf(t, s, b)
	ben.call(200, "PUT", "/rooms/"+room+"/membership", "")
	ben.call(201, "POST", "/rooms/"+room+"/messages", `{"message":"by call"}`)
	ann.expect(map[string]any{"type": "message", "message": "by call"})
	ben.call(404, "GET", "/nothing/here", "")

	l := terminal(t, s)
	say(t, l, "LOGIN "+b+" wrong")
	expect(t, l, "ERROR")
	say(t, l, "LOGIN "+b+" "+password)
	expect(t, l, "you are logged in")
	again := connect(t, s, b)
	again.expectClose(4410, "online elsewhere")
	say(t, l, "/quit")
	expect(t, l, "goodbye")
	call(t, "POST", s.url()+"/register", `{"username":"`+unique("new")+`","password":"`+password+`"}`)
	call(t, "POST", s.url()+"/api/refresh", `{"refreshToken":"none"}`)

	cut := connectFully(t, s, newUser(t, st, "cut"))
	cut.enter(room)
	for range 11 {
		_ = cut.Write(waiting(t), websocket.MessageText, []byte(`{"type":"message","room":"`+room+`","message":"again"}`))
	}
	cut.expectClose(websocket.StatusPolicyViolation, "Rate limit")
	s.await(t, func() bool {
		m, _ := scrape(t, s)
		return m.sum("chatserver_connections_closed_total", "code", "1008") == 1 && m.sum("chatserver_connections_closed_total", "protocol", "line") == 1
	})
	return s
}

func TestMetricsTellWhatHappened(t *testing.T) {
	t.Parallel()
	m, text := scrape(t, busy(t))
	for _, want := range []struct {
		name   string
		labels []string
		value  float64
	}{
		{"chatserver_messages_published_total", []string{"type", "message"}, 12}, // by call too
		{"chatserver_publish_duration_seconds", nil, 13},
		{"chatserver_messages_duplicate_total", nil, 1},
		{"chatserver_connections", []string{"protocol", "websocket"}, 1},
		{"chatserver_connections", []string{"protocol", "line"}, 0},
		{"chatserver_connections_opened_total", []string{"protocol", "websocket"}, 2},
		{"chatserver_connections_opened_total", []string{"protocol", "line"}, 1},
		{"chatserver_connections_refused_total", []string{"protocol", "websocket", "reason", "online"}, 1},
		{"chatserver_connections_closed_total", []string{"protocol", "websocket", "code", "1008"}, 1},
		{"chatserver_connections_closed_total", []string{"protocol", "line", "code", "1000"}, 1},
		{"chatserver_rate_limited_clients_total", nil, 1},
		{"chatserver_requests_total", []string{"type", "message", "code", "ok"}, 12},
		{"chatserver_requests_total", []string{"type", "unknown"}, 1},
		{"chatserver_delivery_latency_seconds", nil, 12},
		{"chatserver_logins_total", []string{"result", "wrong_login"}, 1},
		{"chatserver_logins_total", []string{"result", "ok"}, 5},
		{"chatserver_password_check_duration_seconds", nil, 6},
		{"chatserver_registrations_total", []string{"result", "ok"}, 1},
		{"chatserver_token_refreshes_total", []string{"result", "not_logged_in"}, 1},
		{"chatserver_http_requests_total", []string{"code", "201", "method", "POST", "path", "/api/rooms/{room}/messages"}, 1},
		{"chatserver_http_requests_total", []string{"code", "404", "path", "unmatched"}, 1},
		{"chatserver_http_requests_total", []string{"code", "101", "path", "/ws"}, 2},
		{"chatserver_http_requests_in_flight", nil, 0},
		{"chatserver_relay_healthy", nil, 1},
		{"chatserver_relay_connections", nil, 1},
		{"chatserver_draining", nil, 0},
		{"chatserver_queue_bytes", nil, 0},
	} {
		if got := m.sum(want.name, want.labels...); got != want.value {
			t.Errorf("%s%v is %v, want %v", want.name, want.labels, got, want.value)
		}
	}
	for _, name := range []string{"chatserver_redis_request_duration_seconds", "chatserver_redis_pool_connections", "chatserver_relay_messages_total"} {
		if m.sum(name) == 0 {
			t.Errorf("%s is 0", name)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestMetricsFollowTheConventionsOfPrometheus(t *testing.T) {
	t.Parallel()
	_, text := scrape(t, busy(t))
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	m, _ := scrape(t, busy(t))
	docs, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile("(?m)^\\| `(chatserver_[a-z_]+)").FindAllStringSubmatch(string(docs), -1) {
		documented[name[1]] = true
	}
	for name := range m {
		if strings.HasPrefix(name, "chatserver_") && !documented[name] {
			t.Errorf("docs/operations.md does not tell of %s", name)
		}
	}
	for name := range documented {
		// Those of vectors appear with their first label.
		if m[name] == nil && !strings.HasPrefix(name, "chatserver_notifications_") && name != "chatserver_resumes_total" {
			t.Errorf("docs/operations.md tells of %s, which is not there", name)
		}
	}
}
