// Package address decides who a request or connection comes from, and how much
// one address may ask for: requests, counted for all servers together, and
// connections, counted on this one.
package address

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

// Limits holds what is allowed and what is in use. A limit of 0 is none.
type Limits struct {
	counters    *store.Store
	log         *slog.Logger
	proxies     []netip.Prefix
	requests    map[Limit]int // in its window, an address
	connections int           // at once, an address, on this server

	mu   sync.Mutex
	open map[netip.Addr]int // connections; an address without any has no entry
}

// Options are the limits to keep.
type Options struct {
	TrustedProxies    []netip.Prefix // their X-Forwarded-For is believed, and they themselves are not limited
	RequestsPerHour   int            // of the limit Plain
	AuthPerMinute     int            // of the limit Auth
	APIPerMinute      int            // of the limit API
	ConnectionsAtOnce int
}

// Limit is one of the counts that are kept of an address's requests. Each is for
// the calls of one kind of client, which count in no other: a client of one
// kind never meets the limit that another kind was written for.
type Limit string

// The limits.
const (
	Plain Limit = "requests" // register, login and logout of plain clients and terminals, an hour
	Auth  Limit = "auth"     // calls of /api that cost a password hash, a minute
	API   Limit = "api"      // all other calls of /api, a minute
)

func (l Limit) window() time.Duration {
	if l == Plain {
		return time.Hour
	}
	return time.Minute
}

// NewLimits counts requests in counters.
func NewLimits(counters *store.Store, o Options, log *slog.Logger) *Limits {
	return &Limits{
		counters:    counters,
		log:         log,
		proxies:     o.TrustedProxies,
		requests:    map[Limit]int{Plain: o.RequestsPerHour, Auth: o.AuthPerMinute, API: o.APIPerMinute},
		connections: o.ConnectionsAtOnce,
		open:        make(map[netip.Addr]int),
	}
}

// ParseProxies reads CIDRs and single addresses.
func ParseProxies(texts []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("trusted proxy %q is neither an address nor a CIDR like 10.0.0.0/8", text)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

// OfConn is the address at the other end of a connection; the zero Addr where
// there is none (a pipe), or where it is a trusted proxy's, which says nothing
// about who is behind it.
func (l *Limits) OfConn(c net.Conn) netip.Addr {
	addr := parse(c.RemoteAddr().String())
	if l.trusted(addr) {
		return netip.Addr{}
	}
	return addr
}

// OfRequest is the address of the client that made r: the peer's own, or, as
// long as that is a trusted proxy, the last one in X-Forwarded-For that is not.
// What stands further left was written by the client and may be invented.
func (l *Limits) OfRequest(r *http.Request) netip.Addr {
	addr := parse(r.RemoteAddr)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && l.trusted(addr); i-- {
		next := parse(strings.TrimSpace(hops[i]))
		if !next.IsValid() {
			break
		}
		addr = next
	}
	return addr
}

// Proxied says whether r came through a trusted proxy, whose headers are believed.
func (l *Limits) Proxied(r *http.Request) bool { return l.trusted(parse(r.RemoteAddr)) }

// parse reads "address" or "address:port"; the zero Addr if it is neither.
func parse(text string) netip.Addr {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func (l *Limits) trusted(addr netip.Addr) bool {
	for _, prefix := range l.proxies {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Allow counts one request from addr against a limit. If it is one too many, ok
// is false and retry says when the next is allowed. When Redis cannot be asked
// the request is let through: what it wants needs Redis too and will say so.
func (l *Limits) Allow(ctx context.Context, limit Limit, addr netip.Addr) (retry time.Duration, ok bool) {
	if l.requests[limit] == 0 || !addr.IsValid() {
		return 0, true
	}
	ok, retry, err := l.counters.Allow(ctx, string(limit)+":"+Network(addr), l.requests[limit], limit.window())
	if err != nil {
		l.log.WarnContext(ctx, "requests are not limited while Redis does not answer", "error", err)
		return 0, true
	}
	return retry, ok
}

// Connect counts one connection from addr until release is called. If it is
// one too many, ok is false and there is nothing to release.
func (l *Limits) Connect(addr netip.Addr) (release func(), ok bool) {
	if l.connections == 0 || !addr.IsValid() {
		return func() {}, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[addr] >= l.connections {
		return nil, false
	}
	l.open[addr]++
	return sync.OnceFunc(func() { l.disconnect(addr) }), true
}

func (l *Limits) disconnect(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[addr]--; l.open[addr] == 0 {
		delete(l.open, addr)
	}
}

// Network is what is counted as one client: an IPv4 address, or the /64 that an
// IPv6 client has to itself.
func Network(addr netip.Addr) string {
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return prefix.String()
}
