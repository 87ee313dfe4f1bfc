package store

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"time"
)

// The queue of notices is sorted by when each is due, not a stream: every notice has a
// delay of its own between tries. Taking one makes it due again after a lease, so what a
// dead server had taken comes to the others by itself.

const (
	noticeShards    = 4      // slots that the queue is spread over
	noticesPerShard = 25_000 // some 10 MB
)

var (
	addNotices  = script("add_notices")
	takeNotices = script("take_notices")
	delayNotice = script("delay_notice")
)

// Notice is something to be told to somebody outside, at least once. Its body is opaque.
type Notice struct {
	ID    string // unique; a second one with it, while the first is in the queue, is ignored
	Body  []byte
	Tries int // of a notice that was taken: how often it has been, this time included
}

// AddNotices puts notices into the queue. dropped is how many others had to go because
// the queue is full.
func (s *Store) AddNotices(ctx context.Context, notices []Notice) (dropped int, err error) {
	var shards [noticeShards][]any
	for _, n := range notices {
		i := noticeShard(n.ID)
		shards[i] = append(shards[i], n.ID, n.Body)
	}
	for i, args := range shards {
		if len(args) == 0 {
			continue
		}
		n, err := addNotices.Run(ctx, s.client, noticeKeys(i), append([]any{noticesPerShard}, args...)...).Int()
		if err != nil {
			return dropped, fmt.Errorf("queue %d notices: %w", len(args)/2, err)
		}
		dropped += n
	}
	return dropped, nil
}

// TakeNotices lends up to limit notices that are due. Each is due again after the lease
// unless it is dropped or delayed before.
func (s *Store) TakeNotices(ctx context.Context, limit int, lease time.Duration) ([]Notice, error) {
	var taken []Notice
	first := rand.IntN(noticeShards) // no shard waits for the others to be empty
	for i := range noticeShards {
		if len(taken) == limit {
			break
		}
		reply, err := takeNotices.Run(ctx, s.client, noticeKeys((first+i)%noticeShards), limit-len(taken), lease.Milliseconds()).Slice()
		if err != nil {
			return taken, fmt.Errorf("take notices: %w", err)
		}
		for ; len(reply) >= 3; reply = reply[3:] {
			id, _ := reply[0].(string)
			body, _ := reply[1].(string)
			tries, _ := reply[2].(int64)
			taken = append(taken, Notice{id, []byte(body), int(tries)})
		}
	}
	return taken, nil
}

// DelayNotice makes a notice that was taken due after a delay.
func (s *Store) DelayNotice(ctx context.Context, id string, delay time.Duration) error {
	if err := delayNotice.Run(ctx, s.client, noticeKeys(noticeShard(id))[:1], id, delay.Milliseconds()).Err(); err != nil {
		return fmt.Errorf("delay a notice: %w", err)
	}
	return nil
}

// DropNotice takes a notice out of the queue, for it was delivered or never will be.
func (s *Store) DropNotice(ctx context.Context, id string) error {
	keys := noticeKeys(noticeShard(id))
	pipe := s.client.TxPipeline()
	pipe.ZRem(ctx, keys[0], id)
	pipe.HDel(ctx, keys[1], id)
	pipe.HDel(ctx, keys[2], id)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("drop a notice: %w", err)
	}
	return nil
}

// CountNotices counts what is in the queue.
func (s *Store) CountNotices(ctx context.Context) (int, error) {
	total := 0
	for i := range noticeShards {
		n, err := s.client.ZCard(ctx, noticeKeys(i)[0]).Result()
		if err != nil {
			return 0, fmt.Errorf("count the notices: %w", err)
		}
		total += int(n)
	}
	return total, nil
}

func noticeShard(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % noticeShards)
}

func noticeKeys(shard int) []string {
	key := noticesKey(strconv.Itoa(shard))
	return []string{key, key + ":body", key + ":tries"}
}
