package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// flushers is how many batches can be under way. One alone would make each message wait
	// for the round trip of the batch before it.
	flushers = 4
	// queued bounds the calls that wait. When it is full, callers wait in turn, until their
	// contexts end.
	queued = 4096
	// flushTimeout bounds one batch, retries included.
	flushTimeout = 10 * time.Second
)

// A batcher gathers concurrent calls into pipelines. It never waits for more: a call that is
// alone is made at once by its caller, and what arrives while all flushers are busy goes out
// together.
type batcher struct {
	alone func(context.Context, call) (string, error)
	flush func(context.Context, []*request) // answers all of them

	queue chan *request
	calls atomic.Int64 // under way
	stop  context.CancelFunc
	done  <-chan struct{} // closed by stop
	wg    sync.WaitGroup
}

type request struct {
	call  call
	reply chan result // holds one: nobody has to be waiting
}

type result struct {
	value string
	err   error
}

// newBatcher starts the flushers, which hand batches of at most pipelined requests to flush.
func newBatcher(alone func(context.Context, call) (string, error), flush func(context.Context, []*request)) *batcher {
	ctx, cancel := context.WithCancel(context.Background())
	b := &batcher{alone: alone, flush: flush, queue: make(chan *request, queued), stop: cancel, done: ctx.Done()}
	for range flushers {
		b.wg.Go(func() { b.run(ctx) })
	}
	return b
}

func (b *batcher) close() {
	b.stop()
	b.wg.Wait()
}

// do runs one call. If ctx ends first the call may still be done.
func (b *batcher) do(ctx context.Context, c call) (string, error) {
	defer b.calls.Add(-1)
	if b.calls.Add(1) == 1 {
		return b.alone(ctx, c)
	}
	return b.ask(ctx, c).answer(ctx, b)
}

// ask has one call run beside what the caller does next. Whoever wants the answer waits for it.
func (b *batcher) ask(ctx context.Context, c call) *request {
	r := &request{call: c, reply: make(chan result, 1)}
	select {
	case b.queue <- r:
	case <-ctx.Done():
		r.reply <- result{err: context.Cause(ctx)}
	case <-b.done:
		r.reply <- result{err: ErrClosed}
	}
	return r
}

func (r *request) answer(ctx context.Context, b *batcher) (string, error) {
	select {
	case res := <-r.reply:
		return res.value, res.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-b.done:
		return "", ErrClosed
	}
}

func (b *batcher) run(ctx context.Context) {
	batch := make([]*request, 0, pipelined)
	for {
		select {
		case r := <-b.queue:
			batch = b.fill(append(batch[:0], r))
		case <-ctx.Done():
			return
		}
		b.flush(ctx, batch)
		clear(batch)
	}
}

// fill adds what is queued already, up to a full batch.
func (b *batcher) fill(batch []*request) []*request {
	for len(batch) < cap(batch) {
		select {
		case r := <-b.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// runOne is a batch of one, with the caller's context.
func (s *Store) runOne(ctx context.Context, c call) (string, error) {
	var res result
	if s.atOnce {
		res.value, res.err = c.script.Run(ctx, s.client, c.keys, c.args...).Text()
	} else {
		r := &request{call: c, reply: make(chan result, 1)}
		s.commit(ctx, []*request{r})
		res = <-r.reply
	}
	if errors.Is(res.err, redis.ErrClosed) {
		res.err = ErrClosed
	}
	return res.value, res.err
}

// flush runs a batch and answers each request.
func (s *Store) flush(ctx context.Context, batch []*request) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if !s.atOnce {
		s.commit(ctx, batch)
		return
	}
	calls := make([]call, len(batch))
	for i, r := range batch {
		calls[i] = r.call
	}
	for i, cmd := range s.runAll(ctx, calls) {
		value, err := cmd.Text()
		batch[i].reply <- result{value, err}
	}
}
