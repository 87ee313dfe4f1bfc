package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// room is how far the client has seen a room it is in.
type room struct {
	epoch  string // "": nothing is known yet
	offset uint64 // of the last message handled
}

// joining is a join that waits for its answer.
type joining struct {
	room     string
	resuming bool
	answered chan error // nil: nobody waits; gets one value
}

// RequestError is the server's refusal of a request.
type RequestError struct {
	Code    string // see the protocol package
	Message string
}

func (e *RequestError) Error() string { return e.Message }

// Join enters a room and stays in it over reconnects. It returns when the
// server has answered, ctx ends or the client does; until then it goes on trying.
func (c *Client) Join(ctx context.Context, name string) error {
	j := &joining{room: name, answered: make(chan error, 1)}
	err := c.request(func() (protocol.Request, error) {
		if c.rooms[name] == nil {
			c.rooms[name] = &room{}
		}
		return c.join(j), nil
	})
	if err != nil {
		return err
	}
	select {
	case err := <-j.answered:
		return err
	case <-ctx.Done():
		return fmt.Errorf("join %s: %w", name, context.Cause(ctx))
	case <-c.done:
		return c.err
	}
}

// Leave leaves a room.
func (c *Client) Leave(name string) {
	_ = c.request(func() (protocol.Request, error) {
		delete(c.rooms, name)
		return protocol.Request{Type: protocol.TypeLeave, Room: name, ID: c.id()}, nil
	})
}

// Ask sends a request of a kind that need not be made up for after a break:
// rooms, who, history, subscribe. The answer is an event like any other. A
// request made while there is no connection is dropped.
func (c *Client) Ask(req protocol.Request) {
	_ = c.request(func() (protocol.Request, error) { return req, nil })
}

// join makes the request of a join, from where the room was left if it was
// known. Callers hold c.mu.
func (c *Client) join(j *joining) protocol.Request {
	r := c.rooms[j.room]
	j.resuming = r.epoch != ""
	id := c.id()
	c.joins[id] = j
	return protocol.Request{Type: protocol.TypeJoin, ID: id, Room: j.room, Epoch: r.epoch, Offset: r.offset}
}

// rejoins makes the joins of a new connection. Joins that a broken connection
// left without an answer are asked again. Callers hold c.mu.
func (c *Client) rejoins() []protocol.Request {
	waiting := make(map[string][]*joining)
	for _, j := range c.joins {
		waiting[j.room] = append(waiting[j.room], j)
	}
	clear(c.joins)
	var requests []protocol.Request
	for name := range c.rooms {
		again := waiting[name]
		if len(again) == 0 {
			again = []*joining{{room: name}}
		}
		for _, j := range again {
			requests = append(requests, c.join(j))
		}
	}
	return requests
}

// receive brings the client up to date with an event and hands it out. An error
// ends the connection.
func (c *Client) receive(e protocol.Event) error {
	c.opts.Received(e)
	c.mu.Lock()
	event, fresh, err := c.note(e)
	c.mu.Unlock()
	if fresh {
		c.opts.Handle(event)
	}
	return err
}

// note says what e means for the client; fresh is false for what was handed out
// before. Callers hold c.mu.
func (c *Client) note(e protocol.Event) (event Event, fresh bool, err error) {
	event = Event{Event: e}
	switch e.Type {
	case protocol.TypeHello:
		select {
		case <-c.first:
		default:
			close(c.first)
		}
	case protocol.TypeMessage, protocol.TypeEdited, protocol.TypeDeleted, protocol.TypeReaction:
		event.Gap, fresh = c.noteEntry(e)
		return event, fresh, nil
	case protocol.TypeLeft:
		c.noteLeft(e)
	case protocol.TypeJoined:
		event.Gap = c.noteJoined(e)
	case protocol.TypeReset:
		event.Gap = true
		if r := c.rooms[e.Room]; r != nil {
			r.epoch, r.offset = e.Epoch, e.Offset
		}
	case protocol.TypeAck:
		event.Resent = c.noteAck(e)
	case protocol.TypeReconnect:
		c.away = max(time.Duration(e.After)*time.Millisecond, 1)
	case protocol.TypeError:
		err = c.noteError(e)
	}
	return event, true, err
}

// noteLeft forgets a room that the client was taken out of.
func (c *Client) noteLeft(e protocol.Event) {
	if e.ID == "" {
		delete(c.rooms, e.Room)
	}
}

// noteEntry moves the room's position. Messages of followed users come from
// rooms the client is not in and have no place in an order.
func (c *Client) noteEntry(e protocol.Event) (gap, fresh bool) {
	if e.Followed || e.Offset == 0 {
		return false, true
	}
	r := c.rooms[e.Room]
	if r == nil {
		// A direct room that somebody opened: the client is in it from now on.
		c.rooms[e.Room] = &room{e.Epoch, e.Offset}
		return false, true
	}
	same := e.Epoch == r.epoch || e.Epoch == ""
	if same && e.Offset <= r.offset {
		return false, false
	}
	// A new epoch continues the one before it, unless a reset came first.
	gap = r.epoch != "" && e.Offset != r.offset+1
	r.offset = e.Offset
	if e.Epoch != "" {
		r.epoch = e.Epoch
	}
	return gap, true
}

func (c *Client) noteJoined(e protocol.Event) (gap bool) {
	j := c.joins[e.ID]
	delete(c.joins, e.ID)
	if j == nil {
		return false
	}
	if j.answered != nil {
		j.answered <- nil
	}
	r := c.rooms[j.room]
	if r == nil || j.resuming && e.Recovered == nil {
		return false // left meanwhile, or it was joined already and the messages tell the position
	}
	r.epoch, r.offset = e.Epoch, e.Offset // of a resume that succeeded: the same offset, perhaps in a new epoch
	return j.resuming && !*e.Recovered
}

// noteError settles the request that was refused. What can be tried again stays
// recorded; an error returned makes a new connection try it.
func (c *Client) noteError(e protocol.Event) error {
	retry := e.Code == protocol.CodeUnavailable || e.Code == protocol.CodeLimit
	refusal := &RequestError{Code: e.Code, Message: e.Message}
	if j := c.joins[e.ID]; j != nil {
		if e.Code == protocol.CodeUnavailable {
			return fmt.Errorf("join %s: %w", j.room, refusal)
		}
		delete(c.joins, e.ID)
		delete(c.rooms, j.room)
		if j.answered != nil {
			j.answered <- refusal
		}
		return nil
	}
	i := slices.IndexFunc(c.pending, func(s *Sent) bool { return s.request.ID == e.ID })
	if i < 0 || retry {
		return nil // a message that can be tried again: the server closes the connection, to keep the order
	}
	c.settle(i, Ack{}, refusal)
	return nil
}
