// Package web is the HTTPS face of the chat server: the calls that make, open
// and end accounts and sessions, those about rooms and messages, and the WebSocket that carries the chat. It
// turns HTTP into calls of the account, chat and hub packages; what a room or a
// message is, it need not know.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/address"
	"github.com/chatcluster/chatcluster/chatserver/handshake"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/notify"
	"github.com/chatcluster/chatcluster/chatserver/watchdog"
)

const (
	headerTimeout = 10 * time.Second // to send a request's headers, the TLS handshake included
	bodyTimeout   = 15 * time.Second // to send a whole request
	answerTimeout = 30 * time.Second // to take the answer
	keepAlive     = 2 * time.Minute  // between two requests of one connection
	writeTimeout  = 15 * time.Second // for a WebSocket's peer to take what is written at once
	maxHeader     = 16 << 10         // bytes
	maxBody       = 8 << 10          // bytes, messages apart; a public key is the largest thing
)

// Config is what a Server needs; all of it is required but Push, Origins, Registerer and Traces.
type Config struct {
	Accounts   *account.Accounts
	Hub        *hub.Hub
	Addresses  *address.Limits
	Handshakes handshake.Gate   // of all TLS listeners
	Push       *notify.Notifier // nil: no notifications
	Origins    []string         // of web pages on other hosts that may use this server, like https://app.example.com
	// DefaultRoom is where WebSocket clients are put that do not ask for protocol.Subprotocol.
	DefaultRoom     string
	MaxMessageBytes int           // of a message's text
	MessagesPer10s  int           // of a user over HTTP, all servers together; 0: no limit
	PingEvery       time.Duration // a peer silent for so long is pinged,
	IdleTimeout     time.Duration // and for so long, cut
	Log             *slog.Logger
	Registerer      prometheus.Registerer
	Traces          trace.TracerProvider // optional
	ErrorTracker    bool                 // errors in Log reach one
}

// Server serves one listener.
type Server struct {
	Config
	origins  origins
	metrics  *metrics
	http     *http.Server
	watchdog *watchdog.Watchdog
	ctx      context.Context // of all WebSocket connections, which outlive the requests that made them
	stop     context.CancelFunc

	mu      sync.Mutex
	closed  bool           // no more goroutines may begin
	sockets sync.WaitGroup // goroutines of WebSocket connections
}

// New makes a Server, or says which origin is none.
func New(c Config) (*Server, error) {
	allowed, err := parseOrigins(c.Origins)
	if err != nil {
		return nil, err
	}
	s := &Server{Config: c, origins: allowed, metrics: newMetrics(c.Registerer), watchdog: watchdog.New(writeTimeout)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug), // strangers' failed handshakes
	}
	return s, nil
}

// Handler answers all requests.
func (s *Server) Handler() http.Handler {
	mux := s.routes()
	return identified(s.traced(s.observed(secured(s.shared(compressed(mux))))))
}

func (s *Server) routes() *routes {
	mux := &routes{ServeMux: http.NewServeMux()}
	s.handleAccounts(mux)
	s.handleChat(mux)
	mux.Handle("GET /api/openapi.json", s.limited(address.API, s.document))
	s.handlePush(mux)
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /ws", s.upgrade)
	if s.ErrorTracker {
		mux.Handle("GET /debug-sentry", s.limited(address.Auth, mistake))
	}
	mux.HandleFunc("GET /{$}", s.root)
	mux.HandleFunc("/", s.nothingHere(mux.ServeMux))
	return mux
}

// Serve answers on ln, whose connections it wraps in TLS, until Shutdown or
// Close. It offers HTTP/1.1 alone: a WebSocket begins by taking the connection
// over, which HTTP/2 has no way to do (its own way, RFC 8441, needs support
// that proxies which re-encrypt often lack), and a proxy that may choose would
// choose HTTP/2.
func (s *Server) Serve(ln net.Listener, config *tls.Config) error {
	config = handshake.Config(config)
	config.NextProtos = []string{"http/1.1"}
	config.DynamicRecordSizingDisabled = true // fan-out writes are small or long: no use in short first records
	return s.serve(tls.NewListener(s.counted(ln), config))
}

// ServePlaintext is Serve without TLS, for what ends TLS on the same machine.
func (s *Server) ServePlaintext(ln net.Listener) error { return s.serve(s.counted(ln)) }

func (s *Server) serve(ln net.Listener) error {
	go s.watchdog.Run(s.ctx)
	err := s.http.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
}

// Shutdown stops accepting and lets the requests under way finish, WebSockets
// aside: those are the hub's to drain.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close ends everything that is left and returns when its goroutines have.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.http.Close()
	s.watchdog.CutAll()
	s.sockets.Wait()
	s.stop()
}

// begin counts one more goroutine, unless the server is closed. Whoever began
// it calls s.sockets.Done at its end.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sockets.Add(1)
	return true
}
