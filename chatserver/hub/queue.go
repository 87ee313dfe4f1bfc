package hub

import (
	"context"
	"net"
	"sync"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// queue is what waits to be written to one client. It is what keeps the order:
// whoever queues first is written first, and one goroutine at a time writes.
type queue struct {
	sync.Mutex
	frames  []*Frame
	spare   []*Frame // the slice that was just written, to be filled again
	partial int      // bytes of the first frame that are written already
	bytes   int      // of all frames, those being written included
	writing bool
	closed  bool          // nothing more is queued
	dropped bool          // and what was queued is not to be written
	broken  bool          // because a write failed
	written chan struct{} // closed when something was written; nil: nobody waits
	after   *closing
}

type closing struct {
	code   int
	reason string
}

// Event queues an event for this client and writes it at once if that works
// without waiting. The caller holds no room's lock.
func (c *Client) Event(e protocol.Event) {
	if c.push(newFrame(e)) {
		c.flush()
	}
}

// enqueue queues a frame and has a goroutine write it.
func (c *Client) enqueue(f *Frame) {
	if c.push(f) {
		go c.write()
	}
}

// push adds a frame to what is to be written. It never blocks: a client that
// reads more slowly than its queue allows is cut off with a code that tells it
// to come back and resume. If it returns true nobody writes, and the caller has
// to: by flush or write.
func (c *Client) push(f *Frame) (write bool) {
	b := f.bytes(c.transport.Encoding())
	if len(b) == 0 {
		return false
	}
	c.queue.Lock()
	defer c.queue.Unlock()
	if c.queue.closed {
		return false
	}
	if c.queue.bytes+len(b) > c.hub.cfg.QueueBytes {
		c.hub.metrics.slow.Inc()
		c.queue.dropLocked()
		c.hub.spawn(func(context.Context) {
			c.transport.Close(protocol.CloseSlow, "reading too slowly: connect again and resume")
		})
		return false
	}
	c.queue.bytes += len(b)
	c.queue.frames = append(c.queue.frames, f)
	write = !c.queue.writing
	c.queue.writing = true
	return write
}

// hasRoomFor says whether frames fit into the queue with as much room again to
// spare, so that live messages do not cut the client off at once.
func (c *Client) hasRoomFor(frames []*Frame) bool {
	size := 0
	for _, f := range frames {
		size += len(f.bytes(c.transport.Encoding()))
	}
	c.queue.Lock()
	defer c.queue.Unlock()
	return c.queue.bytes+size <= c.hub.cfg.QueueBytes/2
}

// waitForRoom waits until the queue is less than half full: for what a client
// asked for, which goes at the client's pace.
func (c *Client) waitForRoom(ctx context.Context) error {
	for {
		c.queue.Lock()
		if c.queue.closed {
			c.queue.Unlock()
			return net.ErrClosed
		}
		if c.queue.bytes <= c.hub.cfg.QueueBytes/2 {
			c.queue.Unlock()
			return nil
		}
		if c.queue.written == nil {
			c.queue.written = make(chan struct{})
		}
		written := c.queue.written
		c.queue.Unlock()
		select {
		case <-written:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// progress wakes those who wait for room in the queue. Callers hold the lock.
func (q *queue) progress() {
	if q.written != nil {
		close(q.written)
		q.written = nil
	}
}

// drop ends the queue; what is in it is not written any more.
func (q *queue) drop() {
	q.Lock()
	defer q.Unlock()
	q.dropLocked()
}

func (q *queue) dropLocked() {
	q.closed, q.dropped, q.frames = true, true, nil
	q.progress()
}

// flush writes what is queued, as far as the connection takes it without
// waiting, on the caller's own goroutine: to start one costs a fifth of what
// the write does, and while the caller writes to the members of a room, the
// room's next messages gather and share the next write. Only a connection that
// is full gets a goroutine. The caller was told to write by push.
func (c *Client) flush() {
	if !c.drain(c.transport.TryWrite) {
		go c.write()
	}
}

// write empties the queue and ends: an idle client has no writer. It is bounded
// by the transport's write deadline. The caller was told to write by push.
func (c *Client) write() { c.drain(c.transport.WriteBuffers) }

// drain writes the queue with send, all that is queued in one call, until it is
// empty, or until send has left something, which it reports by false.
func (c *Client) drain(send func(*net.Buffers) error) (done bool) {
	enc := c.transport.Encoding()
	out := outs.Get().(*out)
	defer outs.Put(out)
	for {
		frames, partial := c.take()
		if frames == nil {
			return true
		}
		size := out.gather(frames, partial, enc)
		err := send(&out.pending)
		left := out.left()
		if err != nil {
			// The connection is gone; its reader finds out and detaches.
			c.fail()
			return true
		}
		if c.wrote(frames, partial+size-left, size-left, left > 0); left > 0 {
			return false
		}
	}
}

// take takes all that is queued, or ends the writing if nothing is.
func (c *Client) take() (frames []*Frame, partial int) {
	c.queue.Lock()
	if len(c.queue.frames) > 0 {
		defer c.queue.Unlock()
		frames, partial = c.queue.frames, c.queue.partial
		c.queue.frames, c.queue.spare, c.queue.partial = c.queue.spare[:0], nil, 0
		return frames, partial
	}
	c.queue.writing = false
	after := c.queue.after
	c.queue.Unlock()
	if after != nil {
		c.transport.Close(after.code, after.reason)
	}
	return nil, 0
}

// spareFrames is the longest slice that a client keeps for its next burst.
const spareFrames = 64

// wrote notes that of frames, which were taken, the first reached bytes have
// been written, size of them just now. Those that are left go back to the head
// of the queue.
func (c *Client) wrote(frames []*Frame, reached, size int, left bool) {
	enc := c.transport.Encoding()
	events, whole := 0, 0
	for _, f := range frames {
		n := len(f.bytes(enc))
		if left && reached < n {
			break
		}
		reached -= n
		events += f.events()
		whole++
	}
	c.hub.metrics.delivered.Add(float64(events))
	c.queue.Lock()
	defer c.queue.Unlock()
	c.queue.bytes -= size
	if size > 0 {
		c.queue.progress()
	}
	clear(frames[:whole])
	if left && !c.queue.dropped {
		c.queue.frames = append(frames[whole:len(frames):len(frames)], c.queue.frames...)
		c.queue.partial = reached
		return
	}
	clear(frames[whole:])
	if cap(frames) <= spareFrames {
		c.queue.spare = frames
	}
}

func (c *Client) fail() {
	c.queue.Lock()
	c.queue.dropLocked()
	c.queue.writing, c.queue.broken = false, true
	c.queue.Unlock()
	c.transport.Close(protocol.CloseNormal, "")
}

// out is what one write needs; writers come and go, so they share them.
type out struct {
	all     net.Buffers
	pending net.Buffers // the part of all that is not written yet
}

var outs = sync.Pool{New: func() any { return new(out) }}

// gather takes the bytes of frames, without the first partial ones, and returns
// how many they are.
func (o *out) gather(frames []*Frame, partial int, enc Encoding) (size int) {
	clear(o.all)
	o.all = o.all[:0]
	for _, f := range frames {
		b := f.bytes(enc)[partial:]
		partial = 0
		size += len(b)
		o.all = append(o.all, b)
	}
	o.pending = o.all
	return size
}

// left is how many bytes are not written yet.
func (o *out) left() (size int) {
	for _, b := range o.pending {
		size += len(b)
	}
	return size
}

// close ends the connection once what is queued has been written.
func (c *Client) close(code int, reason string) {
	c.queue.Lock()
	if c.queue.closed {
		c.queue.Unlock()
		return
	}
	c.queue.closed = true
	c.queue.after = &closing{code, reason}
	writing := c.queue.writing
	c.queue.Unlock()
	if !writing {
		c.transport.Close(code, reason)
	}
}

// Close ends the connection once what is queued has been written.
func (c *Client) Close(code int, reason string) { c.close(code, reason) }

// isClosing says whether the connection is about to end: what it still sends has
// to be left to the next one, or it would overtake what was not done here.
func (c *Client) isClosing() bool {
	c.queue.Lock()
	defer c.queue.Unlock()
	return c.queue.closed
}

// isBroken says whether the connection ended because nothing could be written to it.
func (c *Client) isBroken() bool {
	c.queue.Lock()
	defer c.queue.Unlock()
	return c.queue.broken
}
