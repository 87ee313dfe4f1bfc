package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// maxPending is how many messages may wait for their acknowledgement, those that
// wait to be written included.
const maxPending = 4096

// ErrTooMany is what sends fail with that are too far ahead of the server.
var ErrTooMany = errors.New("too many messages wait for their acknowledgement")

// Ack is where an acknowledged message is: in the room's log, for good.
type Ack struct {
	ID     string
	Room   string
	Epoch  string
	Offset uint64
	// Duplicate: an earlier try had arrived, though its acknowledgement had not.
	Duplicate bool
}

// Sent is a message on its way.
type Sent struct {
	request protocol.Request
	written bool // to some connection
	resent  bool // to more than one
	done    chan struct{}
	ack     Ack   // read after done
	err     error // read after done
}

// ID is the message's own, the same in each try and in the message event.
func (s *Sent) ID() string { return s.request.ID }

// Done is closed when the message was acknowledged or cannot be sent.
func (s *Sent) Done() <-chan struct{} { return s.done }

// Wait waits for the acknowledgement.
func (s *Sent) Wait(ctx context.Context) (Ack, error) {
	select {
	case <-s.done:
		return s.ack, s.err
	case <-ctx.Done():
		return Ack{}, fmt.Errorf("wait for the acknowledgement of %s: %w", s.request.ID, context.Cause(ctx))
	}
}

// Post sends text to a room and does not wait. Messages of one caller arrive in
// the order they were posted in, across reconnects too.
func (c *Client) Post(room, text string) (*Sent, error) {
	return c.post(protocol.Request{Type: protocol.TypeMessage, Room: room, Message: text})
}

// PostDirect is Post to a user.
func (c *Client) PostDirect(user, text string) (*Sent, error) {
	return c.post(protocol.Request{Type: protocol.TypeDirect, To: user, Message: text})
}

// Send is Post and Wait.
func (c *Client) Send(ctx context.Context, room, text string) (Ack, error) {
	s, err := c.Post(room, text)
	if err != nil {
		return Ack{}, err
	}
	return s.Wait(ctx)
}

func (c *Client) post(req protocol.Request) (*Sent, error) {
	req.ID = rand.Text()
	s := &Sent{request: req, done: make(chan struct{})}
	if err := c.enqueue(s); err != nil {
		return nil, err
	}
	c.pump()
	return s, nil
}

func (c *Client) enqueue(s *Sent) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return c.err
	case len(c.pending) >= maxPending:
		return ErrTooMany
	}
	c.nextSeq++
	s.request.Series, s.request.Seq = c.series, c.nextSeq
	c.pending = append(c.pending, s)
	return nil
}

// unwritten is the oldest message that may be written now and was not yet; nil
// if there is none. Callers hold c.mu.
func (c *Client) unwritten() *Sent {
	for _, s := range c.pending[:min(len(c.pending), protocol.MaxUnacknowledged)] {
		if !s.written {
			return s
		}
	}
	return nil
}

// noteAck settles an acknowledged message. Callers hold c.mu.
func (c *Client) noteAck(e protocol.Event) (resent bool) {
	i := slices.IndexFunc(c.pending, func(s *Sent) bool { return s.request.ID == e.ID })
	if i < 0 {
		return false
	}
	resent = c.pending[i].resent
	c.settle(i, Ack{ID: e.ID, Room: e.Room, Epoch: e.Epoch, Offset: e.Offset, Duplicate: e.Duplicate}, nil)
	return resent
}

// settle ends the wait for pending message i. Callers hold c.mu.
func (c *Client) settle(i int, ack Ack, err error) {
	s := c.pending[i]
	c.pending = slices.Delete(c.pending, i, i+1)
	s.ack, s.err = ack, err
	close(s.done)
}

// abandon ends all waits when the client has ended.
func (c *Client) abandon(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended, c.err = true, err
	for len(c.pending) > 0 {
		c.settle(0, Ack{}, err)
	}
}
