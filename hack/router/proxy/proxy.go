// Package proxy carries connections where a table says: it terminates TLS and
// forwards requests, or passes TLS through unopened. It does not know where the
// table comes from.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/chatcluster/chatcluster/hack/router/table"
)

const (
	dialTimeout   = 5 * time.Second
	headerTimeout = 10 * time.Second // for a client's TLS handshake and request header
	idleTimeout   = 2 * time.Minute  // for a connection without a request
)

// Proxy serves by the table it was given last.
type Proxy struct {
	table    atomic.Pointer[table.Table]
	upstream *transports
	log      *slog.Logger
}

// New returns a Proxy that knows no routes yet.
func New(log *slog.Logger) *Proxy {
	p := &Proxy{upstream: newTransports(), log: log}
	p.table.Store(&table.Table{})
	return p
}

// Use changes to another table. Connections that exist stay as they are; new
// ones, and new requests, go by the new table.
func (p *Proxy) Use(t *table.Table) { p.table.Store(t) }

// ServeHTTPS answers on the listener until the context ends.
func (p *Proxy) ServeHTTPS(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           p.handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          log.New(logWriter{p.log}, "", 0),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if cert, ok := p.table.Load().Certificate(hello.ServerName); ok {
					return cert, nil
				}
				return nil, fmt.Errorf("no certificate for %q", hello.ServerName)
			},
		},
	}
	// Close, not Shutdown: upgraded connections would outlast it anyway.
	defer context.AfterFunc(ctx, func() { server.Close() })()
	err := server.ServeTLS(listener, "", "")
	p.upstream.close()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// destination is where a request goes, found once and kept in its context.
type destination struct{}

func (p *Proxy) handler() http.Handler {
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			backend := r.In.Context().Value(destination{}).(table.Backend)
			scheme := "http"
			if backend.TLS() {
				scheme = "https"
			}
			r.SetURL(&url.URL{Scheme: scheme, Host: backend.Address})
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		Transport:     p.upstream,
		FlushInterval: -1,
		ErrorLog:      log.New(logWriter{p.log}, "", 0),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if !errors.Is(err, context.Canceled) { // the client went away
				p.log.Warn("backend failed", "host", r.Host, "path", r.URL.Path, "error", err)
			}
			http.Error(w, "the backend cannot be reached", http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		backend, problem, ok := p.table.Load().Route(hostOnly(r.Host), r.URL.Path)
		switch {
		case !ok:
			http.Error(w, "no route for this host and path", http.StatusNotFound)
		case problem != "":
			http.Error(w, "the route cannot be served: "+problem, http.StatusServiceUnavailable)
		default:
			reverse.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), destination{}, backend)))
		}
	})
}

func hostOnly(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return hostPort
}

// logWriter gives what net/http logs, which is about single clients, the lowest
// level.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Debug(string(line))
	return len(line), nil
}
