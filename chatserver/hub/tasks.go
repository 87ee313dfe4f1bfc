package hub

import (
	"context"
	"sync"
)

// tasks are the goroutines that serve no single request. All of them end when
// the hub does.
type tasks struct {
	ctx    context.Context // ends with the hub
	cancel context.CancelFunc

	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

func (t *tasks) spawn(f func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.wg.Go(func() { f(t.ctx) })
	return true
}

// end stops the tasks and waits for them; there are none afterwards.
func (t *tasks) end() {
	t.cancel()
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.wg.Wait()
}
