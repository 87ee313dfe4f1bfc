// Package store keeps everything that the chat servers share, in Redis: accounts, logins,
// sessions, presence, rooms, each room's log, follows, limits, and the servers' heartbeats.
//
// It knows keys and scripts. It must not know connections of clients, wire formats (a
// message's payload is opaque bytes) or Kubernetes.
//
// Each entity's keys share one hash tag and each script touches one slot, so everything
// runs unchanged on a single Redis and on Redis Cluster.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Errors that callers tell apart.
var (
	ErrUserExists = errors.New("the user name is taken")
	ErrNoUser     = errors.New("no such user")
	ErrOnline     = errors.New("the user is online elsewhere")
	// ErrLapsed means that this server's heartbeat ran out, so survivors may have swept what
	// it held. After Heartbeat returned it, the server lives on under a new name and the
	// caller must Acquire and Enter again everything it still holds.
	ErrLapsed = errors.New("this server's heartbeat has lapsed")
	ErrClosed = errors.New("the store is closed")
)

// Options says where Redis is and how much history a room keeps.
type Options struct {
	URLs    []string // redis:// or rediss://; several are the seeds of a Redis Cluster
	Cluster bool     // a Redis Cluster even if there is one URL (as is ?cluster=true in it)

	// Files whose contents override the URLs' user info and the system's CAs. They are read
	// anew for each connection, so rotated secrets need no restart.
	UsernameFile, PasswordFile, CAFile string

	// ServerID is unique among the running servers, without white space or braces. A tool
	// that holds nothing leaves it empty and is not registered as a server.
	ServerID string

	HistoryCount int           // messages a room keeps at least, up to 100 more; default 1000
	HistoryAge   time.Duration // a room idle for this long loses its log; default 168 h

	Durability Durability // of what is published
	// Replicas is how many of them must have a message. Replicated needs at least 1; with
	// Durable 0 is enough where there are none.
	Replicas int

	Log        *slog.Logger          // optional: what an operator of Redis should know
	Registerer prometheus.Registerer // optional: of metrics; for one store that opens
}

// Store is safe for concurrent use.
type Store struct {
	client  redis.UniversalClient
	log     *slog.Logger
	sharded bool // the server has sharded pub/sub

	durability Durability
	replicas   int  // that must have a message
	waitAOF    bool // the server has WAITAOF
	atOnce     bool // a message is safe when the script that appends it has returned

	historyCount int
	historyAge   time.Duration

	serverID  string
	name      atomic.Pointer[string] // this server in Redis; see newName
	departed  atomic.Bool            // Goodbye was said
	inherited Swept

	// holding serialises changes to what one user holds on this server, so that a marker in
	// the held set and the thing itself never disagree.
	holding [64]sync.Mutex

	publishes *batcher
	lookups   *batcher // asked only: none of them is alone
}

// Check says what is wrong with the options that no waiting for Redis would mend.
func (o Options) Check() error {
	if strings.ContainsAny(o.ServerID, " \t\r\n{}") {
		return fmt.Errorf("server id %q: use no white space and no braces", o.ServerID)
	}
	client, err := connect(o)
	if err != nil {
		return err
	}
	return client.Close()
}

// Open connects, registers this server with a first heartbeat of 30 seconds, and sweeps
// what a former process with the same ServerID left behind.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Durability == Replicated && o.Replicas < 1 {
		return nil, errors.New("durability replicated with no replica to wait for: ask for at least 1")
	}
	client, err := connect(o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		client:       client,
		log:          o.Log,
		durability:   o.Durability,
		replicas:     max(o.Replicas, 0),
		historyCount: positive(o.HistoryCount, 1000),
		historyAge:   positive(o.HistoryAge, 168*time.Hour),
		serverID:     o.ServerID,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.newName()
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	if o.Registerer != nil {
		if err := observe(client, o.Registerer); err != nil {
			return nil, errors.Join(err, client.Close())
		}
	}
	s.publishes = newBatcher(s.runOne, s.flush)
	s.lookups = newBatcher(nil, s.lookUpKeys)
	return s, nil
}

func (s *Store) start(ctx context.Context) error {
	var err error
	if s.sharded, err = Sharded(ctx, s.client); err != nil {
		return err
	}
	if err := s.checkDurability(ctx); err != nil {
		return err
	}
	if s.serverID == "" {
		return nil
	}
	if err := s.register(ctx, firstHeartbeat); err != nil {
		return err
	}
	return s.sweepFormer(ctx)
}

// Client is the connection pool, for the relay and for metrics.
func (s *Store) Client() redis.UniversalClient { return s.client }

// Close ends publishes in flight and closes all connections. It leaves the heartbeat to run
// out; a drained server says Goodbye first.
func (s *Store) Close() error {
	s.publishes.close()
	s.lookups.close()
	return s.client.Close()
}

// Sharded tells whether the server has sharded pub/sub (Redis 7, Valkey).
func Sharded(ctx context.Context, client redis.UniversalClient) (bool, error) {
	return knows(ctx, client, "spublish")
}

// knows tells whether the server has a command. Servers that do not know COMMAND INFO list
// all their commands instead.
func knows(ctx context.Context, client redis.UniversalClient, command string) (bool, error) {
	reply, err := client.Do(ctx, "COMMAND", "INFO", command).Slice()
	if err != nil {
		return false, fmt.Errorf("ask Redis for the command %s: %w", command, err)
	}
	for _, one := range reply {
		if info, ok := one.([]any); ok && len(info) > 0 && info[0] == command {
			return true, nil
		}
	}
	return false, nil
}

// hold locks what user holds on this server; call the result to unlock.
func (s *Store) hold(user string) (unlock func()) {
	sum := uint32(2166136261) // FNV-1a
	for i := range len(user) {
		sum = (sum ^ uint32(user[i])) * 16777619
	}
	m := &s.holding[sum%uint32(len(s.holding))]
	m.Lock()
	return m.Unlock
}

func positive[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// randomID is 26 characters, unique and unguessable.
func randomID() string { return rand.Text() }
