package load_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver"
	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/ledger"
	"github.com/chatcluster/chatcluster/chatserver/load"
	"github.com/chatcluster/chatcluster/chatserver/load/report"
)

func TestEveryScenarioFindsAHealthyServerClean(t *testing.T) {
	t.Parallel()
	for scenario, check := range map[string]func(*testing.T, *report.Report){
		"fanout": func(t *testing.T, r *report.Report) {
			if want := 20 * r.Check.Acknowledged; r.Check.Due != want || r.Check.Members != 20 {
				t.Errorf("%d members saw %d messages of the %d due, want %d", r.Check.Members, r.Check.Seen, r.Check.Due, want)
			}
			if r.Total.Delivery.Count != 20*r.Total.Due || r.Total.Response.Count != r.Total.Due {
				t.Errorf("%d deliveries and %d responses were timed, of %d messages to 20", r.Total.Delivery.Count, r.Total.Response.Count, r.Total.Due)
			}
		},
		"rooms": func(t *testing.T, r *report.Report) {
			if want := 5 * r.Check.Acknowledged; r.Check.Due != want || len(r.Check.Rooms) != 4 {
				t.Errorf("%d messages in %d rooms were due, want %d in 4", r.Check.Due, len(r.Check.Rooms), want)
			}
		},
		"churn": func(t *testing.T, r *report.Report) {
			if r.Total.Connect.Count <= 24 {
				t.Errorf("%d connections were made: none left and came back", r.Total.Connect.Count)
			}
		},
		"storm": func(t *testing.T, r *report.Report) {
			if r.Total.Back == nil || r.Total.Back.Count != 20 {
				t.Errorf("back: %+v, want 20 who were cut to be back", r.Total.Back)
			}
			if len(r.Closes) > 0 || r.Connections.Broken > 0 {
				t.Errorf("our own cuts are counted as the server's: %v, %d broken", r.Closes, r.Connections.Broken)
			}
		},
		"login-storm": func(t *testing.T, r *report.Report) {
			if r.Total.Login == nil || r.Total.Login.Count != 5 {
				t.Errorf("logins: %+v, want 5", r.Total.Login)
			}
		},
		"mixed": func(t *testing.T, r *report.Report) {
			if len(r.Check.Rooms) != 6 || r.Total.Login == nil {
				t.Errorf("%d rooms, logins %+v; want 5 rooms and a hall, and logins", len(r.Check.Rooms), r.Total.Login)
			}
		},
	} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			s := newPlace(t).start(t)
			c := small(scenario, s)
			var progress bytes.Buffer
			c.Progress = &progress
			r := run(t, c)
			wantClean(t, r)
			check(t, r)
			if len(r.Problems) > 0 {
				t.Errorf("problems: %v", r.Problems)
			}
			if r.Total.Due != 100 || r.Total.Sent == 0 || r.Total.Delivered == 0 || r.Total.Bytes == 0 {
				t.Errorf("in a second at 100/s: %+v", r.Total)
			}
			if s := r.Total.Server; s == nil || s.CPU <= 0 || s.RSS <= 0 || s.PerCoreSecond <= 0 || s.Restarts != 0 {
				t.Errorf("of the server: %+v", s)
			}
			if len(r.Series) == 0 || !strings.Contains(progress.String(), "connected") {
				t.Errorf("progress: %d seconds, %q", len(r.Series), progress.String())
			}
		})
	}
}

func TestIdleConnectionsAreHeldAndTheirMemoryIsTold(t *testing.T) {
	t.Parallel()
	s := newPlace(t).start(t)
	c := small("idle", s)
	c.Connections = 100
	r := run(t, c)
	if r.Connections.Open != 100 || r.Total.Connect.Count != 100 || r.Check.Acknowledged != 0 {
		t.Errorf("%+v, %d times to connect, %s", r.Connections, r.Total.Connect.Count, r.Check)
	}
	if r.Total.Server == nil || r.Total.Server.RSSBefore <= 0 {
		t.Errorf("of the server: %+v", r.Total.Server)
	}
}

func TestSeveralServersAreUsedInTurn(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var taken [2]atomic.Int64
	var servers []*server
	for i := range taken {
		servers = append(servers, p.start(t).proxied(t, func(from, to net.Conn) {
			line, rest := peek(from)
			if bytes.HasPrefix(line, []byte("GET /ws ")) {
				taken[i].Add(1)
			}
			relay(rest, from, to)
		}))
	}
	r := run(t, small("fanout", servers...))
	wantClean(t, r)
	if a, b := taken[0].Load(), taken[1].Load(); a != 10 || b != 10 {
		t.Errorf("of 20 connections the servers got %d and %d", a, b)
	}
}

func TestConnectionsComeFromAllSources(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]bool{}
	s := newPlace(t).start(t).proxied(t, func(from, to net.Conn) {
		mu.Lock()
		seen[from.RemoteAddr().(*net.TCPAddr).IP.String()] = true
		mu.Unlock()
		relay(from, from, to)
	})
	c := small("fanout", s)
	var err error
	if c.Sources, err = load.ParseSources("127.0.0.2-127.0.0.5"); err != nil {
		t.Fatal(err)
	}
	wantClean(t, run(t, c))
	if len(seen) != 4 || seen["127.0.0.1"] {
		t.Errorf("connections came from %v", seen)
	}
}

func TestADrainedServerIsNotedAndLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	leaving, staying := p.start(t), p.start(t)
	c := small("rooms", leaving, staying)
	c.Duration, c.Metrics = 3*time.Second, nil
	// Attempts to connect go to the servers in turn.
	time.AfterFunc(time.Second, leaving.stop)
	r := run(t, c)
	wantClean(t, r)
	if r.Closes["1012"] == 0 {
		t.Errorf("connections were ended by %v, want 1012 among them", r.Closes)
	}
	if r.Connections.Open != 20 {
		t.Errorf("%d connections", r.Connections.Open)
	}
}

// A load generator that cannot see a fault proves nothing.
func TestAProxyThatHarmsOneMessageIsReported(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm func(frames [][]byte) [][]byte // two messages in a row
		want ledger.Counts
	}{
		"eats":    {func(f [][]byte) [][]byte { return f[1:] }, ledger.Counts{Lost: 1, Gaps: 1}},
		"doubles": {func(f [][]byte) [][]byte { return [][]byte{f[0], f[0], f[1]} }, ledger.Counts{Duplicated: 1}},
		"swaps":   {func(f [][]byte) [][]byte { return [][]byte{f[1], f[0]} }, ledger.Counts{Reordered: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var once atomic.Bool
			s := newPlace(t).start(t).proxied(t, func(from, to net.Conn) { harmful(from, to, &once, test.harm) })
			c := small("fanout", s)
			c.Settle = time.Second // what was eaten never comes
			r := run(t, c)
			got := ledger.Counts{
				Lost: r.Check.Lost, Gaps: r.Check.Gaps, Duplicated: r.Check.Duplicated,
				Reordered: r.Check.Reordered, Conflicts: r.Check.Conflicts, Declared: r.Check.Declared,
			}
			if got != test.want || r.Passed() {
				t.Errorf("got %+v, want %+v\n%s", got, test.want, r.Check)
			}
			var text bytes.Buffer
			if err := r.Text(&text); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(text.String(), "DELIVERY IS NOT CLEAN") {
				t.Errorf("the report does not say so:\n%s", &text)
			}
		})
	}
}

// While a server stands still messages go on being due. All of them have waited,
// not only the one that was asked for when it happened.
func TestAStallIsSeenByEveryMessageThatWasDueInIt(t *testing.T) {
	t.Parallel()
	const stall = time.Second
	stalled := make(chan struct{})
	s := newPlace(t).start(t).proxied(t, func(from, to net.Conn) {
		var both sync.WaitGroup
		both.Go(func() { copyUntil(to, from, stalled, stall) })
		both.Go(func() { copyUntil(from, to, stalled, stall) })
		both.Wait()
	})
	c := small("fanout", s)
	c.Duration = 3 * time.Second
	c.Progress = onceLoaded(sync.OnceFunc(func() { close(stalled) }))
	r := run(t, c)
	wantClean(t, r)
	// A third of the messages were due in the stall, a quarter in its first three quarters.
	if late := time.Duration(r.Total.Delivery.P90); late < stall/4 {
		t.Errorf("the slowest tenth took %v or more, though the server stood still for %v of %v", late, stall, c.Duration)
	}
	if r.Total.Due != 300 {
		t.Errorf("%d messages were due in 3 s at 100/s: the stall slowed the load down", r.Total.Due)
	}
}

// onceLoaded calls a function with the first line of progress about the load itself.
type onceLoaded func()

func (f onceLoaded) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("  load ")) {
		f()
	}
	return len(line), nil
}

func TestASweepEndsWhereNoMoreIsServed(t *testing.T) {
	t.Parallel()
	// A network that takes some hundred messages a second.
	s := newPlace(t).start(t).proxied(t, func(from, to net.Conn) {
		relay(reader(func(b []byte) (int, error) {
			time.Sleep(10 * time.Millisecond) // this is the limit that is to be found
			return from.Read(b[:min(len(b), 256)])
		}), from, to)
	})
	c := small("fanout", s)
	c.Connections, c.Duration = 5, time.Second
	c.Rates = []float64{20, 40, 2000, 4000}
	r := run(t, c)
	if r.Sweep == nil || r.Sweep.Saturated != 2000 || r.Sweep.Why == "" || len(r.Steps) != 3 {
		t.Fatalf("the sweep: %+v, %d steps", r.Sweep, len(r.Steps))
	}
	if r.Sweep.Sustained == 40 && (r.Sweep.Half == nil || r.Sweep.HalfLoad != 20) {
		t.Errorf("half of the load: %+v", r.Sweep)
	}
	if err := r.Check.Err(); err != nil {
		t.Errorf("an overrun server lost messages: %v", err)
	}
	html, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(html, []byte("Response time, throughput and latency against load")) || !bytes.Contains(html, []byte("<svg")) {
		t.Error("the HTML has no chart")
	}
}

func TestTokensAndRegistrationAndTLSWork(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.start(t, func(c *chatserver.Config) { c.Plaintext = false })
	c := small("fanout", s)
	c.Connections = 3
	account := client.NewAccount(s.url, c.TLS)
	c.Accounts = load.Accounts{}
	for _, login := range logins(3) {
		token, err := account.Login(t.Context(), login.User, login.Password)
		if err != nil {
			t.Fatal(err)
		}
		c.Accounts.Tokens = append(c.Accounts.Tokens, token)
	}
	wantClean(t, run(t, c))
	c.Accounts = load.Accounts{Register: true}
	wantClean(t, run(t, c))
}

func TestWhoComesBackAfterTheTokenEndedRenewsIt(t *testing.T) {
	t.Parallel()
	var renewals atomic.Int64
	s := newPlace(t).start(t, func(c *chatserver.Config) { c.AccessTokenTTL = 2 * time.Second }).proxied(t, func(from, to net.Conn) {
		counted := io.TeeReader(from, writer(func(b []byte) {
			renewals.Add(int64(bytes.Count(b, []byte("POST /api/refresh "))))
		}))
		relay(counted, from, to)
	})
	c := small("churn", s)
	c.Connections, c.Bystanders, c.Churn, c.Duration = 4, 1, 4, 4*time.Second
	c.Accounts = load.Accounts{Register: true}
	r := run(t, c)
	wantClean(t, r)
	if renewals.Load() == 0 {
		t.Error("no token was renewed")
	}
	if r.Connections.Failed > 0 || len(r.Problems) > 0 {
		t.Errorf("%d attempts failed: %v", r.Connections.Failed, r.Problems)
	}
}

func TestWhatCannotBeDoneIsToldAtOnce(t *testing.T) {
	t.Parallel()
	s := newPlace(t).start(t, func(c *chatserver.Config) { c.RequestsPerHour = 1 })
	for want, change := range map[string]func(*load.Config){
		"no server is named":            func(c *load.Config) { c.URLs = nil },
		"is not the URL":                func(c *load.Config) { c.URLs = []string{"chat.example.com"} },
		"speaks https":                  func(c *load.Config) { c.URLs = []string{"ftp://chat.example.com"} },
		"no scenario":                   func(c *load.Config) { c.Scenario = "flood" },
		"nobody to connect":             func(c *load.Config) { c.Connections = 0 },
		"users are needed":              func(c *load.Config) { c.Accounts.Logins = logins(3) },
		"raise the server's limits":     func(*load.Config) {}, // 20 logins
		"logins need passwords":         func(c *load.Config) { c.Scenario, c.Accounts = "mixed", load.Accounts{Tokens: []string{"x"}} },
		"no connection could be opened": func(c *load.Config) { c.Connections, c.Accounts = 1, load.Accounts{Tokens: []string{"x"}} },
		"read metrics": func(c *load.Config) {
			c.Accounts, c.Connections, c.Metrics = load.Accounts{Tokens: []string{"x"}}, 1, []string{s.url}
		},
		"connections need":               func(c *load.Config) { c.Connections = 100_000_000 },
		"there is nobody to connect":     func(c *load.Config) { c.Connections = -1 },
		"nothing is measured":            func(c *load.Config) { c.Duration = 0 },
		"connections are never opened":   func(c *load.Config) { c.ConnectRate = 0 },
		"the loads of a sweep are above": func(c *load.Config) { c.Rates = []float64{0} },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			c := small("fanout", s)
			change(&c)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := load.Run(ctx, c); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

func TestARunThatIsInterruptedTellsWhatThereIs(t *testing.T) {
	t.Parallel()
	s := newPlace(t).start(t)
	c := small("fanout", s)
	c.Duration = time.Hour
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	c.Progress = writer(func(line []byte) {
		if bytes.Contains(line, []byte("  load ")) {
			interrupt()
		}
	})
	r, err := load.Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, r)
	if r.Total.Seconds <= 0 || r.Total.Seconds > 60 {
		t.Errorf("%.1f s were measured", r.Total.Seconds)
	}
}

// writer is a function as an io.Writer.
type writer func([]byte)

func (f writer) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// reader is a function as an io.Reader.
type reader func([]byte) (int, error)

func (f reader) Read(b []byte) (int, error) { return f(b) }

// peek reads a connection's first bytes and gives them back with the rest.
func peek(from net.Conn) ([]byte, io.Reader) {
	first := make([]byte, 16)
	n, _ := io.ReadFull(from, first)
	return first[:n], io.MultiReader(bytes.NewReader(first[:n]), from)
}

// relay copies both ways until both have ended.
func relay(rest io.Reader, from, to net.Conn) {
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	})
	_, _ = io.Copy(to, rest)
	_ = to.Close()
	back.Wait()
}

// copyUntil copies, and once stalled is closed stands still for a while.
func copyUntil(to, from net.Conn, stalled <-chan struct{}, pause time.Duration) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	still := false
	for {
		n, err := from.Read(buf)
		select {
		case <-stalled:
			if !still {
				still = true
				time.Sleep(pause) // this is the fault that is tested
			}
		default:
		}
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// harmful does something to the first two messages in a row on one connection,
// once, and passes on all else.
func harmful(from, to net.Conn, once *atomic.Bool, harm func([][]byte) [][]byte) {
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}()
	in := bufio.NewReader(to)
	answer, err := header(in)
	if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 101") {
		// A login, or so.
		_, _ = io.WriteString(from, answer)
		_, _ = io.Copy(from, in)
		return
	}
	_, _ = io.WriteString(from, answer)
	var messages [][]byte
	seen := 0
	for {
		frame, err := serverFrame(in)
		if err != nil {
			return
		}
		out := [][]byte{frame}
		// The first ones are said in the ramp already.
		if isMessage := bytes.Contains(frame, []byte(`"type":"message"`)); isMessage {
			if seen++; seen > 5 && (len(messages) > 0 || !once.Swap(true)) {
				messages = append(messages, frame)
				out = nil
				if len(messages) == 2 {
					out, messages = harm(messages), nil
				}
			}
		}
		for _, f := range out {
			if _, err := from.Write(f); err != nil {
				return
			}
		}
	}
}

func header(in *bufio.Reader) (string, error) {
	var text strings.Builder
	for {
		line, err := in.ReadString('\n')
		text.WriteString(line)
		if err != nil || line == "\r\n" {
			return text.String(), err
		}
	}
}

// serverFrame is a WebSocket frame, whole, as a server sends it: not masked.
func serverFrame(in *bufio.Reader) ([]byte, error) {
	frame := make([]byte, 2)
	if _, err := io.ReadFull(in, frame); err != nil {
		return nil, err
	}
	length := int(frame[1])
	if more := map[int]int{126: 2, 127: 8}[length]; more > 0 {
		size := make([]byte, more)
		if _, err := io.ReadFull(in, size); err != nil {
			return nil, err
		}
		frame = append(frame, size...)
		length = int(binary.BigEndian.Uint64(append(make([]byte, 8-more), size...)))
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return nil, fmt.Errorf("read a frame of %d bytes: %w", length, err)
	}
	return append(frame, payload...), nil
}
