package hub

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// crowded is a hub in which as many come and go as may.
func crowded() *Hub {
	h := New(Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, nil, nil)
	for range cap(h.moving) {
		h.moving <- struct{}{}
	}
	return h
}

func TestWaitingInACrowdTakesNoneOfTheTimeForRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := crowded()
		time.AfterFunc(requestTime+time.Second, h.moved)
		if err := h.moveIn(t.Context()); err != nil {
			t.Errorf("a client that waits longer than Redis may take is told: %v", err)
		}
	})
}

func TestAClientWhoseTurnDoesNotComeIsToldWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := crowded().moveIn(context.WithoutCancel(t.Context())); !errors.Is(err, ErrCrowd) {
			t.Errorf("it is told: %v", err)
		}
		if waited := time.Since(began); waited != patienceToCome {
			t.Errorf("after %s", waited)
		}
	})
}
