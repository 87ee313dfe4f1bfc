//go:build linux

package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// baseline is what one writes first, and what coder/websocket's own example of a
// chat does: a goroutine and a channel a member, and a loop of Conn.Write with a
// timeout each. It has one room, no Redis, no log, no acknowledgements and no
// authentication, and encodes a message once for all, so all that it is worse at
// is writing.
type baseline struct {
	mu      sync.Mutex
	offset  uint64
	members map[chan []byte]struct{}
}

// serveBaseline serves on a port of its own, which it prints, until it is killed.
func serveBaseline() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stderr).Encode(serving{Msg: "serving", HTTPS: ln.Addr().String()}); err != nil {
		return err
	}
	b := &baseline{members: map[chan []byte]struct{}{}}
	return (&http.Server{Handler: b, ReadHeaderTimeout: patience}).Serve(ln)
}

func (b *baseline) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocol.Subprotocol}})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	messages := make(chan []byte, 1024)
	b.mu.Lock()
	b.members[messages] = struct{}{}
	b.mu.Unlock()
	defer b.leave(messages)
	go write(c, messages)
	for {
		_, frame, err := c.Read(context.Background())
		if err != nil {
			return
		}
		if req, err := protocol.ParseJSON(frame); err == nil {
			b.publish(req)
		}
	}
}

func write(c *websocket.Conn, messages <-chan []byte) {
	for m := range messages {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := c.Write(ctx, websocket.MessageText, m)
		cancel()
		if err != nil {
			_ = c.CloseNow()
			return
		}
	}
}

func (b *baseline) publish(req protocol.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offset++
	e := protocol.Event{
		Type: protocol.TypeMessage, ID: req.ID, Room: "fanout", Username: "member_00000", Message: req.Message,
		Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), Epoch: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Offset: b.offset,
	}
	frame := e.AppendJSON(nil)
	for messages := range b.members {
		messages <- frame // where the example drops a slow member, this waits: nothing is lost
	}
}

func (b *baseline) leave(messages chan []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.members, messages)
	close(messages)
}
