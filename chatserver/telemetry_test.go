package chatserver_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// sink stands in for a collector or an error tracker, neither of which runs here: it
// takes what the real ones take, at the paths where they take it, and keeps it.
type sink struct {
	*httptest.Server
	mu    sync.Mutex
	posts []received
}

type received struct {
	path string
	body []byte
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			body = unzipped
		}
		text, err := io.ReadAll(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.posts = append(s.posts, received{r.URL.Path, text})
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.posts)
}

type span struct{ name, trace, parent, id string }

// spans reads what a collector was sent.
func (s *sink) spans(t *testing.T) (spans []span) {
	t.Helper()
	for _, p := range s.all() {
		if p.path != "/v1/traces" {
			t.Fatalf("traces were sent to %s", p.path)
		}
		var req collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(p.body, &req); err != nil {
			t.Fatal(err)
		}
		for _, resource := range req.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				for _, one := range scope.GetSpans() {
					spans = append(spans, span{
						one.GetName(), fmt.Sprintf("%x", one.GetTraceId()),
						fmt.Sprintf("%x", one.GetParentSpanId()), fmt.Sprintf("%x", one.GetSpanId()),
					})
				}
			}
		}
	}
	return spans
}

func find(spans []span, name string) span {
	i := slices.IndexFunc(spans, func(s span) bool { return s.name == name })
	if i < 0 {
		return span{}
	}
	return spans[i]
}

func TestTracesGoFromTheRequestToRedis(t *testing.T) {
	t.Parallel()
	sink, redis := newSink(t), redistest.Standalone(t)
	s := run(t, redis, "traced", "--otlp-endpoint="+sink.URL, "--trace-ratio=1", "--trusted-proxies=127.0.0.1")
	st, err := openStore(redis)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	user, room := newUser(t, st, "ann"), unique("room")
	ann := connectFully(t, s, user)
	ann.enter(room)
	ann.send(`{"type":"message","id":"1","room":"` + room + `","message":"a text of mine"}`)
	ann.expect(map[string]any{"type": "ack"})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	calls := callsOf(t, s, user)
	calls.call(201, "POST", "/rooms/"+room+"/messages", `{"message":"a text of mine"}`, "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	plain := connectToken(t, s, calls.token)

	if code := s.terminate(); code != 0 { // sends what is left
		t.Errorf("the server exits with %d", code)
	}
	_ = plain
	spans := sink.spans(t)
	byCall := find(spans, "POST /api/rooms/{room}/messages")
	if byCall.trace != trace || byCall.parent != "b7ad6b7169203331" {
		t.Errorf("the trusted proxy's trace does not go on: %+v", byCall)
	}
	bySocket := find(spans, "websocket message")
	if bySocket.trace == "" || bySocket.parent != "" {
		t.Errorf("a message by WebSocket does not begin a trace: %+v", bySocket)
	}
	for _, parent := range []span{byCall, bySocket} {
		i := slices.IndexFunc(spans, func(s span) bool { return s.name == "publish" && s.parent == parent.id })
		if i < 0 {
			t.Errorf("%s has no publish below it", parent.name)
			continue
		}
		if !slices.ContainsFunc(spans, func(s span) bool { return strings.HasPrefix(s.name, "redis ") && s.parent == spans[i].id }) {
			t.Errorf("the publish of %s has nothing of Redis below it", parent.name)
		}
	}
	if !strings.Contains(s.logs(), `"trace_id":"`+trace+`"`) {
		t.Error("the log does not tell the trace")
	}
	for _, p := range sink.all() {
		for _, secret := range []string{"a text of mine", password, calls.token} {
			if bytes.Contains(p.body, []byte(secret)) {
				t.Errorf("traces tell %q", secret)
			}
		}
	}
	if t.Failed() {
		t.Log(spans)
	}
}

func TestTracesOfStrangersBeginHere(t *testing.T) {
	t.Parallel()
	sink := newSink(t)
	s := run(t, redistest.Standalone(t), "traced", "--otlp-endpoint="+sink.URL, "--trace-ratio=1")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	call(t, "GET", s.url()+"/api/openapi.json", "", "Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	s.terminate()
	if got := find(sink.spans(t), "GET /api/openapi.json"); got.id == "" || got.trace == trace {
		t.Errorf("a stranger's trace goes on here: %+v", got)
	}
}

func TestServerWorksWhileTheCollectorIsAway(t *testing.T) {
	t.Parallel()
	s := run(t, redistest.Standalone(t), "traced", "--otlp-endpoint=http://127.0.0.1:1", "--trace-ratio=1")
	for range 20 {
		if resp, _ := call(t, "GET", s.url()+"/api/openapi.json", ""); resp.StatusCode != 200 {
			t.Fatalf("answers %d", resp.StatusCode)
		}
	}
	if code := s.terminate(); code != 0 {
		t.Errorf("the server exits with %d", code)
	}
}

func TestDefectsReachTheErrorTracker(t *testing.T) {
	t.Parallel()
	sink := newSink(t)
	s, err := start(redistest.Standalone(t), "tracked", "--sentry-dsn="+strings.Replace(sink.URL, "://", "://key@", 1)+"/7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	resp, answer := call(t, "GET", s.url()+"/debug-sentry", "", "X-Request-Id", "find-me")
	if resp.StatusCode != 500 || answer["code"] != "unavailable" {
		t.Errorf("the request that met a defect is answered %d %v", resp.StatusCode, answer)
	}
	if resp, _ := call(t, "GET", s.url()+"/health", ""); resp.StatusCode != 200 {
		t.Errorf("after a defect the server answers %d", resp.StatusCode)
	}
	if !s.await(t, func() bool { return len(sink.all()) > 0 }) {
		t.Fatal("nothing was sent")
	}
	got := sink.all()[0]
	if got.path != "/api/7/envelope/" {
		t.Errorf("sent to %s", got.path)
	}
	for _, want := range []string{"request ended by a defect", "somebody asked for /debug-sentry", "find-me", "chatserver@", `"tracked"`, "middleware.go"} {
		if !bytes.Contains(got.body, []byte(want)) {
			t.Errorf("the report does not tell %q", want)
		}
	}
	if bytes.Contains(got.body, []byte("127.0.0.1:")) && bytes.Contains(got.body, []byte(`"address"`)) {
		t.Error("the report tells the address of a person")
	}
	if t.Failed() {
		t.Logf("%s", got.body)
	}
}

func TestNobodyWithoutAnErrorTrackerCanMakeDefects(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		if resp, _ := call(t, "GET", w.one.url()+"/debug-sentry", ""); resp.StatusCode != 404 {
			t.Errorf("/debug-sentry answers %d without a tracker, want 404", resp.StatusCode)
		}
	})
}

// connectToken connects with a token in the query, where logs and traces might show it.
func connectToken(t *testing.T, s *server, token string) *socket {
	t.Helper()
	c, _, err := dial(t, s, "/?token="+token, websocket.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
