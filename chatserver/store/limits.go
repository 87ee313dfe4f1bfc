package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

var countUse = script("count_use")

// Allow counts one use of key and tells whether it is among the first limit ones of the
// present window, which starts with the first use. retryAfter is what is left of the window
// when it is not. A limit of 0 allows everything.
func (s *Store) Allow(ctx context.Context, key string, limit int, window time.Duration) (ok bool, retryAfter time.Duration, err error) {
	if limit <= 0 {
		return true, 0, nil
	}
	reply, err := countUse.Run(ctx, s.client, []string{limitKey(key)}, window.Milliseconds()).Int64Slice()
	if err != nil {
		return false, 0, fmt.Errorf("count a use of %s: %w", key, err)
	}
	uses, left := reply[0], time.Duration(reply[1])*time.Millisecond
	if uses <= int64(limit) {
		return true, 0, nil
	}
	return false, left, nil
}

// Exceeded tells how long it takes until Allow would allow a use of key again, and counts
// nothing. It is 0 if it would now.
func (s *Store) Exceeded(ctx context.Context, key string, limit int) (retryAfter time.Duration, err error) {
	if limit <= 0 {
		return 0, nil
	}
	pipe := s.client.Pipeline()
	uses, left := pipe.Get(ctx, limitKey(key)), pipe.PTTL(ctx, limitKey(key))
	_, err = pipe.Exec(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("look up the uses of %s: %w", key, err)
	}
	if n, _ := strconv.Atoi(uses.Val()); n < limit { // no count is 0
		return 0, nil
	}
	return max(left.Val(), time.Millisecond), nil
}
