// Package chatserver puts a chat server together: it opens what the server
// needs, starts the listeners, and on the way out drains in the right order.
// What a chat is lives in the packages below it. It knows nothing of Kubernetes.
package chatserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/errgroup"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/line"
	"github.com/chatcluster/chatcluster/chatserver/notify"
	"github.com/chatcluster/chatcluster/chatserver/store"
	"github.com/chatcluster/chatcluster/chatserver/telemetry/tracing"
	"github.com/chatcluster/chatcluster/chatserver/web"
)

const (
	// drainMargin is what the end may take beyond the drain window: the last
	// clients closing, and goodbye to Redis.
	drainMargin = 5 * time.Second
	requestTime = 5 * time.Second // for HTTP requests under way to finish

	// pingEvery is below the minute after which many proxies drop a connection
	// on which nothing moves.
	pingEvery = 25 * time.Second

	lineLoginTimeout = time.Minute // to log in on the line protocol
	lineIdleTimeout  = time.Hour   // of a line connection on which nothing is said either way
)

// Server is one chat server: New, then Run once.
type Server struct {
	config  Config
	log     *slog.Logger
	metrics *prometheus.Registry
	keys    *auth.Keys
	seeds   []seed
	tls     *certificate
	lineTLS *certificate
	notify  *notify.Notifier         // nil: nobody is notified
	traces  *sdktrace.TracerProvider // nil: nobody collects them

	https, line, adminLn net.Listener // line and adminLn may be nil

	chat atomic.Pointer[chat] // nil until Redis was reached
}

// chat is what there is once Redis was reached.
type chat struct {
	store *store.Store
	hub   *hub.Hub
	web   *web.Server
	line  *line.Server
}

// New reads all files and binds all addresses, so that what is wrong with the
// configuration is said at once. Nothing is served before Run.
func New(c Config) (*Server, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.LogLevel == nil {
		c.LogLevel = new(slog.LevelVar)
	}
	s := &Server{config: c, log: c.Log, metrics: prometheus.NewRegistry()}
	for _, step := range []func() error{s.loadKeys, s.loadSeeds, s.loadCertificates, s.loadNotifier, s.startTracing, s.listen} {
		if err := step(); err != nil {
			s.closeListeners()
			return nil, err
		}
	}
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(c.Version, c.NodeID))
	if !c.Plaintext {
		s.metrics.MustRegister(expiry("https", s.tls))
	}
	if s.lineTLS != s.tls || c.Plaintext && s.line != nil {
		s.metrics.MustRegister(expiry("line", s.lineTLS))
	}
	return s, nil
}

func (s *Server) loadKeys() (err error) {
	if s.config.TokenKeysDir == "" {
		s.keys = auth.RandomKeys()
		return nil
	}
	s.keys, err = auth.LoadKeys(s.config.TokenKeysDir)
	return err
}

func (s *Server) loadSeeds() (err error) {
	if s.config.UsersFile != "" {
		s.seeds, err = readSeeds(s.config.UsersFile)
	}
	if s.config.DemoUsers {
		s.seeds = append(s.seeds, demoSeeds...)
	}
	return err
}

func (s *Server) loadCertificates() (err error) {
	if s.config.TLS.Cert == "" {
		s.tls, err = selfSigned()
	} else {
		s.tls, err = loadCertificate(s.config.TLS)
	}
	s.lineTLS = s.tls
	if err == nil && s.config.LineTLS.Cert != "" {
		s.lineTLS, err = loadCertificate(s.config.LineTLS)
	}
	return err
}

func (s *Server) loadNotifier() (err error) {
	c := s.config.Notify
	if !c.Enabled() {
		return nil
	}
	c.Log, c.Registerer = s.log, s.metrics
	s.notify, err = notify.New(c)
	return err
}

func (s *Server) startTracing() (err error) {
	o := s.config.Traces
	if o.Endpoint == "" {
		return nil
	}
	o.Service, o.Version, o.Instance, o.Log = "chatserver", s.config.Version, s.config.NodeID, s.log
	s.traces, err = tracing.Start(context.Background(), o)
	return err
}

// tracer makes spans; nil without a collector.
func (s *Server) tracer() trace.TracerProvider {
	if s.traces == nil {
		return nil
	}
	return s.traces
}

// endTracing sends what is left.
func (s *Server) endTracing() {
	if s.traces == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainMargin)
	defer cancel()
	_ = s.traces.Shutdown(ctx) // it told the log what it could not send
}

func (s *Server) listen() error {
	for _, l := range []struct {
		what, addr string
		into       *net.Listener
	}{
		{"HTTPS", s.config.Listen, &s.https},
		{"the line protocol", s.config.LineListen, &s.line},
		{"administration", s.config.AdminListen, &s.adminLn},
	} {
		if l.addr == "" {
			continue
		}
		ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", l.addr)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", l.what, err)
		}
		*l.into = ln
	}
	return s.guardPlaintext()
}

// guardPlaintext refuses to offer passwords and messages to the network unencrypted. It
// looks at the address that was bound: a name can stand for any.
func (s *Server) guardPlaintext() error {
	if !s.config.Plaintext {
		return nil
	}
	bound, ok := s.https.Addr().(*net.TCPAddr)
	if ok && bound.IP.IsLoopback() {
		return nil
	}
	if !s.config.PlaintextExposed {
		return fmt.Errorf("--plaintext on %s would let other machines see passwords and messages: listen on 127.0.0.1, or set --plaintext-exposed if the network between is trusted", s.https.Addr())
	}
	s.log.Warn("serving without TLS where other machines can reach it: whoever is on the way reads passwords and messages", "address", s.Addr())
	return nil
}

func (s *Server) closeListeners() {
	for _, ln := range []net.Listener{s.https, s.line, s.adminLn} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

// Addr is where HTTPS is served.
func (s *Server) Addr() string { return addr(s.https) }

// LineAddr is where the line protocol is served; empty if it is not.
func (s *Server) LineAddr() string { return addr(s.line) }

// AdminAddr is where probes are answered; empty if they are not.
func (s *Server) AdminAddr() string { return addr(s.adminLn) }

func addr(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	return ln.Addr().String()
}

// Run serves until ctx ends, then drains, and returns nil if all went well.
func (s *Server) Run(ctx context.Context) error {
	defer s.closeListeners()
	defer s.endTracing()
	// What serves outlives ctx: it ends when the drain has.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, life := errgroup.WithContext(life)
	serving, stop := context.WithCancel(ctx) // ends with ctx, or when a part fails
	defer stop()
	context.AfterFunc(life, stop)

	g.Go(func() error { return s.serveAdmin(life) })
	g.Go(func() error { return s.keys.Watch(life, s.log) })
	for _, c := range []*certificate{s.tls, s.lineTLS} {
		if c.files.Cert != "" {
			g.Go(func() error { c.watch(life, s.log); return nil })
		}
	}
	g.Go(func() error {
		defer end()
		return s.serveChat(serving, life, g)
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) serveAdmin(life context.Context) error {
	if s.adminLn == nil {
		return nil
	}
	admin := s.admin()
	stop := context.AfterFunc(life, func() { _ = admin.Close() })
	defer stop()
	if err := admin.Serve(s.adminLn); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve administration: %w", err)
	}
	return nil
}

// serveChat serves until serving ends, then drains. Parts that it needs to the
// very end run in g until life ends.
func (s *Server) serveChat(serving, life context.Context, g *errgroup.Group) error {
	st, err := s.openStore(serving, life)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	c, err := s.assemble(st)
	if err != nil {
		return err
	}
	// Should a part of the server fail, life ends, and these are still needed to drain.
	hubLife, endHub := context.WithCancel(context.WithoutCancel(life))
	defer endHub()
	hubDone := make(chan struct{})
	g.Go(func() error {
		defer close(hubDone)
		return c.hub.Run(hubLife)
	})
	notifyLife, endNotify := context.WithCancel(context.WithoutCancel(life))
	defer endNotify()
	notifyDone := make(chan struct{})
	g.Go(func() error {
		defer close(notifyDone)
		if s.notify != nil {
			s.notify.Run(notifyLife, st)
		}
		return nil
	})
	if err := s.plantSeeds(serving, c.store); err != nil {
		return err
	}
	s.chat.Store(c)
	g.Go(func() error {
		if s.config.Plaintext {
			return c.web.ServePlaintext(s.https)
		}
		return c.web.Serve(s.https, s.tls.config())
	})
	if s.line != nil {
		g.Go(func() error { return c.line.Serve(s.line, s.lineTLS.config()) })
	}
	s.log.Info("serving", "https", s.Addr(), "line", s.LineAddr(), "admin", s.AdminAddr(), "node", s.config.NodeID)
	<-serving.Done()
	s.drain(c)
	endHub()
	endNotify()
	<-hubDone
	<-notifyDone
	s.goodbye(c)
	return nil
}

// drain ends the chat in an order that loses nothing: no new clients, then the
// present ones are sent to other servers, then what is left is closed.
func (s *Server) drain(c *chat) {
	s.log.Info("going away: clients are sent to other servers", "window", s.config.DrainWindow)
	ctx, cancel := context.WithTimeout(context.Background(), s.config.DrainWindow+drainMargin)
	defer cancel()
	c.line.Shutdown()
	requests := make(chan struct{})
	go func() {
		defer close(requests)
		bounded, cancel := context.WithTimeout(ctx, requestTime)
		defer cancel()
		_ = c.web.Shutdown(bounded) // what does not finish is cut by Close below
	}()
	c.hub.Drain(ctx)
	<-requests
	// Side by side: with Redis gone, each may wait for its last clients to leave it.
	var closing sync.WaitGroup
	closing.Go(c.web.Close)
	closing.Go(c.line.Close)
	closing.Wait()
}

// goodbye ends this server in Redis. The hub, and with it the heartbeat, has
// ended: one that was under way would bring it back.
func (s *Server) goodbye(c *chat) {
	ctx, cancel := context.WithTimeout(context.Background(), drainMargin)
	defer cancel()
	if err := c.store.Goodbye(ctx); err != nil {
		s.log.Warn("other servers take this one for crashed for a moment: goodbye did not reach Redis", "error", err)
	}
}

// plantSeeds makes the accounts of the users file, however long Redis is away meanwhile.
func (s *Server) plantSeeds(ctx context.Context, st *store.Store) error {
	passwords := auth.NewPasswords(bcrypt.DefaultCost, 1)
	for _, seed := range s.seeds {
		what := "make the account " + seed.user
		if err := s.persist(ctx, what, func() error { return seed.plant(ctx, st, passwords) }); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// persist does what needs Redis until it is done or ctx ends.
func (s *Server) persist(ctx context.Context, what string, do func() error) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 2*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, do() },
		backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, in time.Duration) {
			s.log.Warn("Redis cannot be used yet; trying again", "to", what, "in", in, "error", err)
		}))
	return err
}

// ready says whether new clients should come here, or why not. Redis is not asked:
// the heartbeat and the relay's probes have, and a probe of the kubelet's that waits
// for a hung Redis ends without the reason.
func (s *Server) ready() error {
	c := s.chat.Load()
	if c == nil {
		return errors.New("still starting: Redis was not reached yet, or the accounts of the users file are not made; the log tells what is tried again")
	}
	return c.hub.Healthy()
}
