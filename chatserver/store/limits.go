package store

import (
	"context"
	"fmt"
	"time"
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
