// Package handshake has few TLS handshakes compute at a time. When everybody
// reconnects at once, thousands of them would stand in line for the processors, and
// each message of those who are connected behind them all. Here those who come wait
// for one another, and messages wait for few.
//
// It knows TLS and nothing else.
package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"
)

// Gate lets as many handshakes compute at once as it has room for.
type Gate chan struct{}

// NewGate makes a gate for n at once, at least 1.
func NewGate(n int) Gate { return make(Gate, max(n, 1)) }

// Turn is a connection's way through the gate, to be embedded in the net.Conn that
// is handed to crypto/tls. Whoever embeds it calls End when the connection is
// written to, and when it is closed: a handshake computes from when the client's
// first message is read until its answer is written, and from then on waits for
// the client.
type Turn struct {
	gate   Gate
	inside atomic.Bool
}

// Turn makes the turn of one connection.
func (g Gate) Turn() Turn { return Turn{gate: g} }

// waitTime is how long a handshake may wait for its turn.
const waitTime = 10 * time.Second

var errCrowd = errors.New("too many came at once: this handshake has waited too long for its turn")

// begin waits for the turn.
func (t *Turn) begin(ctx context.Context) error {
	late := time.NewTimer(waitTime)
	defer late.Stop()
	select {
	case t.gate <- struct{}{}:
		t.inside.Store(true)
		return nil
	case <-late.C:
		return errCrowd
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// End gives the turn to the next. It costs nothing once it was called.
func (t *Turn) End() {
	if t.inside.Load() && t.inside.CompareAndSwap(true, false) {
		<-t.gate
	}
}

// turn finds the one that a connection embeds.
func (t *Turn) turn() *Turn { return t }

// Config is config for connections that embed a Turn; others do not wait.
func Config(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, ok := hello.Conn.(interface{ turn() *Turn }); ok {
			return nil, c.turn().begin(hello.Context())
		}
		return nil, nil
	}
	return config
}
