package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Durability is how safe a message has to be before anybody learns of it: before its sender
// is acknowledged, and before anybody reads it. The second matters as much as the first. What
// was heard and then lost would be heard again when its sender, who was not acknowledged,
// sends it again.
type Durability int

// The levels, each of which includes the one before it.
const (
	Memory     Durability = iota // in the memory of the Redis master
	Replicated                   // and of replicas, so that one of them can take over
	Durable                      // and on disk
)

// ErrNotSafe means that a message is in the log, but not on as many disks or replicas as
// asked for. Nobody has read it; publishing it again with the same ID settles it.
var ErrNotSafe = errors.New("not as safe as asked for in time")

// safeTimeout is how long a batch may wait for replicas and disks. A replica that syncs its
// disk each second takes that long.
const safeTimeout = 2 * time.Second

var announce = script("announce")

// commit is flush for a level above Memory. On each master it appends the batch, waits on the
// same connection until that is safe, and only then announces it. One wait covers the batch,
// and everything that was appended before.
func (s *Store) commit(ctx context.Context, batch []*request) {
	byMaster := map[*redis.Client][]*request{}
	for _, r := range batch {
		master, err := s.master(ctx, r.call.keys[0])
		if err != nil {
			r.reply <- result{err: err}
			continue
		}
		byMaster[master] = append(byMaster[master], r)
	}
	var wg sync.WaitGroup
	for master, part := range byMaster {
		wg.Go(func() { s.commitOn(ctx, master, part) })
	}
	wg.Wait()
}

// master is the client of the one server that a key is on.
func (s *Store) master(ctx context.Context, key string) (*redis.Client, error) {
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		return c.MasterForKey(ctx, key)
	case *redis.Client:
		return c, nil
	}
	return nil, fmt.Errorf("a Redis client of type %T has no masters known to the store", s.client)
}

func (s *Store) commitOn(ctx context.Context, master *redis.Client, batch []*request) {
	results := s.appendSafely(ctx, master, batch)
	s.announce(ctx, master, batch, results)
	if c, ok := s.client.(*redis.ClusterClient); ok && anyFailed(results) {
		c.ReloadState(ctx) // this may not be the master any more
	}
	for i, r := range batch {
		r.reply <- results[i]
	}
}

func anyFailed(results []result) bool {
	for _, r := range results {
		if r.err != nil {
			return true
		}
	}
	return false
}

// appendSafely runs the calls and waits, in one pipeline, which is one connection: WAIT is
// about what its own connection wrote.
func (s *Store) appendSafely(ctx context.Context, master *redis.Client, batch []*request) []result {
	results := make([]result, len(batch))
	todo := make([]int, len(batch))
	for i := range todo {
		todo[i] = i
	}
	for try := 0; len(todo) > 0 && try < 2; try++ {
		pipe := master.Pipeline()
		cmds := make([]*redis.Cmd, len(todo))
		for j, i := range todo {
			c := batch[i].call
			cmds[j] = pipe.EvalSha(ctx, c.script.Hash(), c.keys, c.args...)
		}
		safe := s.wait(ctx, pipe)
		_, _ = pipe.Exec(ctx) // each command carries its error
		unsafe := safe()
		var unknown []int
		for j, i := range todo {
			value, err := cmds[j].Text()
			switch {
			case redis.HasErrorPrefix(err, "NOSCRIPT"):
				unknown = append(unknown, i)
			case err == nil:
				err = unsafe
			}
			results[i] = result{value, err}
		}
		todo = unknown
		for _, i := range todo {
			if err := batch[i].call.script.Load(ctx, master).Err(); err != nil {
				break // the second try tells why
			}
		}
	}
	return results
}

// wait ends a pipeline with the wait for all of it. Call the result when the pipeline has run;
// it is nil if all is safe.
func (s *Store) wait(ctx context.Context, pipe redis.Pipeliner) func() error {
	if s.durability == Durable && s.waitAOF {
		cmd := pipe.Do(ctx, "WAITAOF", 1, s.replicas, safeTimeout.Milliseconds())
		return func() error {
			got, err := cmd.Int64Slice()
			if err != nil {
				return fmt.Errorf("wait for the disks: %w", err)
			}
			if len(got) != 2 || got[0] < 1 || got[1] < int64(s.replicas) {
				return fmt.Errorf("%w: it is on the disks of %v, wanted 1 master and %d replicas", ErrNotSafe, got, s.replicas)
			}
			return nil
		}
	}
	cmd := pipe.Do(ctx, "WAIT", s.replicas, safeTimeout.Milliseconds())
	return func() error {
		got, err := cmd.Int64()
		if err != nil {
			return fmt.Errorf("wait for the replicas: %w", err)
		}
		if got < int64(s.replicas) {
			return fmt.Errorf("%w: %d of %d replicas have it", ErrNotSafe, got, s.replicas)
		}
		return nil
	}
}

// announce lets everybody know what is safe: once for each room, up to its newest entry of
// the batch. An entry counts if it is in the log then: a master that lost it will not say so.
func (s *Store) announce(ctx context.Context, master *redis.Client, batch []*request, results []result) {
	type entry struct{ meta, epoch string }
	upTo := map[entry]uint64{}
	calls := map[entry]call{}
	at := make([]entry, len(batch))
	for i, r := range batch {
		offset, epoch, ok := appended(results[i])
		if !ok {
			continue
		}
		at[i] = entry{r.call.keys[1], epoch}
		if upTo[at[i]] = max(upTo[at[i]], offset); upTo[at[i]] == offset {
			calls[at[i]] = call{announce, []string{r.call.keys[0], r.call.keys[1], r.call.keys[3]}, []any{epoch, offset, s.sending()}}
		}
	}
	failed := runAnnounce(ctx, master, calls)
	for i := range batch {
		if err := failed[at[i]]; err != nil {
			results[i] = result{err: err}
		}
	}
}

func runAnnounce[K comparable](ctx context.Context, master *redis.Client, calls map[K]call) map[K]error {
	pipe := master.Pipeline()
	cmds := map[K]*redis.Cmd{}
	for k, c := range calls {
		cmds[k] = pipe.EvalSha(ctx, c.script.Hash(), c.keys, c.args...)
	}
	_, _ = pipe.Exec(ctx) // each command carries its error
	failed := map[K]error{}
	for k, cmd := range cmds {
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			cmd = calls[k].script.Eval(ctx, master, calls[k].keys, calls[k].args...)
		}
		if there, err := cmd.Bool(); err != nil {
			failed[k] = fmt.Errorf("announce it: %w", err)
		} else if !there {
			failed[k] = fmt.Errorf("%w: Redis lost it before it was announced", ErrNotSafe)
		}
	}
	return failed
}

// appended reads where a publish script put its entry; ok is false if it did not.
func appended(r result) (offset uint64, epoch string, ok bool) {
	number, rest, _ := strings.Cut(r.value, " ")
	epoch, _, _ = strings.Cut(rest, " ")
	offset, err := strconv.ParseUint(number, 10, 64)
	return offset, epoch, r.err == nil && err == nil && epoch != ""
}

// checkDurability finds out how the level can be held, and refuses to start where it is known
// that it cannot. Replicas may still come.
func (s *Store) checkDurability(ctx context.Context) error {
	if s.durability == Memory {
		s.atOnce = true
		return nil
	}
	if s.durability == Durable {
		var err error
		if s.waitAOF, err = knows(ctx, s.client, "waitaof"); err != nil {
			return err
		}
		// With appendfsync always Redis syncs before it writes to any client, those included
		// that listen to the room.
		s.atOnce = !s.waitAOF && s.replicas == 0
	}
	return s.eachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		if s.durability == Durable {
			if err := s.checkDisk(ctx, master); err != nil {
				return fmt.Errorf("durability durable at Redis %s: %w", master.Options().Addr, err)
			}
		}
		return s.checkReplicas(ctx, master)
	})
}

func (s *Store) eachMaster(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	if c, ok := s.client.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, f)
	}
	c, err := s.master(ctx, "")
	if err != nil {
		return err
	}
	return f(ctx, c)
}

// checkDisk looks whether Redis writes what it acknowledges to disk.
func (s *Store) checkDisk(ctx context.Context, master *redis.Client) error {
	got, err := master.ConfigGet(ctx, "append*").Result()
	if redis.HasErrorPrefix(err, "NOPERM") {
		if !s.waitAOF {
			s.log.Warn("this Redis has no WAITAOF, and CONFIG GET is not permitted: acknowledged messages are on disk only if Redis runs with appendonly yes and appendfsync always",
				"redis", master.Options().Addr)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read its configuration: %w", err)
	}
	if got["appendonly"] != "yes" {
		return errors.New("it keeps no append-only file: start it with appendonly yes")
	}
	if !s.waitAOF && got["appendfsync"] != "always" {
		return fmt.Errorf("appendfsync is %s, and it has no WAITAOF: set appendfsync always, or use Redis 7.2 or later", got["appendfsync"])
	}
	return nil
}

func (s *Store) checkReplicas(ctx context.Context, master *redis.Client) error {
	if s.replicas == 0 {
		return nil
	}
	info, err := master.Info(ctx, "replication").Result()
	if err != nil {
		return fmt.Errorf("count the replicas of Redis %s: %w", master.Options().Addr, err)
	}
	connected := 0
	for line := range strings.Lines(info) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "connected_slaves:"); ok {
			connected, _ = strconv.Atoi(n)
		}
	}
	if connected < s.replicas {
		s.log.Warn("no message is acknowledged before Redis has enough replicas: add some, or ask for less",
			"redis", master.Options().Addr, "replicas", connected, "wanted", s.replicas)
	}
	return nil
}
