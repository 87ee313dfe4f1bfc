package watchdog

import (
	"context"
	"crypto/tls"
	"sync"

	"github.com/chatcluster/chatcluster/chatserver/poller"
)

// TryRead is Read, but returns ErrNothing where nothing is there, instead of waiting,
// so that the connection can be parked. One that cannot be waits all the same.
func (c *Conn) TryRead(p []byte) (int, error) {
	if c.ahead != nil || c.owner == nil || c.socket == nil || c.waits.Load() || c.dog.poller.Load() == nil {
		return c.Read(p)
	}
	c.socket.tries = true
	defer func() { c.socket.tries = false }()
	if _, secure := c.Conn.(*tls.Conn); secure || len(p) >= aheadSize {
		return c.heard(c.Conn.Read(p)) // TLS reads ahead itself
	}
	a := aheads.Get().(*readAhead)
	n, err := c.heard(c.Conn.Read(a.buf[:]))
	if n == 0 {
		aheads.Put(a)
		return 0, err
	}
	c.ahead, a.rest = a, a.buf[:n]
	return c.takeAhead(p), err
}

// Wait has TryRead wait from now on.
func (c *Conn) Wait() { c.waits.Store(true) }

// Park has the owner's Resume called once there is something to read or the
// connection has ended. If it returns false that will not be, and the reader has to
// go on itself; otherwise the connection is no longer its own. It is for a reader
// that got ErrNothing.
func (c *Conn) Park() bool {
	c.parked.Store(true)
	if err := c.await(); err == nil || !c.parked.CompareAndSwap(true, false) {
		return true
	}
	c.Wait() // for what is to come: an end, if the connection was closed
	return false
}

func (c *Conn) await() error {
	p := c.dog.poller.Load()
	if p == nil {
		return poller.ErrUnsupported
	}
	return await(c.socket.raw, p, c.id)
}

// wake resumes the connection, if it is parked.
func (c *Conn) wake() {
	if c.parked.CompareAndSwap(true, false) {
		go c.owner.Resume()
	}
}

// poll wakes parked connections until ctx ends.
func (w *Watchdog) poll(ctx context.Context, p *poller.Poller) {
	w.poller.Store(p)
	ready := make([]*Conn, 0, 128)
	_ = p.Run(ctx, func(ids []uint64) { // an error would say that epoll itself is broken
		ready = ready[:0]
		w.mu.Lock()
		for _, id := range ids {
			if c := w.conns[id]; c != nil {
				ready = append(ready, c)
			}
		}
		w.mu.Unlock()
		for _, c := range ready {
			c.wake()
		}
		clear(ready)
	})
	w.poller.Store(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.wake()
	}
}

func (c *Conn) Read(p []byte) (int, error) {
	if c.ahead != nil {
		return c.takeAhead(p), nil
	}
	return c.heard(c.Conn.Read(p))
}

// heard notes when something was read.
func (c *Conn) heard(n int, err error) (int, error) {
	if n > 0 {
		c.lastRead.Store(c.dog.now.Load())
	}
	return n, err
}

// aheadSize is how many bytes are read at once where fewer are asked for: a frame is
// asked for in pieces, and most are shorter than this.
const aheadSize = 2 << 10

type readAhead struct {
	buf  [aheadSize]byte
	rest []byte
}

// aheads are shared: a connection needs one from when something has come until all
// of it was taken.
var aheads = sync.Pool{New: func() any { return new(readAhead) }}

func (c *Conn) takeAhead(p []byte) int {
	n := copy(p, c.ahead.rest)
	c.ahead.rest = c.ahead.rest[n:]
	if len(c.ahead.rest) == 0 {
		aheads.Put(c.ahead)
		c.ahead = nil
	}
	return n
}

// Unread has p read before anything else. Nothing may have been read before it.
func (c *Conn) Unread(p []byte) {
	if len(p) > 0 {
		c.ahead = &readAhead{rest: p}
	}
}
