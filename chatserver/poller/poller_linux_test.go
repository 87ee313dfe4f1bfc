package poller_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/poller"
)

func start(t *testing.T) (*poller.Poller, <-chan uint64) {
	t.Helper()
	p, err := poller.New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan uint64, 10_000), make(chan error, 1)
	go func() {
		ended <- p.Run(ctx, func(ids []uint64) {
			for _, id := range ids {
				ready <- id
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p, ready
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func expect(t *testing.T, ready <-chan uint64, id uint64) {
	t.Helper()
	select {
	case got := <-ready:
		if got != id {
			t.Fatalf("%x is ready, want %x", got, id)
		}
	case <-time.After(time.Minute):
		t.Fatal("nothing is ready")
	}
}

func TestWhatIsReadyIsToldOnceForEachTimeItIsAwaited(t *testing.T) {
	t.Parallel()
	p, ready := start(t)
	r, w := pipe(t)
	const id = 0xfedcba9876543210
	for range 3 {
		if err := p.Await(int(r.Fd()), id); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		expect(t, ready, id)
	}
	// Something is still there; awaited again, it is told at once.
	if err := p.Await(int(r.Fd()), id); err != nil {
		t.Fatal(err)
	}
	expect(t, ready, id)
	select {
	case <-ready:
		t.Error("told though nobody awaited it")
	case <-time.After(20 * time.Millisecond):
	}
}

func TestAnEndIsToldToo(t *testing.T) {
	t.Parallel()
	p, ready := start(t)
	r, w := pipe(t)
	if err := p.Await(int(r.Fd()), 7); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	expect(t, ready, 7)
}

func TestManyAreToldAll(t *testing.T) {
	t.Parallel()
	p, ready := start(t)
	const many = 1000
	for id := range uint64(many) {
		r, w := pipe(t)
		if err := p.Await(int(r.Fd()), id); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[uint64]bool{}
	for range many {
		select {
		case id := <-ready:
			seen[id] = true
		case <-time.After(time.Minute):
			t.Fatalf("%d of %d are ready", len(seen), many)
		}
	}
	if len(seen) != many {
		t.Errorf("%d of %d were told, some twice", len(seen), many)
	}
}

func TestAwaitingWhatIsClosedFails(t *testing.T) {
	t.Parallel()
	p, _ := start(t)
	if err := p.Await(-1, 1); err == nil {
		t.Error("no error")
	}
}
