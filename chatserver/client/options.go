package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// Options say where and as whom to connect.
type Options struct {
	// URL of the service: https://host[:port], or wss:// and the path of the WebSocket.
	URL string
	// TLS verifies the server; nil: the system's roots.
	TLS *tls.Config
	// Dial replaces how TCP connections are made; optional.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Token gives the access token for each connection; see StaticToken and
	// Account.TokenSource.
	Token func(context.Context) (string, error)
	// Rooms are joined from the start.
	Rooms []string
	// Handle gets every event, in order. While it runs nothing is read: a
	// handler that is slow for long makes the server cut the connection, and the
	// client resumes. It may call the client's methods, but not Close.
	Handle func(Event)
	// Received gets every event as it came from the server, those included that
	// the client has had already and does not hand out; optional.
	Received func(protocol.Event)
	// Disconnected is told why a connection ended, before the next try; optional.
	Disconnected func(error)

	// MinBackoff and MaxBackoff bound the wait between two tries to connect;
	// 0: 100 ms and 10 s. Each is drawn at random around a value that doubles.
	MinBackoff, MaxBackoff time.Duration
}

// Event is an event of the server, and what the client knows about it.
type Event struct {
	protocol.Event
	// Gap: messages of the room between the last one handled and this event are
	// lost to this client; they had left the room's log before it came back.
	Gap bool
	// Resent (acks): the message was sent again after a connection broke.
	Resent bool
}

// StaticToken is for a client that ends when its token does.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// The reasons for which a client gives up. Everything else it tries again.
var (
	ErrUnauthorized = errors.New("the token is not valid any more")
	ErrReplaced     = errors.New("the user is logged in elsewhere")
	ErrClosed       = errors.New("the client was closed")
)

func (o *Options) setDefaults() error {
	if o.Token == nil {
		return errors.New("client: Options.Token is missing")
	}
	if o.Handle == nil {
		o.Handle = func(Event) {}
	}
	if o.Received == nil {
		o.Received = func(protocol.Event) {}
	}
	if o.Disconnected == nil {
		o.Disconnected = func(error) {}
	}
	if o.MinBackoff == 0 {
		o.MinBackoff = 100 * time.Millisecond
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = 10 * time.Second
	}
	socket, err := socketURL(o.URL)
	o.URL = socket
	return err
}

// socketURL is where the WebSocket of a service is.
func socketURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("client: %q is not the URL of a chat server: write it like https://chat.example.com", text)
	}
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	if u.Path == "" || u.Path == "/" {
		u.Path = "/ws"
	}
	return u.String(), nil
}
