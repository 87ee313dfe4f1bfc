package memory

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestOnlyAQuietProcessIsCollected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allocated, held uint64
		want            bool
	}{
		"one that allocates nothing":                     {0, 100 << 20, true},
		"one that allocates little for its size":         {20 << 20, 100 << 20, true},
		"one that allocates its size again and again":    {300 << 20, 100 << 20, false},
		"a small one that allocates what is much for it": {20 << 20, 25 << 20, false},
	} {
		before := sample{allocated: 1 << 30, held: c.held}
		if got := quiet(before, sample{before.allocated + c.allocated, c.held}); got != c.want {
			t.Errorf("%s: quiet is %v", name, got)
		}
	}
}

func TestMemoryIsGivenBackAgainOnlyWhenThereIsMoreOfIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		least, held uint64
		want        bool
	}{
		"at first":                      {0, 20 << 20, true},
		"with nothing new":              {100 << 20, 100 << 20, false},
		"with a little more":            {100 << 20, 108 << 20, false},
		"with a good deal more":         {100 << 20, 130 << 20, true},
		"with little more, but of less": {10 << 20, 13 << 20, false},
	} {
		if got := worthwhile(c.least, sample{held: c.held}); got != c.want {
			t.Errorf("%s: worthwhile is %v", name, got)
		}
	}
}

// Not parallel: it looks at what the whole process holds.
func TestAQuietProcessGivesBackWhatItDoesNotNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); GiveBack(ctx) }()
		waste := make([][]byte, 64)
		for i := range waste {
			waste[i] = make([]byte, 1<<20)
		}
		held := look().held
		if held < 64<<20 {
			t.Fatalf("%d bytes are held with 64 MiB in use", held)
		}
		clear(waste)
		time.Sleep(3 * lookEvery) // of the bubble's time: none
		synctest.Wait()
		if now := look().held; now > held-48<<20 {
			t.Errorf("%d bytes are held, of %d before 64 MiB became garbage", now, held)
		}
		stop()
		<-done
	})
}
