package chatserver_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

var soak = flag.Duration("soak", 0, "how long TestSoak takes; it is skipped without")

const (
	soakSamples  = 20
	soakVisitors = 10
)

// gauges are what has to stay flat, with how much the last quarter of a soak may be above
// the second one. Memory is what a collector makes of it. Of the connections to Redis a
// pool keeps as many as it once needed, up to its size: those are left out.
var gauges = []struct {
	name, title string
	without     []string
	unit        float64
	most        float64
}{
	{"process_resident_memory_bytes", "RSS MiB", nil, 1 << 20, 1.25},
	{"go_memstats_heap_inuse_bytes", "heap MiB", nil, 1 << 20, 1.5},
	{"go_goroutines", "goroutines", nil, 1, 1.15},
	{"process_open_fds", "descriptors", []string{
		`chatserver_redis_pool_connections{state="idle"}`, `chatserver_redis_pool_connections{state="used"}`,
	}, 1, 1.15},
}

// TestSoak has people talk, come and go for a long time. Nothing may be lost, and nothing
// may pile up.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("takes long: make soak")
	}
	s := newStage(t, redistest.Run(t, redistest.Layout{Fsync: "everysec"}))
	samples := map[*server][][]float64{}
	s.tell(s.play(strings.Repeat("x", 100), func() {
		stop := make(chan struct{})
		var visiting sync.WaitGroup
		for range soakVisitors {
			user := newUser(t, s.store, "visitor")
			visiting.Go(func() { s.visit(stop, user) })
		}
		for n := range soakSamples {
			time.Sleep(*soak / soakSamples)
			if n == soakSamples/2 {
				s.admin(s.redis.Nodes[0], "CLIENT", "KILL", "TYPE", "pubsub")
			}
			for _, server := range []*server{s.one, s.two} {
				samples[server] = append(samples[server], server.sample(t))
			}
		}
		close(stop)
		visiting.Wait()
	}))
	for name, server := range map[string]*server{"one": s.one, "two": s.two} {
		judgeSoak(t, name, samples[server])
	}
}

// visit has a user come, talk in a room of their own and in one that others are in, and go,
// again and again.
func (s *stage) visit(stop <-chan struct{}, user string) {
	account := client.NewAccount(s.two.url(), clientTLS())
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(rand.N(time.Second)):
		}
		token, err := account.Login(s.t.Context(), user, password)
		if err != nil {
			s.t.Errorf("log in: %v", err)
			return
		}
		through := []*proxy{s.left, s.right}[n%2]
		c, err := client.Dial(s.t.Context(), client.Options{URL: s.two.url(), TLS: clientTLS(), Dial: through.dial, Token: client.StaticToken(token)})
		if err != nil {
			s.t.Errorf("connect: %v", err)
			return
		}
		for _, room := range []string{s.rooms[n%len(s.rooms)], fmt.Sprintf("%s_%d", user, n%50)} { // memberships last, and a user has at most 200
			if err := c.Join(s.t.Context(), room); err != nil {
				s.t.Errorf("join: %v", err)
			}
			if _, err := c.Send(s.t.Context(), room, "just passing by"); err != nil {
				s.t.Errorf("send: %v", err)
			}
		}
		_ = c.Close()
		if err := account.Logout(s.t.Context(), token); err != nil {
			s.t.Errorf("log out: %v", err)
		}
	}
}

func (s *server) sample(t *testing.T) []float64 {
	t.Helper()
	var values []float64
	for _, g := range gauges {
		value := s.metric(t, g.name)
		for _, not := range g.without {
			value -= s.metric(t, not)
		}
		values = append(values, value/g.unit)
	}
	return values
}

// judgeSoak prints the samples as a table, and how the last quarter of them compares with
// the second.
func judgeSoak(t *testing.T, name string, samples [][]float64) {
	t.Helper()
	var table strings.Builder
	line := func(first string, format string, value func(i int) any) {
		fmt.Fprintf(&table, "%-10s", first)
		for i := range gauges {
			fmt.Fprintf(&table, format, value(i))
		}
		table.WriteByte('\n')
	}
	line("", "%14s", func(i int) any { return gauges[i].title })
	for n, s := range samples {
		line((*soak * time.Duration(n+1) / soakSamples).String(), "%14.1f", func(i int) any { return s[i] })
	}
	mean := func(part [][]float64, i int) (sum float64) {
		for _, s := range part {
			sum += s[i]
		}
		return sum / float64(len(part))
	}
	quarter := len(samples) / 4
	ratio := func(i int) float64 {
		return mean(samples[len(samples)-quarter:], i) / mean(samples[quarter:2*quarter], i)
	}
	line("4th : 2nd", "%14.2f", func(i int) any { return ratio(i) })
	t.Logf("server %s\n%s", name, table.String())
	for i, g := range gauges {
		if r := ratio(i); r > g.most {
			t.Errorf("server %s: %s grew to %.2f times, at most %.2f is flat", name, g.title, r, g.most)
		}
	}
}
