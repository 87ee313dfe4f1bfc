package load

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// network makes TCP connections, from each source address in turn.
type network struct {
	resolve map[string]string
	dialers []*net.Dialer
	next    atomic.Uint64
}

// connectTimeout is for a TCP connection.
const connectTimeout = 30 * time.Second

func newNetwork(resolve map[string]string, sources []netip.Addr) *network {
	n := &network{resolve: resolve}
	for _, source := range sources {
		local := &net.TCPAddr{IP: source.AsSlice(), Zone: source.Zone()}
		n.dialers = append(n.dialers, &net.Dialer{Timeout: connectTimeout, LocalAddr: local})
	}
	if len(n.dialers) == 0 {
		n.dialers = []*net.Dialer{{Timeout: connectTimeout}}
	}
	return n
}

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	if to, ok := n.resolve[addr]; ok {
		addr = to
	} else if host, _, err := net.SplitHostPort(addr); err == nil {
		if to, ok := n.resolve[host]; ok {
			addr = to
		}
	}
	dialer := n.dialers[n.next.Add(1)%uint64(len(n.dialers))]
	return dialer.DialContext(ctx, "tcp", addr)
}

// http is a client for the calls about accounts.
func (n *network) http(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, addr string) (net.Conn, error) { return n.dial(ctx, addr) },
		TLSClientConfig:     config,
		TLSHandshakeTimeout: connectTimeout,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     30 * time.Second,
	}}
}
