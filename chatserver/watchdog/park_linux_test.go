package watchdog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// echo is an owner that sends back what it reads, and is parked in between.
type echo struct {
	conn    *Conn
	resumed chan struct{}
	ended   chan error
}

// parked is an echo that has nothing to read, and the other end of its connection.
func parked(t *testing.T, secure bool) (*echo, net.Conn) {
	t.Helper()
	e := &echo{resumed: make(chan struct{}, 1000), ended: make(chan error, 1)}
	conn, far := ownedPair(t, secure, e)
	for conn.dog.poller.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	e.conn = conn
	e.run()
	select {
	case err := <-e.ended:
		t.Fatalf("a connection on which nothing is said ended: %v", err)
	default:
	}
	if err := far.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return e, far
}

func (e *echo) Silent(*Conn, time.Duration) {}

func (e *echo) Resume() {
	e.resumed <- struct{}{}
	e.run()
}

func (e *echo) run() {
	for {
		b := make([]byte, 10)
		n, err := e.conn.TryRead(b)
		if errors.Is(err, ErrNothing) {
			if e.conn.Park() {
				return
			}
			continue
		}
		if err == nil {
			_, err = e.conn.Write(b[:n])
		}
		if err != nil {
			e.ended <- err
			return
		}
	}
}

func TestAParkedConnectionResumesForEachThingThatIsSaid(t *testing.T) {
	eachKind(t, func(t *testing.T, secure bool) {
		e, far := parked(t, secure)
		for i := range 50 {
			text := fmt.Appendf(nil, "message %d, longer than one read", i)
			if _, err := far.Write(text); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(text))
			if _, err := io.ReadFull(far, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, text) {
				t.Fatalf("%q came back of %q", got, text)
			}
		}
		if len(e.resumed) == 0 {
			t.Error("it was never resumed, so it was never parked")
		}
	})
}

func TestAParkedConnectionResumesAtItsEnd(t *testing.T) {
	for what, end := range map[string]func(*Conn, net.Conn){
		"the peer goes": func(_ *Conn, far net.Conn) { _ = far.Close() },
		"it is cut":     func(c *Conn, _ net.Conn) { c.Cut() },
		"it is closed":  func(c *Conn, _ net.Conn) { _ = c.Close() },
		"all are cut":   func(c *Conn, _ net.Conn) { c.dog.CutAll() },
	} {
		t.Run(what, func(t *testing.T) {
			eachKind(t, func(t *testing.T, secure bool) {
				e, far := parked(t, secure)
				end(e.conn, far)
				select {
				case <-e.ended:
				case <-time.After(time.Minute):
					t.Fatal("nobody was told")
				}
			})
		})
	}
}

func TestAConnectionEndsOnceWhileItIsParkedAndCut(t *testing.T) {
	t.Parallel()
	for range 200 {
		e, far := parked(t, false)
		go func() { _, _ = far.Write([]byte("x")) }()
		e.conn.Cut()
		<-e.ended
		select {
		case <-e.ended:
			t.Fatal("it ended twice")
		case <-time.After(time.Millisecond):
		}
		_, _ = e.conn.Close(), far.Close()
	}
}

func TestWhatWasReadBeforeComesFirst(t *testing.T) {
	t.Parallel()
	c, far := ownedPair(t, false, &echo{})
	c.Unread([]byte("early "))
	if _, err := far.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	n, err := c.TryRead(got)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got[n:]); err != nil || string(got) != "early late" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAConnectionThatIsToWaitIsNotParked(t *testing.T) {
	eachKind(t, func(t *testing.T, secure bool) {
		c, far := ownedPair(t, secure, &echo{})
		c.Wait()
		go func() {
			time.Sleep(20 * time.Millisecond)
			_, _ = far.Write([]byte("x"))
		}()
		if _, err := c.TryRead(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
}
