// Package redistest starts real redis-servers for tests: one alone, or three masters that
// form a Redis Cluster. It needs redis-server in PATH, and knows nothing of chat.
package redistest

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Redis is a running server or cluster.
type Redis struct {
	URLs      []string // one, or one a node
	Nodes     []*Node
	IsCluster bool
	Files     Files // of Secure
}

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
