package chatserver_test

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// proxy stands between clients and servers, as a load balancer does, and can do
// what networks do.
type proxy struct {
	ln net.Listener

	mu     sync.Mutex
	to     router
	down   bool
	budget int64 // bytes a direction that a new connection carries before it is cut; 0: no limit
	open   []net.Conn
}

func newProxy(t *testing.T, to router) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.cut()
		wg.Wait()
	})
	return p
}

func (p *proxy) dial(ctx context.Context, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", p.ln.Addr().String())
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	p.mu.Lock()
	to, down, budget := p.to, p.down, p.budget
	p.mu.Unlock()
	if down {
		return
	}
	server, err := to.dial(context.Background(), "")
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	p.mu.Lock()
	p.open = append(p.open, client, server)
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		wg.Go(func() {
			from, to := pair[0], pair[1]
			if budget > 0 {
				_, _ = io.CopyN(to, from, budget)
			} else {
				_, _ = io.Copy(to, from)
			}
			_, _ = client.Close(), server.Close()
		})
	}
	wg.Wait()
	p.mu.Lock()
	p.open = slices.DeleteFunc(p.open, func(c net.Conn) bool { return c == client || c == server })
	p.mu.Unlock()
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close()
	}
}

// lead sends new connections to other servers, or to none.
func (p *proxy) lead(to ...*server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to, p.down = to, len(to) == 0
}

// limit has new connections cut after so many bytes either way.
func (p *proxy) limit(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = bytes
}
