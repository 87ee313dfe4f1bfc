// Package line is the TLS line protocol of the chat server: one command or
// message a line, for people with nothing but a TLS client at a terminal. It
// turns lines into calls of the account and hub packages.
package line

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/address"
	"github.com/chatcluster/chatcluster/chatserver/handshake"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/watchdog"
)

const (
	handshakeTimeout = 10 * time.Second
	writeTimeout     = 15 * time.Second // for a peer to take what is written at once
)

// Config is what a Server needs; all of it is required.
type Config struct {
	Accounts        *account.Accounts
	Hub             *hub.Hub
	Addresses       *address.Limits
	Handshakes      handshake.Gate // of all TLS listeners
	MaxMessageBytes int            // of a message's text
	LoginTimeout    time.Duration  // to log in after connecting
	IdleTimeout     time.Duration  // a connection on which so long nothing was said either way is closed
	Log             *slog.Logger
}

// Server serves one listener.
type Server struct {
	Config
	watchdog *watchdog.Watchdog
	ctx      context.Context // of all connections
	stop     context.CancelFunc

	mu       sync.Mutex
	listener net.Listener
	closed   bool
	conns    sync.WaitGroup
}

// New makes a Server.
func New(c Config) *Server {
	s := &Server{Config: c, watchdog: watchdog.New(writeTimeout)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Serve answers on ln, whose connections it wraps in TLS 1.3, until Shutdown or Close.
func (s *Server) Serve(ln net.Listener, config *tls.Config) error {
	config = handshake.Config(config)
	config.MinVersion = tls.VersionTLS13
	s.mu.Lock()
	s.listener = ln
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ln.Close()
	}
	go s.watchdog.Run(s.ctx)
	for {
		nc, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			s.Log.Warn("a connection could not be accepted", "error", err)
			if !s.pause() {
				return nil
			}
			continue
		}
		if !s.begin() {
			_ = nc.Close()
			return nil
		}
		go func() {
			defer s.conns.Done()
			s.admit(nc, config)
		}()
	}
}

// pause waits before the next try to accept, which at the limit of open files
// would fail at once again; false if the server ended meanwhile.
func (s *Server) pause() bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(100 * time.Millisecond):
		return true
	}
}

// Shutdown stops accepting. Connections go on: they are the hub's to drain.
func (s *Server) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.listener != nil {
		_ = s.listener.Close()
	}
}

// Close ends everything that is left and returns when its goroutines have.
func (s *Server) Close() {
	s.Shutdown()
	s.watchdog.CutAll()
	s.conns.Wait()
	s.stop()
}

// begin counts one more goroutine, unless the server is closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns.Add(1)
	return true
}

// admit takes a connection as far as TLS and then serves it.
func (s *Server) admit(nc net.Conn, config *tls.Config) {
	addr := s.Addresses.OfConn(nc)
	release, ok := s.Addresses.Connect(addr)
	if !ok {
		s.Log.Info("connection refused: its address has as many as it may", "address", addr)
		_ = nc.Close()
		return
	}
	defer release()
	conn, err := s.handshake(nc, config)
	if err != nil {
		s.Log.Debug("TLS handshake failed", "address", addr, "error", err)
		_ = nc.Close()
		return
	}
	serve(s, conn, addr)
}

func (s *Server) handshake(nc net.Conn, config *tls.Config) (*tls.Conn, error) {
	if err := nc.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	p, err := peek(nc, s.Handshakes)
	if err != nil {
		return nil, err
	}
	if !p.isTLS() {
		refusePlaintext(nc)
		return nil, errors.New("the client speaks no TLS")
	}
	conn := tls.Server(p, config)
	if err := conn.HandshakeContext(s.ctx); err != nil {
		return nil, err
	}
	return conn, nc.SetDeadline(time.Time{})
}
