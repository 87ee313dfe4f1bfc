package web

import (
	"net"

	"github.com/chatcluster/chatcluster/chatserver/handshake"
	"github.com/chatcluster/chatcluster/chatserver/watchdog"
)

// counted bounds the connections of one address, before TLS costs anything.
func (s *Server) counted(ln net.Listener) net.Listener {
	return &countedListener{Listener: ln, server: s}
}

type countedListener struct {
	net.Listener
	server *Server
}

func (l *countedListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := l.server.Addresses.OfConn(nc)
		release, ok := l.server.Addresses.Connect(addr)
		if ok {
			return &countedConn{Socket: watchdog.NewSocket(nc), Turn: l.server.Handshakes.Turn(), release: release}, nil
		}
		l.server.Log.Info("connection refused: its address has as many as it may", "address", addr)
		_ = nc.Close()
	}
}

type countedConn struct {
	*watchdog.Socket
	handshake.Turn
	release func()
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.End()
	return c.Socket.Write(b)
}

func (c *countedConn) Close() error {
	c.End()
	c.release()
	return c.Socket.Close()
}
