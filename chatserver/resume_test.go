package chatserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// router is what stands before the servers in a cluster: it takes a client to
// the first server of the list that accepts.
type router []*server

func (r router) dial(ctx context.Context, _ string) (net.Conn, error) {
	var dialer net.Dialer
	var failed error
	for _, s := range r {
		conn, err := dialer.DialContext(ctx, "tcp", s.https)
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	return nil, failed
}

// listener is a client that notes what it sees of one room.
type listener struct {
	*client.Client
	t *testing.T

	mu       sync.Mutex
	seen     []string
	gaps     int
	away     int // reconnect notices
	breaks   []error
	progress chan struct{} // gets something whenever one of these changes
}

func join(t *testing.T, r router, user, room string, mend ...func(*client.Options)) *listener {
	t.Helper()
	l := &listener{t: t, progress: make(chan struct{}, 1)}
	account := client.NewAccount(r[len(r)-1].url(), clientTLS())
	o := client.Options{
		URL: "https://localhost", TLS: clientTLS(), Dial: r.dial,
		Token:        account.TokenSource(user, password, time.Hour),
		Handle:       l.handle,
		Disconnected: l.disconnected,
		MinBackoff:   20 * time.Millisecond,
	}
	for _, f := range mend {
		f(&o)
	}
	c, err := client.Dial(waiting(t), o)
	if err != nil {
		t.Fatal(err)
	}
	l.Client = c
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Join(waiting(t), room); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *listener) handle(e client.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Gap {
		l.gaps++
	}
	switch e.Type {
	case protocol.TypeMessage:
		l.seen = append(l.seen, e.Message)
	case protocol.TypeReconnect:
		l.away++
	}
	l.moved()
}

func (l *listener) disconnected(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breaks = append(l.breaks, err)
	l.moved()
}

func (l *listener) moved() {
	select {
	case l.progress <- struct{}{}:
	default:
	}
}

// await waits until done, which is called with l.mu held.
func (l *listener) await(what string, done func() bool) {
	l.t.Helper()
	ctx := waiting(l.t)
	for {
		l.mu.Lock()
		ok := done()
		seen, breaks := len(l.seen), l.breaks
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-l.progress:
		case <-ctx.Done():
			l.t.Fatalf("waiting until %s: %d messages seen, connection broken by %v", what, seen, breaks)
		}
	}
}

// expectAll waits until as many messages as given were seen and wants them to
// be exactly these.
func (l *listener) expectAll(want []string) {
	l.t.Helper()
	l.await(fmt.Sprintf("%d messages are there", len(want)), func() bool { return len(l.seen) >= len(want) })
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range want {
		if l.seen[i] != want[i] {
			l.t.Fatalf("message %d is %q, want %q", i, l.seen[i], want[i])
		}
	}
	if len(l.seen) > len(want) || l.gaps > 0 {
		l.t.Errorf("%d messages and %d gaps, want %d and none", len(l.seen), l.gaps, len(want))
	}
}

// talk posts numbered messages until stop is closed, and returns all of them,
// each of them acknowledged.
func talk(t *testing.T, c *client.Client, room string, stop <-chan struct{}) []string {
	t.Helper()
	var texts []string
	var sent []*client.Sent
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for going := true; going; {
		select {
		case <-stop:
			going = false
		case <-tick.C:
			text := fmt.Sprintf("message %d", len(texts))
			s, err := c.Post(room, text)
			if err != nil {
				t.Errorf("post: %v", err)
				return texts
			}
			texts, sent = append(texts, text), append(sent, s)
		}
	}
	for i, s := range sent {
		if _, err := s.Wait(waiting(t)); err != nil {
			t.Errorf("%s was not acknowledged: %v", texts[i], err)
		}
	}
	return texts
}

func TestKilledServerLosesNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		doomed, other := run(t, w.redis, unique("doomed")), run(t, w.redis, unique("other"))
		room := unique("room")
		speaker := join(t, router{doomed, other}, newUser(t, w.store, "speaker"), room)
		follower := join(t, router{doomed, other}, newUser(t, w.store, "follower"), room)
		elsewhere := join(t, router{other}, newUser(t, w.store, "elsewhere"), room)

		stop := make(chan struct{})
		var texts []string
		var talking sync.WaitGroup
		talking.Go(func() { texts = talk(t, speaker.Client, room, stop) })
		elsewhere.await("the talk goes on", func() bool { return len(elsewhere.seen) > 50 })
		doomed.kill()
		before := 0
		elsewhere.await("the talk goes on elsewhere", func() bool {
			if len(speaker.breaksSafely()) == 0 {
				before = len(elsewhere.seen)
			}
			return len(elsewhere.seen) > before+50
		})
		close(stop)
		talking.Wait()

		for _, l := range []*listener{speaker, follower, elsewhere} {
			l.expectAll(texts)
		}
	})
}

func (l *listener) breaksSafely() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.breaks
}

func TestDrainedServerLosesNothingAndExitsWell(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		leaving, other := run(t, w.redis, unique("leaving")), run(t, w.redis, unique("other"))
		room := unique("room")
		speaker := join(t, router{leaving, other}, newUser(t, w.store, "speaker"), room)
		follower := join(t, router{leaving, other}, newUser(t, w.store, "follower"), room)
		plain := connect(t, leaving, newUser(t, w.store, "plain"))
		person, name := terminal(t, leaving), newUser(t, w.store, "person")
		say(t, person, "LOGIN "+name+" "+password)
		expect(t, person, "logged in")

		stop := make(chan struct{})
		var texts []string
		var talking sync.WaitGroup
		talking.Go(func() { texts = talk(t, speaker.Client, room, stop) })
		follower.await("the talk goes on", func() bool { return len(follower.seen) > 50 })
		if code := leaving.terminate(); code != 0 {
			t.Errorf("the drained server exited with %d", code)
		}
		seen := 0
		follower.await("the talk goes on elsewhere", func() bool {
			if seen == 0 {
				seen = len(follower.seen)
			}
			return len(follower.seen) > seen+50
		})
		close(stop)
		talking.Wait()

		for _, l := range []*listener{speaker, follower} {
			l.expectAll(texts)
			if l.away != 1 || len(l.breaks) != 1 || websocket.CloseStatus(l.breaks[0]) != websocket.StatusServiceRestart {
				t.Errorf("%d notices, then broken by %v; want one notice and the close code 1012", l.away, l.breaks)
			}
		}
		plain.expectClose(websocket.StatusServiceRestart, "going away")
		expect(t, person, "going away")

		again := terminal(t, other) // nobody is refused because the drained server still holds them
		say(t, again, "LOGIN "+name+" "+password)
		expect(t, again, "logged in")
	})
}

func TestSlowReaderIsCutOffAndResumes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := unique("room")
		var asleep atomic.Bool
		wake := make(chan struct{})
		narrow := func(o *client.Options) {
			handle := o.Handle
			o.Handle = func(e client.Event) {
				if asleep.Load() {
					<-wake
				}
				handle(e)
			}
			dial := o.Dial
			o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := dial(ctx, addr)
				if tcp, ok := conn.(*net.TCPConn); ok {
					err = errors.Join(err, tcp.SetReadBuffer(256<<10))
				}
				return conn, err
			}
		}
		slow := join(t, router{w.two}, newUser(t, w.store, "slow"), room, narrow)
		speaker := join(t, router{w.one}, newUser(t, w.store, "speaker"), room)
		quick := join(t, router{w.two}, newUser(t, w.store, "quick"), room)

		asleep.Store(true)
		cut := w.two.metric(t, "chatserver_slow_clients_total")
		var texts []string
		post := func(count int) {
			for range count {
				text := fmt.Sprintf("%04d %s", len(texts), strings.Repeat("x", 4000))
				texts = append(texts, text)
				if _, err := speaker.Send(waiting(t), room, text); err != nil {
					t.Fatal(err)
				}
			}
		}
		// More than the queue and the network's buffers hold.
		for len(texts) < 10_000 && w.two.metric(t, "chatserver_slow_clients_total") == cut {
			post(100)
		}
		asleep.Store(false)
		close(wake)
		post(100)
		quick.expectAll(texts)
		slow.expectAll(texts)
		breaks := slow.breaksSafely()
		if len(breaks) == 0 || websocket.CloseStatus(breaks[0]) != protocol.CloseSlow {
			t.Errorf("the slow reader was cut off by %v, want the close code %d", breaks, protocol.CloseSlow)
		}
	})
}

// metric reads a counter without labels.
func (s *server) metric(t *testing.T, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return number
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
