package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/ledger"
	"github.com/chatcluster/chatcluster/chatserver/load/light"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// user is one of the people: a connection, and another one when it ends. It does
// what the protocol asks of a client: it remembers how far it has seen each
// room, resumes there, and sends again, under the same id and in the same order,
// what was not acknowledged.
type user struct {
	run     *run
	index   int
	seat    seat
	account *account

	// Of the goroutine that reads.
	member   *ledger.Member // made when the server has said who this is
	places   []place        // a room each
	attempts int
	after    time.Duration // how long the server asked to stay away
	cut      time.Time     // when we cut the last connection; zero: it is made up for, or was none

	mu      sync.Mutex
	conn    *light.Conn // nil: none that messages can be written to
	pending []*message  // written and not acknowledged, oldest first
	queue   []*message  // to be written
	writing bool        // write is running
	leaving *leave      // what ends the present connection, if it is us
	in      bool        // in all of its rooms
}

// place is how far a user has seen a room.
type place struct {
	room   string
	epoch  string // "": it was never in it
	offset uint64
	joined bool      // on the present connection
	since  time.Time // it was
}

// leave is why a connection is ended from here.
type leave struct {
	cut   time.Time     // zero: it was done politely
	pause time.Duration // before the next one
}

// message is one of those to be sent.
type message struct {
	request protocol.Request
	phase   int
	due     time.Time
	sent    bool // at least once
	prompt  bool // nothing but this program stands between it and the wire
}

const (
	minPause    = 100 * time.Millisecond // between two attempts to connect, doubled each time
	maxPause    = 5 * time.Second
	attemptTime = 30 * time.Second // for a connection and its handshakes
	cutWithout  = 1006             // close code of a connection that ended without one
)

// live keeps the user connected, from when it is due until ctx ends.
func (u *user) live(ctx context.Context, due time.Time) {
	pause := minPause
	for {
		greeted, err := u.connect(ctx, due)
		left := u.disconnected()
		if ctx.Err() != nil {
			return
		}
		if greeted {
			pause = minPause
		}
		rest := pause
		pause = min(2*pause, maxPause)
		if left != nil {
			rest = left.pause
			u.cut = left.cut
		} else {
			asked, hopeless := u.ended(greeted, err)
			if hopeless {
				u.run.hopeless.Add(1)
				return
			}
			if asked > 0 {
				rest = asked
			}
		}
		due = time.Now().Add(rest)
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
	}
}

// ended notes how a connection, or the attempt at one, ended. It says how long
// the server asked to wait before the next, 0 if it did not, and whether there
// is no use in one.
func (u *user) ended(greeted bool, err error) (asked time.Duration, hopeless bool) {
	var refused *light.Refused
	var closed *light.Closed
	wasRefused, wasClosed := errors.As(err, &refused), errors.As(err, &closed)
	switch {
	case !greeted:
		u.run.failed(err)
	case wasClosed:
		u.run.closed(closed.Code)
	default:
		u.run.closed(cutWithout)
	}
	if wasRefused && refused.Status == http.StatusUnauthorized || wasClosed && closed.Code == protocol.CloseUnauthorized {
		hopeless = !u.account.renewable()
	}
	asked, u.after = u.after, 0
	if wasRefused {
		asked = max(asked, refused.RetryAfter)
	}
	return asked, hopeless
}

// connect makes one connection and reads it until it ends.
func (u *user) connect(ctx context.Context, due time.Time) (greeted bool, err error) {
	conn, err := u.dial(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Abort()
	stop := context.AfterFunc(ctx, func() { conn.Close(protocol.CloseNormal) })
	defer stop()
	u.run.watch(conn)
	defer u.run.unwatch(conn)
	for {
		frame, err := conn.Next()
		if err != nil {
			return greeted, err
		}
		e, err := u.run.memo.read(frame)
		if err != nil {
			return greeted, err
		}
		if e.Type == protocol.TypeHello {
			greeted = true
			u.run.now().connect.Record(u.index, time.Since(due))
			if err := u.greeted(conn, e); err != nil {
				return true, err
			}
			continue
		}
		if err := u.receive(e, len(frame)); err != nil {
			return greeted, err
		}
	}
}

func (u *user) dial(ctx context.Context) (*light.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	token, err := u.account.access(ctx)
	if err != nil {
		return nil, err
	}
	target := u.run.urls[(u.index+u.attempts)%len(u.run.urls)]
	u.attempts++
	return u.run.dialer.Dial(ctx, target, http.Header{
		"Authorization": {"Bearer " + token}, "Sec-WebSocket-Protocol": {protocol.Subprotocol},
	})
}

// greeted joins all rooms, and opens the way for messages: those that were not
// acknowledged come first, in their order.
func (u *user) greeted(conn *light.Conn, hello *event) error {
	if u.member == nil {
		u.account.User = hello.Username
		u.member = u.run.ledger.Member(hello.Username)
	}
	var frames []byte
	for i := range u.places {
		p := &u.places[i]
		p.joined = false
		text, err := json.Marshal(protocol.Request{
			Type: protocol.TypeJoin, ID: strconv.Itoa(i), Room: p.room, Epoch: p.epoch, Offset: p.offset,
		})
		if err != nil {
			return fmt.Errorf("write a join: %w", err)
		}
		frames = light.AppendText(frames, text)
	}
	if len(frames) > 0 {
		if err := conn.Write(frames); err != nil {
			return err
		}
	}
	u.mu.Lock()
	u.conn = conn
	u.mu.Unlock()
	if len(u.places) == 0 {
		u.arrived()
	}
	u.flush()
	return nil
}

// disconnected puts what was not acknowledged before what was not sent.
func (u *user) disconnected() *leave {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.conn = nil
	u.queue = append(u.pending, u.queue...)
	u.pending = nil
	for _, m := range u.queue {
		m.prompt = false
	}
	if u.in {
		u.in = false
		u.run.inside.Add(-1)
	}
	left := u.leaving
	u.leaving = nil
	return left
}

// receive does what an event asks for. An error ends the connection.
func (u *user) receive(e *event, size int) error {
	switch e.Type {
	case protocol.TypeMessage, protocol.TypeEdited, protocol.TypeDeleted, protocol.TypeReaction:
		u.heard(e, size)
	case protocol.TypeAck:
		u.member.Observe(e.Event)
		u.acknowledged(e)
	case protocol.TypeJoined:
		u.member.Observe(e.Event)
		u.joined(e)
	case protocol.TypeReset:
		u.member.Observe(e.Event)
		if p := u.place(e.Room); p != nil {
			p.epoch, p.offset = e.Epoch, e.Offset
		}
	case protocol.TypeReconnect:
		u.after = max(time.Duration(e.After)*time.Millisecond, 1)
	case protocol.TypeError:
		return u.refused(e)
	}
	return nil
}

func (u *user) place(room string) *place {
	for i := range u.places {
		if u.places[i].room == room {
			return &u.places[i]
		}
	}
	return nil
}

func (u *user) heard(e *event, size int) {
	if e.Followed || e.Offset == 0 {
		return
	}
	u.member.Saw(e.Room, e.Epoch, e.Offset, e.Username, e.ID)
	now := u.run.now()
	now.delivered.Add(1)
	now.bytes.Add(int64(size))
	p := u.place(e.Room)
	if p == nil {
		return
	}
	if e.Epoch != p.epoch || e.Offset > p.offset {
		p.epoch, p.offset = e.Epoch, e.Offset
	}
	if !e.ours {
		return
	}
	of, late := u.run.phases[e.phase], time.Since(e.due)
	if e.due.Before(p.since) {
		of.resumed.Record(u.index, late)
	} else {
		of.delivery.Record(u.index, late)
	}
}

func (u *user) joined(e *event) {
	p := u.place(e.Room)
	if p == nil || p.joined {
		return
	}
	if p.epoch == "" || e.Recovered != nil {
		p.epoch, p.offset = e.Epoch, e.Offset
	}
	p.joined, p.since = true, time.Now()
	for i := range u.places {
		if !u.places[i].joined {
			return
		}
	}
	u.arrived()
}

// arrived is when the user is in all of its rooms.
func (u *user) arrived() {
	if !u.cut.IsZero() {
		u.run.now().back.Record(u.index, time.Since(u.cut))
		u.cut = time.Time{}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.in {
		u.in = true
		u.run.inside.Add(1)
	}
}

// refused settles what the server does not do. What can be tried again is,
// on the next connection, which the server is about to make necessary.
func (u *user) refused(e *event) error {
	u.run.problem(fmt.Sprintf("%s: %s", e.Code, e.Message))
	again := e.Code == protocol.CodeUnavailable || e.Code == protocol.CodeLimit
	if _, _, ours := u.run.memo.parseID(e.ID); !ours {
		if again && e.ID != "" {
			return fmt.Errorf("a room could not be joined: %s", e.Message)
		}
		return nil
	}
	if !again {
		u.settle(e.ID)
		u.run.refused.Add(1)
		u.flush()
	}
	return nil
}

func (u *user) acknowledged(e *event) {
	m := u.settle(e.ID)
	if m == nil {
		return
	}
	now := u.run.now()
	now.acked.Add(1)
	u.run.phases[m.phase].response.Record(u.index, time.Since(m.due))
	u.flush()
}

// settle takes a message from those that wait for an acknowledgement; nil if it
// is none of them.
func (u *user) settle(id string) *message {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, m := range u.pending {
		if m.request.ID == id {
			u.pending = append(u.pending[:i], u.pending[i+1:]...)
			return m
		}
	}
	return nil
}

// post has a message sent.
func (u *user) post(m *message) {
	u.mu.Lock()
	m.prompt = u.mayWrite() && len(u.queue) == 0
	u.queue = append(u.queue, m)
	u.mu.Unlock()
	u.flush()
}

// flush sees to it that what can be written is.
func (u *user) flush() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.writing && len(u.queue) > 0 && u.mayWrite() {
		u.writing = true
		go u.write()
	}
}

// mayWrite says whether a message can be written now. More than the server
// remembers must not wait for an acknowledgement. Callers hold u.mu.
func (u *user) mayWrite() bool {
	return u.conn != nil && len(u.pending) < protocol.MaxUnacknowledged
}

// write writes messages as long as there are some that can be written.
func (u *user) write() {
	for {
		conn, batch := u.batch()
		if conn == nil {
			return
		}
		frames, err := framesOf(batch)
		if err == nil {
			err = conn.Write(frames)
		}
		if err != nil {
			conn.Abort() // the next connection makes up for it
		}
	}
}

// batch takes what can be written; no connection if nothing can.
func (u *user) batch() (*light.Conn, []*message) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.mayWrite() || len(u.queue) == 0 {
		u.writing = false
		return nil, nil
	}
	n := min(len(u.queue), protocol.MaxUnacknowledged-len(u.pending))
	batch := u.queue[:n:n]
	u.queue = u.queue[n:]
	u.pending = append(u.pending, batch...)
	of := u.run.now()
	for _, m := range batch {
		if m.prompt {
			m.prompt = false
			of.lag.Record(u.index, time.Since(m.due))
		}
		if !m.sent {
			m.sent = true
			of.sent.Add(1)
		}
	}
	return u.conn, batch
}

func framesOf(batch []*message) (frames []byte, err error) {
	for _, m := range batch {
		text, err := json.Marshal(m.request)
		if err != nil {
			return nil, fmt.Errorf("write a message: %w", err)
		}
		frames = light.AppendText(frames, text)
	}
	return frames, nil
}

// waiting is how many messages were not written, and how many not acknowledged.
func (u *user) waiting() (queued, pending int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.queue), len(u.pending)
}

// leave ends the connection, politely or not, and stays away for a while. It is
// false if there is none to end.
func (u *user) leave(polite bool, pause time.Duration) bool {
	u.mu.Lock()
	conn := u.conn
	if conn == nil || u.leaving != nil {
		u.mu.Unlock()
		return false
	}
	u.leaving = &leave{pause: pause}
	if !polite {
		u.leaving.cut = time.Now()
	}
	u.mu.Unlock()
	if polite {
		conn.Close(protocol.CloseNormal)
	} else {
		conn.Abort()
	}
	return true
}
