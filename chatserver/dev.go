package chatserver

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// runDevRedis starts a Redis inside this process, which ends with ctx and keeps
// nothing. Its clock stands still unless it is moved.
func runDevRedis(ctx context.Context) (url string, err error) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		return "", fmt.Errorf("start the built-in Redis: %w", err)
	}
	go func() {
		defer m.Close()
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				m.FastForward(time.Second)
			}
		}
	}()
	return "redis://" + m.Addr(), nil
}
