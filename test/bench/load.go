//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Load is the load's process: the clients, and the calls by which the benchmark
// tells them what to do. It is a process of its own because a process has at
// most 20,000 open files, and so that the server's figures are the server's.
type Load struct {
	mu     sync.Mutex
	groups map[string]*group
}

// group is the connections that one call of Connect made.
type group struct {
	target  Target
	members []Member
	conns   []*conn
	rooms   map[string]*place
	figures []*figures
}

// Target is a server.
type Target struct {
	Addr string
	TLS  bool
}

// Member is a client to be. Without a Token it is one of the baseline.
type Member struct{ User, Token, Room string }

// serveLoad answers calls on stdin and stdout until stdin ends.
func serveLoad() error {
	debug.SetGCPercent(400) // the load has little memory, and the server wants the cores
	server := rpc.NewServer()
	if err := server.Register(&Load{groups: map[string]*group{}}); err != nil {
		return err
	}
	server.ServeCodec(jsonrpc.NewServerCodec(struct {
		io.Reader
		io.Writer
		io.Closer
	}{os.Stdin, os.Stdout, os.Stdin}))
	return nil
}

// ConnectArgs say who connects.
type ConnectArgs struct {
	Group   string
	Target  Target
	Members []Member
	AtOnce  int // how many handshakes are under way at any time
}

// Connected is what came of it.
type Connected struct {
	Count  int
	Took   time.Duration
	Failed []string // the first few
}

// Connect opens connections and returns when each is in its room.
func (l *Load) Connect(args ConnectArgs, reply *Connected) error {
	g := &group{target: args.Target, members: args.Members, conns: make([]*conn, len(args.Members)), rooms: map[string]*place{}}
	for range 2 * runtime.GOMAXPROCS(0) {
		g.figures = append(g.figures, newFigures())
	}
	l.mu.Lock()
	l.groups[args.Group] = g
	l.mu.Unlock()
	*reply = g.connect(args.AtOnce)
	return nil
}

func (g *group) connect(atOnce int) Connected {
	began := time.Now()
	var all errgroup.Group
	all.SetLimit(atOnce)
	var mu sync.Mutex
	var c Connected
	for i, m := range g.members {
		p := g.rooms[m.Room]
		if p == nil {
			p = &place{name: m.Room}
			g.rooms[m.Room] = p
		}
		all.Go(func() error {
			opened, err := open(g.target, m, p, g.figures[i%len(g.figures)], g.conns[i])
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if len(c.Failed) < 5 {
					c.Failed = append(c.Failed, err.Error())
				}
				return nil
			}
			g.conns[i] = opened
			p.members.Add(1)
			c.Count++
			return nil
		})
	}
	_ = all.Wait()
	c.Took = time.Since(began)
	return c
}

// Storm cuts all connections of a group and has them back at once, each resuming
// where it was. Count is how many are, with nothing lost.
func (l *Load) Storm(group string, reply *Connected) error {
	g, err := l.group(group)
	if err != nil {
		return err
	}
	for _, p := range g.rooms {
		p.members.Store(0)
	}
	var wg sync.WaitGroup
	for _, c := range g.conns {
		wg.Go(c.cut)
	}
	wg.Wait()
	*reply = g.connect(len(g.conns))
	for _, c := range g.conns {
		if c.lost {
			reply.Count--
			reply.Failed = append(reply.Failed, "not resumed")
		}
	}
	return nil
}

func (l *Load) group(name string) (*group, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[name]
	if g == nil {
		return nil, fmt.Errorf("there is no group %s", name)
	}
	return g, nil
}

// Alive counts the connections of a group that are open.
func (l *Load) Alive(group string, reply *int) error {
	g, err := l.group(group)
	if err != nil {
		return err
	}
	for _, c := range g.conns {
		if c == nil {
			continue
		}
		select {
		case <-c.gone:
		default:
			*reply++
		}
	}
	return nil
}

// Disconnect ends a group.
func (l *Load) Disconnect(group string, _ *struct{}) error {
	g, err := l.group(group)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, c := range g.conns {
		if c != nil {
			wg.Go(c.cut)
		}
	}
	wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.groups, group)
	return nil
}

// Stall opens connections that join their room and then read nothing, in a group
// that can only be disconnected. What the kernel would keep for them is little.
func (l *Load) Stall(args ConnectArgs, _ *struct{}) error {
	g := &group{}
	for _, m := range args.Members {
		c := &conn{gone: make(chan struct{})}
		close(c.gone)
		if err := c.dial(args.Target, m.Token, smallBuffer); err != nil {
			return err
		}
		if err := c.send(encode(map[string]any{"type": "join", "room": m.Room})); err != nil {
			return err
		}
		g.conns = append(g.conns, c)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.groups[args.Group] = g
	return nil
}

func smallBuffer(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
	})
	return errors.Join(err, failed)
}

// PublishArgs say what is said. With a Rate it is an open loop: each message has
// its time, from which its latency counts, whether or not the one before it was
// in time. With a Window each publisher has as many messages without an
// acknowledgement, as fast as the server takes them.
type PublishArgs struct {
	Group      string
	Publishers int
	Rate       float64 // messages a second, of all publishers together
	Window     int
	For        time.Duration
	Bytes      int // of text
}

// Report is what came of it.
type Report struct {
	Sent, Expected    int64         // messages, and deliveries they should make
	Took              time.Duration // until the last of them came
	Deliveries, Acks  Latency
	Skipped, Repeated int
	Lag               time.Duration // the worst by which a publisher was late: beyond 10 ms the load is the bottleneck
	CPU               time.Duration // of the load
}

// Publish has the first connections of a group speak, and waits until everything
// has come that will.
func (l *Load) Publish(args PublishArgs, reply *Report) error {
	g, err := l.group(args.Group)
	if err != nil {
		return err
	}
	for _, f := range g.figures {
		f.reset()
	}
	speakers := g.conns[:args.Publishers]
	for _, c := range speakers {
		c.window = nil
		if args.Window > 0 {
			c.window = make(chan struct{}, args.Window)
		}
	}
	cpu, began := processorTime(os.Getpid()), time.Now()
	var all errgroup.Group
	var sent, expected, lag atomic.Int64
	for i, c := range speakers {
		all.Go(func() error {
			s := &speech{c, args, sentence(args.Bytes), began, i}
			n, late, err := s.give()
			sent.Add(n)
			expected.Add(n * c.room.members.Load())
			storeMax(&lag, int64(late))
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	sum := g.settled(expected.Load(), sent.Load())
	*reply = Report{
		Sent: sent.Load(), Expected: expected.Load(),
		Deliveries: latency(sum.deliveries), Acks: latency(sum.acks),
		Skipped: sum.skipped, Repeated: sum.repeated,
		Lag: time.Duration(lag.Load()), CPU: processorTime(os.Getpid()) - cpu,
	}
	reply.Took = time.Duration(sum.last - began.UnixNano())
	return nil
}

func storeMax(v *atomic.Int64, x int64) {
	for old := v.Load(); x > old && !v.CompareAndSwap(old, x); old = v.Load() {
	}
}

// speech is what one publisher says in a run.
type speech struct {
	c     *conn
	args  PublishArgs
	text  string
	began time.Time
	index int
}

// give speaks until the run's end, and returns how many messages and how late
// the latest was sent.
func (s *speech) give() (sent int64, lag time.Duration, err error) {
	if s.args.Window > 0 {
		sent, err = s.fast()
		return sent, 0, err
	}
	step := time.Duration(float64(time.Second) * float64(s.args.Publishers) / s.args.Rate)
	// Publishers take turns: no two speak at the same moment.
	due := s.began.Add(step * time.Duration(s.index) / time.Duration(s.args.Publishers))
	for end := s.began.Add(s.args.For); due.Before(end); due = due.Add(step) {
		time.Sleep(time.Until(due))
		lag = max(lag, time.Since(due))
		if err := s.say(due, sent); err != nil {
			return sent, lag, err
		}
		sent++
	}
	return sent, lag, nil
}

func (s *speech) fast() (sent int64, err error) {
	for end := s.began.Add(s.args.For); ; sent++ {
		select {
		case s.c.window <- struct{}{}:
		case <-s.c.gone:
			return sent, s.c.reason
		case <-time.After(patience):
			return sent, errors.New("the server does not acknowledge what it was sent")
		}
		now := time.Now()
		if now.After(end) {
			return sent, nil
		}
		if err := s.say(now, sent); err != nil {
			return sent, err
		}
	}
}

func (s *speech) say(due time.Time, n int64) error {
	return s.c.send(fmt.Appendf(nil, `{"type":"message","id":"%d %d","message":"%d %s"}`, due.UnixNano(), n, due.UnixNano(), s.text))
}

func sentence(bytes int) string {
	return strings.Repeat("x", max(bytes-20, 0)) // after the time and a space
}

// settled waits until all expected deliveries and acknowledgements are there, or
// nothing has come for a while, and returns the figures.
func (g *group) settled(deliveries, acks int64) *figures {
	const quiet = 3 * time.Second
	for idle := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		sum := total(g.figures)
		if sum.last > idle.UnixNano() {
			idle = time.Unix(0, sum.last)
		}
		acked := sum.acks.TotalCount() >= acks || g.members[0].Token == ""
		if sum.deliveries.TotalCount() >= deliveries && acked || time.Since(idle) > quiet {
			return sum
		}
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and numbers always encode
	}
	return b
}
