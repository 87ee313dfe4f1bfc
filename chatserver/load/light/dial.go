// Package light is the client side of a WebSocket for programs that hold very
// many of them: one goroutine reads, frames are looked at where they lie in the
// connection's buffer, and nothing is kept that is not needed. It knows nothing
// of chat. Whoever wants a comfortable client takes chatserver/client.
package light

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the WebSocket handshake is defined with it (RFC 6455, 1.3)
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Dialer makes connections. Its fields may be shared by all of them.
type Dialer struct {
	TLS *tls.Config // for https and wss; nil: the system's roots
	// NetDial makes the TCP connection to host:port; nil: the usual way.
	NetDial func(ctx context.Context, addr string) (net.Conn, error)
}

// Refused is an HTTP answer in the place of a handshake.
type Refused struct {
	Status     int
	Message    string        // the server's sentence, if it gave one
	RetryAfter time.Duration // 0: not given
}

func (r *Refused) Error() string {
	if r.Message == "" {
		return fmt.Sprintf("refused with %d %s", r.Status, http.StatusText(r.Status))
	}
	return fmt.Sprintf("refused with %d: %s", r.Status, r.Message)
}

// bufferSize is that of a connection's only buffer, in bytes. Most events fit
// many times; a longer frame is read past it.
const bufferSize = 4096

// Dial connects to a http, https, ws or wss URL with a request that has the
// header. ctx bounds the handshake only. The error is *Refused if the server
// answered and did not want to.
func (d *Dialer) Dial(ctx context.Context, u *url.URL, header http.Header) (*Conn, error) {
	nc, err := d.connect(ctx, u)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	br := bufio.NewReaderSize(nc, bufferSize)
	err = handshake(nc, br, u, header)
	if !stop() {
		err = fmt.Errorf("connect to %s: %w", u.Host, context.Cause(ctx))
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	c := &Conn{nc: nc, br: br}
	c.heard.Store(time.Now().UnixNano())
	return c, nil
}

func (d *Dialer) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	secure := u.Scheme == "https" || u.Scheme == "wss"
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), map[bool]string{true: "443", false: "80"}[secure])
	}
	dial := d.NetDial
	if dial == nil {
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	nc, err := dial(ctx, addr)
	if err != nil || !secure {
		return nc, err
	}
	config := d.TLS.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	config.NextProtos = []string{"http/1.1"}
	secured := tls.Client(nc, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", u.Host, err)
	}
	return secured, nil
}

func handshake(nc net.Conn, br *bufio.Reader, u *url.URL, header http.Header) error {
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	key := base64.StdEncoding.EncodeToString(nonce)
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: maps.Clone(header)}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", key)
	if err := req.Write(nc); err != nil {
		return fmt.Errorf("ask %s for a WebSocket: %w", u.Host, err)
	}
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", u.Host, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return refused(resp)
	}
	_ = resp.Body.Close()
	if resp.Header.Get("Sec-WebSocket-Accept") != accept(key) {
		return errors.New("the server's handshake does not answer ours: a cache or proxy stands between")
	}
	return nil
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	return base64.StdEncoding.EncodeToString(sum[:])
}

func refused(resp *http.Response) *Refused {
	defer func() { _ = resp.Body.Close() }()
	r := &Refused{Status: resp.StatusCode}
	var body struct{ Message string }
	if json.NewDecoder(io.LimitReader(resp.Body, bufferSize)).Decode(&body) == nil {
		r.Message = body.Message
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.RetryAfter = time.Duration(seconds) * time.Second
	}
	return r
}
