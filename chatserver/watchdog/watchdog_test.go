package watchdog

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

func run(t *testing.T, w *Watchdog) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(t.Context())
	}()
	t.Cleanup(func() { <-done })
}

// owner does what a test wants.
type owner struct {
	silent func(time.Duration)
	resume func()
}

func (o *owner) Silent(_ *Conn, d time.Duration) {
	if o.silent != nil {
		o.silent(d)
	}
}

func (o *owner) Resume() { o.resume() }

func TestBlockedWriteIsCut(t *testing.T) {
	t.Parallel()
	w := New(time.Second)
	run(t, w)
	near, far := net.Pipe() // nobody reads from far: every write blocks
	defer far.Close()
	c := w.Watch(near, nil)
	defer c.Close()

	_, err := c.Write([]byte("x"))
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("write ended with %v, want the connection cut", err)
	}
}

func TestSilenceIsReportedUntilSomethingIsRead(t *testing.T) {
	t.Parallel()
	w := New(time.Minute)
	run(t, w)
	near, far := net.Pipe()
	defer far.Close()
	var silence atomic.Int64
	reports := make(chan struct{}, 100)
	c := w.Watch(near, &owner{silent: func(d time.Duration) {
		silence.Store(int64(d))
		select {
		case reports <- struct{}{}:
		default:
		}
	}})
	defer c.Close()

	for time.Duration(silence.Load()) < 2*Tick {
		<-reports
	}
	go func() { _, _ = far.Write([]byte("x")) }()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for time.Duration(silence.Load()) >= 2*Tick {
		<-reports
	}
}

func TestBuffersArriveJoinedAndWhole(t *testing.T) {
	t.Parallel()
	w := New(time.Minute)
	var sink writes
	c := w.Watch(&sink, nil)
	var want bytes.Buffer
	var bufs net.Buffers
	for i := range 100 {
		part := bytes.Repeat([]byte{byte(i)}, 1+i*7)
		want.Write(part)
		bufs = append(bufs, part)
	}
	if err := c.WriteBuffers(&bufs); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sink.all.Bytes(), want.Bytes()) {
		t.Error("the bytes written are not the bytes given")
	}
	if most := want.Len()/chunk + 1; sink.calls > most {
		t.Errorf("%d writes for %d bytes, want at most %d", sink.calls, want.Len(), most)
	}
}

type writes struct {
	net.Conn
	all   bytes.Buffer
	calls int
}

func (w *writes) Write(p []byte) (int, error) {
	w.calls++
	return w.all.Write(p)
}
