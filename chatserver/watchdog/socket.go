package watchdog

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
)

// Socket is an accepted connection that can be written to without waiting. A
// listener makes it, and TLS, if there is any, goes on top of it.
type Socket struct {
	net.Conn
	raw syscall.RawConn // nil: the connection only knows how to wait

	tries bool // Read does not wait; the reader's alone

	// A TLS connection has to finish a record that it began. So what the network
	// does not take at once is kept here, a record or so, and written by a
	// goroutine that lives as long as that takes. With that no write of the TLS
	// connection ever waits, those that a peer causes by a key update included:
	// one that waits holds a lock that the next one wants.
	mu     sync.Mutex
	keeps  bool // Write never waits; set once, by Watch
	rest   []byte
	err    error
	drains chan struct{} // closed when rest is written; nil: there is none
}

// NewSocket is nc, made so that it can be written to without waiting.
func NewSocket(nc net.Conn) *Socket { return &Socket{Conn: nc, raw: rawConn(nc)} }

func (s *Socket) socket() *Socket { return s }

// socketOf finds the socket below a connection; nil if there is none.
func socketOf(nc net.Conn) *Socket {
	t, secure := nc.(*tls.Conn)
	if secure {
		nc = t.NetConn()
	}
	holder, ok := nc.(interface{ socket() *Socket })
	if !ok || holder.socket().raw == nil {
		return nil
	}
	s := holder.socket()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keeps = secure
	return s
}

// errNothing is what reading finds where nothing is, and ends nothing: crypto/tls
// takes it for a temporary failure, after which it goes on where it was.
type errNothing struct{}

func (errNothing) Error() string   { return "there is nothing to read now" }
func (errNothing) Timeout() bool   { return false }
func (errNothing) Temporary() bool { return true }

// ErrNothing says that there was nothing to read.
var ErrNothing net.Error = errNothing{}

func (s *Socket) Read(p []byte) (int, error) {
	if s.tries {
		return tryRead(s.raw, p)
	}
	return s.Conn.Read(p)
}

func (s *Socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	if !s.keeps {
		s.mu.Unlock()
		return s.Conn.Write(p)
	}
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	n := 0
	if s.drains == nil {
		var err error
		if n, err = tryWrite(s.raw, p); err != nil {
			return n, err
		}
	}
	if n < len(p) {
		s.rest = append(s.rest, p[n:]...)
		if s.drains == nil {
			s.drains = make(chan struct{})
			go s.drain()
		}
	}
	return len(p), nil
}

// drain writes the rest, and what joins it meanwhile. The connection's idle time,
// or whoever waits for the end, bounds it.
func (s *Socket) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.rest) > 0 && s.err == nil {
		rest := s.rest
		s.rest = nil
		s.mu.Unlock()
		_, err := s.Conn.Write(rest)
		s.mu.Lock()
		s.err = err
	}
	close(s.drains)
	s.drains, s.rest = nil, nil
}

// full says whether a write would be kept instead of written.
func (s *Socket) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drains != nil
}

// settle waits until nothing is kept any more.
func (s *Socket) settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.drains != nil {
		drained := s.drains
		s.mu.Unlock()
		<-drained
		s.mu.Lock()
	}
	return s.err
}
