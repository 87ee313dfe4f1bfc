// Package watchdog looks after accepted connections: how long one write may block,
// how long a peer may be silent, and when one that was parked has something to say.
// One ticker and one poller do it for all, so that an idle connection costs no
// timer and no goroutine, and a write sets no deadline.
//
// It knows net.Conn and nothing of what is spoken over it.
package watchdog

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/poller"
)

// Tick is how often connections are looked at, and so how exact the bounds are.
const Tick = time.Second

// Watchdog looks after the connections given to Watch while Run runs.
type Watchdog struct {
	write  time.Duration
	now    atomic.Int64                  // unix nanoseconds of the last tick: precise enough, and free to read
	poller atomic.Pointer[poller.Poller] // nil: connections cannot be parked

	mu    sync.Mutex
	conns map[uint64]*Conn
	last  uint64 // id that was given
	cut   bool   // CutAll was called
}

// Owner is told what becomes of a connection.
type Owner interface {
	// Silent is called at every tick with the time since the last byte was read; it
	// must not block.
	Silent(*Conn, time.Duration)
	// Resume is called on a goroutine of its own when a parked connection has
	// something to read, or has ended.
	Resume()
}

// New makes a Watchdog that cuts a connection whose write blocks longer than write.
func New(write time.Duration) *Watchdog {
	w := &Watchdog{write: write, conns: make(map[uint64]*Conn)}
	w.now.Store(time.Now().UnixNano())
	return w
}

// Run ticks until ctx ends. It does not close the connections then; none may be
// parked any more.
func (w *Watchdog) Run(ctx context.Context) {
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	if p, err := poller.New(); err == nil { // else they are not parked
		var polling sync.WaitGroup
		defer polling.Wait()
		polling.Go(func() { w.poll(ctx, p) })
	}
	w.now.Store(time.Now().UnixNano())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			w.tick(now.UnixNano())
		}
	}
}

func (w *Watchdog) tick(now int64) {
	w.now.Store(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		if started := c.writing.Load(); started != 0 && now-started > int64(w.write) {
			c.Cut()
			continue
		}
		if c.owner != nil {
			c.owner.Silent(c, time.Duration(now-c.lastRead.Load()))
		}
	}
}

// Watch takes charge of nc until the returned connection is closed. Without an
// owner it is not parked, and may be as silent as it likes.
func (w *Watchdog) Watch(nc net.Conn, owner Owner) *Conn {
	c := &Conn{Conn: nc, dog: w, owner: owner, socket: socketOf(nc)}
	now := w.now.Load()
	c.lastRead.Store(now)
	c.lastWrite.Store(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	c.id = w.last
	w.conns[c.id] = c
	if w.cut {
		c.Cut()
	}
	return c
}

// CutAll ends all connections at once, those that are still to come too.
func (w *Watchdog) CutAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, c := range w.conns {
		c.Cut()
	}
}

// Conn is a connection whose time is bounded. Write and WriteBuffers may be
// called from several goroutines: each call's bytes stay together.
type Conn struct {
	net.Conn
	dog   *Watchdog
	id    uint64
	owner Owner

	waits  atomic.Bool // TryRead waits too
	parked atomic.Bool
	ahead  *readAhead // what was read and not asked for yet; nil: nothing. The reader's alone

	lastRead  atomic.Int64 // unix nanoseconds, as exact as a tick
	lastWrite atomic.Int64
	writing   atomic.Int64 // when the write under way began; 0: none

	mu     sync.Mutex // held while writing
	socket *Socket    // nil: the connection only knows how to wait
}

func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeLocked(p)
}

// chunk is the largest TLS record: what is written at once travels together.
const chunk = 16 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// gather copies the beginning of bufs into p.
func gather(p []byte, bufs net.Buffers) (n int) {
	for _, b := range bufs {
		n += copy(p[n:], b)
	}
	return n
}

// consume takes the first n bytes off bufs.
func consume(bufs *net.Buffers, n int) {
	for n > 0 && n >= len((*bufs)[0]) {
		n -= len((*bufs)[0])
		*bufs = (*bufs)[1:]
	}
	if n > 0 {
		(*bufs)[0] = (*bufs)[0][n:]
	}
}

// WriteBuffers writes and consumes all of bufs, in as few writes as it can. A TLS connection
// makes a record and a system call of every Write, so small buffers are joined
// first.
func (c *Conn) WriteBuffers(bufs *net.Buffers) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(*bufs) == 1 {
		if _, err := c.writeLocked((*bufs)[0]); err != nil {
			return err
		}
		*bufs = nil
		return nil
	}
	joined := chunks.Get().(*[chunk]byte)
	defer chunks.Put(joined)
	for len(*bufs) > 0 {
		n := gather(joined[:], *bufs)
		if _, err := c.writeLocked(joined[:n]); err != nil {
			return err
		}
		consume(bufs, n)
	}
	return nil
}

func (c *Conn) writeLocked(p []byte) (int, error) {
	now := c.dog.now.Load()
	c.writing.Store(now)
	n, err := c.Conn.Write(p)
	if err == nil && c.socket != nil {
		err = c.socket.settle()
	}
	c.writing.Store(0)
	if err == nil {
		c.lastWrite.Store(now)
	}
	return n, err
}

// TryWrite writes and consumes of bufs what the connection takes without
// waiting: nothing, if it only knows how to wait or somebody else is writing.
func (c *Conn) TryWrite(bufs *net.Buffers) error {
	if c.socket == nil || !c.mu.TryLock() {
		return nil
	}
	defer c.mu.Unlock()
	for len(*bufs) > 0 && !c.socket.full() {
		n, err := c.tryOnce(*bufs)
		if n == 0 || err != nil {
			return err
		}
		consume(bufs, n)
		c.lastWrite.Store(c.dog.now.Load())
	}
	return nil
}

func (c *Conn) tryOnce(bufs net.Buffers) (int, error) {
	p := bufs[0]
	if len(bufs) > 1 {
		joined := chunks.Get().(*[chunk]byte)
		defer chunks.Put(joined)
		p = joined[:gather(joined[:], bufs)]
	}
	if _, secure := c.Conn.(*tls.Conn); secure {
		return c.Conn.Write(p[:min(len(p), chunk)]) // the socket keeps what does not go out
	}
	return tryWrite(c.socket.raw, p)
}

// Settle waits until the write under way, if any, has ended, or was cut short.
func (c *Conn) Settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
}

// Silent is how long nothing has been read and nothing could be written.
func (c *Conn) Silent() time.Duration {
	return time.Duration(time.Now().UnixNano() - max(c.lastRead.Load(), c.lastWrite.Load()))
}

// Cut ends the connection at once, without the TLS farewell, which could block
// as long as the write that is being cut short.
func (c *Conn) Cut() {
	defer c.wake()
	if t, ok := c.Conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
		return
	}
	_ = c.Conn.Close()
}

// Close ends the connection and the watch over it.
func (c *Conn) Close() error {
	defer c.wake()
	c.dog.mu.Lock()
	delete(c.dog.conns, c.id)
	c.dog.mu.Unlock()
	return c.Conn.Close()
}
