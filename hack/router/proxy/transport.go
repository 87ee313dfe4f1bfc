package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/chatcluster/chatcluster/hack/router/table"
)

// transports keeps connections to each backend for the next request. Backends
// are few, and one that nobody asks for any more has only idle connections,
// which end by themselves.
type transports struct {
	mu   sync.Mutex
	each map[table.Backend]*http.Transport // guarded by mu
}

func newTransports() *transports { return &transports{each: map[table.Backend]*http.Transport{}} }

// RoundTrip sends a request to the backend that its context names.
func (t *transports) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.to(r.Context().Value(destination{}).(table.Backend)).RoundTrip(r)
}

func (t *transports) to(b table.Backend) *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	transport, ok := t.each[b]
	if !ok {
		transport = newTransport(b)
		t.each[b] = transport
	}
	return transport
}

func (t *transports) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, transport := range t.each {
		transport.CloseIdleConnections()
	}
}

func newTransport(b table.Backend) *http.Transport {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true, // pass on what the backend says
	}
	if b.TLS() {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(b.CA))
		// Without HTTP/2, because WebSockets are upgraded from HTTP/1.1.
		transport.TLSClientConfig = &tls.Config{ServerName: b.ServerName, RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return transport
}
