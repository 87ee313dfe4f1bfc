// Package client is a Go client of a chat server, over both of its protocols.
//
// Client speaks JSON over WebSocket and survives its connection: it remembers
// how far it has seen each room, connects again with back-off, resumes there,
// and sends again, under the same id, what was not acknowledged. What it hands
// out is each room's messages in order, none twice, and a mark where some are
// missing. Line speaks the line protocol as a person at a terminal would.
//
// It depends on the protocol package only and must know nothing of the server.
package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/coder/websocket"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

const (
	dialTimeout  = 15 * time.Second // for a connection and its handshakes
	writeTimeout = 15 * time.Second // for one request to be taken by the network
	pingEvery    = 20 * time.Second
	pingTimeout  = 10 * time.Second
	steady       = 10 * time.Second // a connection that lasted so long was a good one: back-off starts anew
	maxEvent     = 8 << 20          // bytes of an event; a page of history is the largest
)

// Client is one user's connection, remade whenever it breaks. Its methods may
// be called from any goroutine.
type Client struct {
	opts   Options
	http   *http.Client
	cancel context.CancelCauseFunc
	series string        // of the messages it sends
	first  chan struct{} // closed when the first connection was greeted
	done   chan struct{} // closed when run has ended
	err    error         // why; set before done is closed

	writing sync.Mutex // held while writing, so that requests leave in the order they were recorded in

	mu      sync.Mutex
	ended   bool            // nothing more can be sent
	conn    *websocket.Conn // nil while there is none
	nextID  uint64
	nextSeq uint64
	rooms   map[string]*room
	joins   map[string]*joining // waiting for an answer, by the request's ID
	pending []*Sent             // not acknowledged, in the order they were sent
	away    time.Duration       // how long the server asked to wait before connecting again
}

// Dial connects, joins the rooms and returns when the server has greeted the
// client. It retries as the client will later, until ctx ends or there is no
// use. ctx bounds this call only; the client lives until Close.
func Dial(ctx context.Context, o Options) (*Client, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	life, cancel := context.WithCancelCause(context.Background())
	c := &Client{
		opts: o, http: httpClient(o), cancel: cancel, series: rand.Text(),
		first: make(chan struct{}), done: make(chan struct{}),
		rooms: make(map[string]*room), joins: make(map[string]*joining),
	}
	for _, name := range o.Rooms {
		c.rooms[name] = &room{}
	}
	go func() {
		defer close(c.done)
		err := c.run(life)
		cancel(err)
		c.abandon(err)
	}()
	select {
	case <-c.first:
		return c, nil
	case <-c.done:
		return nil, c.err
	case <-ctx.Done():
		_ = c.Close()
		return nil, fmt.Errorf("connect to %s: %w", o.URL, context.Cause(ctx))
	}
}

// Close ends the client and returns when no handler runs any more. Messages
// that were not acknowledged may have been sent or not.
func (c *Client) Close() error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		_ = conn.Close(websocket.StatusNormalClosure, "") // before cancel, which would cut it
	}
	c.cancel(ErrClosed)
	<-c.done
	return nil
}

// Done is closed when the client has given up or was closed; Err says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the client ended; nil while it lives.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// run keeps the client connected until there is no use or ctx ends.
func (c *Client) run(ctx context.Context) error {
	wait := &backoff.ExponentialBackOff{
		InitialInterval: c.opts.MinBackoff, MaxInterval: c.opts.MaxBackoff,
		Multiplier: 2, RandomizationFactor: 0.5,
	}
	wait.Reset()
	for {
		began := time.Now()
		err := c.connect(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.opts.Disconnected(err)
		if final := hopeless(err); final != nil {
			return final
		}
		if time.Since(began) > steady {
			wait.Reset()
		}
		pause := wait.NextBackOff()
		if away := c.takeAway(); away > 0 {
			pause = away
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// hopeless gives the reason for not trying again, if err is one.
func hopeless(err error) error {
	switch int(websocket.CloseStatus(err)) {
	case protocol.CloseUnauthorized:
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	case protocol.CloseReplaced:
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	var status *StatusError
	if !errors.As(err, &status) {
		return nil
	}
	switch status.Status {
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound:
		return err
	}
	return nil
}

// connect makes one connection and reads it until it ends.
func (c *Client) connect(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxEvent)
	ctx, cancel := context.WithCancel(ctx)
	var pinging sync.WaitGroup
	pinging.Go(func() { ping(ctx, conn) })
	defer pinging.Wait()
	defer cancel()
	defer c.disconnected()
	if err := c.resume(ctx, conn); err != nil {
		return err
	}
	c.pump()
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var e protocol.Event
		if err := json.Unmarshal(frame, &e); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		if err := c.receive(e); err != nil {
			return err
		}
		if e.Type == protocol.TypeAck || e.Type == protocol.TypeError {
			c.pump()
		}
	}
}

func (c *Client) dial(ctx context.Context) (*websocket.Conn, error) {
	token, err := c.opts.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a token: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	//nolint:bodyclose // Dial leaves no body to close but that of a refusal, which statusError reads
	conn, resp, err := websocket.Dial(ctx, c.opts.URL, &websocket.DialOptions{
		HTTPClient:   c.http,
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + token}},
		Subprotocols: []string{protocol.Subprotocol},
	})
	if err != nil && resp != nil {
		return nil, statusError(resp)
	}
	return conn, err
}

// ping closes the connection when the server does not answer: a machine that
// is gone says nothing.
func ping(ctx context.Context, conn *websocket.Conn) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		bounded, cancel := context.WithTimeout(ctx, pingTimeout)
		err := conn.Ping(bounded)
		cancel()
		if err != nil {
			_ = conn.CloseNow()
			return
		}
	}
}

// resume joins all rooms where the client left off and sends again what was not
// acknowledged, before anything new is sent.
func (c *Client) resume(ctx context.Context, conn *websocket.Conn) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	requests := c.rejoins()
	for _, s := range c.pending {
		s.resent = s.resent || s.written
		s.written = false
	}
	c.mu.Unlock()
	for _, req := range requests {
		if err := write(ctx, conn, req); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	return nil
}

// pump writes the messages that wait, oldest first, while the server remembers
// enough of them to tell a message that is sent again from a new one.
func (c *Client) pump() {
	c.writing.Lock()
	defer c.writing.Unlock()
	for {
		c.mu.Lock()
		conn, s := c.conn, c.unwritten()
		if conn == nil || s == nil {
			c.mu.Unlock()
			return
		}
		s.written = true
		c.mu.Unlock()
		if write(context.Background(), conn, s.request) != nil {
			_ = conn.CloseNow() // the next connection makes up for it
			return
		}
	}
}

// request records something under c.mu and then writes req, if there is a
// connection; if not, what was recorded has it made up for at the next one.
// A write that fails ends the connection, so the same is true then.
func (c *Client) request(record func() (protocol.Request, error)) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	req, err := record()
	conn := c.conn
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if conn != nil && write(context.Background(), conn, req) != nil {
		_ = conn.CloseNow()
	}
	return nil
}

func write(ctx context.Context, conn *websocket.Conn, req protocol.Request) error {
	frame, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, frame)
}

func (c *Client) disconnected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = nil
}

func (c *Client) takeAway() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	away := c.away
	c.away = 0
	return away
}

// id makes an ID for a request. Callers hold c.mu.
func (c *Client) id() string {
	c.nextID++
	return fmt.Sprintf("r%d", c.nextID)
}

func httpClient(o Options) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = o.TLS
	if o.Dial != nil {
		transport.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) { return o.Dial(ctx, addr) }
	}
	return &http.Client{Transport: transport}
}
