// Package redistest starts real redis-servers for tests: one alone or three masters that form
// a Redis Cluster, with replicas and append-only files on request. It needs redis-server in
// PATH, and knows nothing of chat.
package redistest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Redis is a running server or cluster.
type Redis struct {
	URLs      []string // one, or one a master
	Nodes     []*Node  // masters first
	IsCluster bool
	Files     Files // of Secure

	dir  string
	args []string // of each node
}

// Layout is what Start starts.
type Layout struct {
	Cluster  bool   // three masters, instead of one server
	Replicas int    // of each master
	Fsync    string // appendfsync of an append-only file; empty: what a node holds ends with it
}

// Run starts what the layout says; it stops when the test ends.
func Run(tb testing.TB, l Layout) *Redis {
	tb.Helper()
	return started(tb, func(dir string) (*Redis, error) { return Start(dir, l) })
}

// Start starts what the layout says, with its files in dir; the caller stops it.
func Start(dir string, l Layout) (*Redis, error) {
	r := &Redis{IsCluster: l.Cluster, dir: dir}
	if l.Replicas > 0 {
		r.args = append(r.args, "--repl-diskless-sync-delay", "0")
	}
	if l.Fsync != "" {
		r.args = append(r.args, "--appendonly", "yes", "--appendfsync", l.Fsync)
	}
	if err := r.start(l); err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

func (r *Redis) start(l Layout) error {
	count := 1
	if l.Cluster {
		count = masters
		r.args = append(r.args, clusterArgs...)
	}
	for range count {
		n, err := startNode(r.dir, r.args...)
		if err != nil {
			return err
		}
		r.Nodes = append(r.Nodes, n)
		r.URLs = append(r.URLs, "redis://"+n.Addr)
	}
	if l.Cluster {
		if err := r.form(); err != nil {
			return fmt.Errorf("form a cluster: %w", err)
		}
	}
	for range l.Replicas {
		for _, master := range r.Nodes[:count] {
			if _, err := r.AddReplica(context.Background(), master); err != nil {
				return err
			}
		}
	}
	return nil
}

// StartStandalone starts one server with its files in dir; the caller stops it.
func StartStandalone(dir string) (*Redis, error) { return Start(dir, Layout{}) }

// StartCluster starts three masters with their files in dir; the caller stops them.
func StartCluster(dir string) (*Redis, error) { return Start(dir, Layout{Cluster: true}) }

// Standalone starts one server, which stops when the test ends.
func Standalone(tb testing.TB) *Redis {
	tb.Helper()
	return started(tb, StartStandalone)
}

// Cluster starts three masters, which stop when the test ends. It takes two seconds or so,
// in which Redis does nothing: it never takes writes earlier.
func Cluster(tb testing.TB) *Redis {
	tb.Helper()
	return started(tb, StartCluster)
}

func started(tb testing.TB, start func(dir string) (*Redis, error)) *Redis {
	tb.Helper()
	dir, err := os.MkdirTemp("", "redistest") // tb.TempDir would be too long for some systems
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	r, err := start(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Stop)
	return r
}

// Each runs f as a subtest against a standalone server and against a cluster, each its own.
func Each(t *testing.T, f func(t *testing.T, r *Redis)) {
	t.Helper()
	t.Run("Standalone", func(t *testing.T) { f(t, Standalone(t)) })
	t.Run("Cluster", func(t *testing.T) { f(t, Cluster(t)) })
}

// Client returns a client of its own, closed when the test ends.
func (r *Redis) Client(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	c := r.connect()
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *Redis) connect() redis.UniversalClient {
	if !r.IsCluster {
		return r.Nodes[0].Client()
	}
	var addrs []string
	for _, n := range r.Nodes {
		addrs = append(addrs, n.Addr)
	}
	return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Protocol: 2})
}

// Stop ends all nodes and waits for them.
func (r *Redis) Stop() {
	for _, n := range r.Nodes {
		n.Stop()
	}
}
