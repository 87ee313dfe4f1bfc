// Package table turns the cluster's Ingresses and Gateway API objects into one
// table of what to do with a connection, and into the statuses that tell their
// owners what came of them. It is pure: it neither reads the API nor opens a
// connection.
package table

import (
	"crypto/tls"
	"strings"
)

// Table says where requests and connections go.
type Table struct {
	certificates map[string]*tls.Certificate // by host, or "*." and a domain
	paths        map[string][]path           // by host in the same way, or "" for any; longest path first
	lines        map[string]Backend          // passed through, by host in the same way
}

// Backend is where a request goes on to. It can be compared, so that what is
// kept for a backend stays when only others change.
type Backend struct {
	Address string // host and port
	// ServerName and CA (PEM) verify the backend's certificate; without a
	// ServerName the backend speaks plain HTTP.
	ServerName string
	CA         string
}

// TLS tells whether the backend speaks TLS.
func (b Backend) TLS() bool { return b.ServerName != "" }

// path is one path of a host. With a problem in place of a backend, requests are
// answered with an error instead of going to whoever is next.
type path struct {
	prefix  string
	exact   bool
	backend Backend
	problem string
}

// Certificate finds the certificate for a server name.
func (t *Table) Certificate(serverName string) (*tls.Certificate, bool) {
	return lookup(t.certificates, serverName, oneLabel)
}

// Route finds the backend for a request. ok is false if nobody wants the
// request; problem tells if somebody does but cannot have it.
func (t *Table) Route(host, urlPath string) (b Backend, problem string, ok bool) {
	for _, paths := range candidates(t.paths, host) {
		for _, p := range paths {
			if p.matches(urlPath) {
				return p.backend, p.problem, true
			}
		}
	}
	return Backend{}, "", false
}

// Line finds the backend to which a TLS connection is passed unopened.
func (t *Table) Line(serverName string) (Backend, bool) {
	return lookup(t.lines, serverName, anyLabels)
}

// matches compares by whole elements: the prefix /foo matches /foo and /foo/bar,
// not /foobar.
func (p path) matches(urlPath string) bool {
	if p.exact {
		return urlPath == p.prefix
	}
	prefix := strings.TrimSuffix(p.prefix, "/")
	rest, ok := strings.CutPrefix(urlPath, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// span says for how many labels of a name a wildcard may stand.
type span int

const (
	oneLabel  span = 1    // as in certificates
	anyLabels span = 1000 // as in routes: one or more
)

// wildcards lists the wildcard names that cover a host, the closest first.
func wildcards(host string, limit span) []string {
	var names []string
	for i := 0; i < int(limit); i++ {
		_, domain, ok := strings.Cut(host, ".")
		if !ok {
			break
		}
		names = append(names, "*."+domain)
		host = domain
	}
	return names
}

func lookup[V any](m map[string]V, host string, limit span) (V, bool) {
	host = strings.ToLower(host)
	for _, name := range append([]string{host}, wildcards(host, limit)...) {
		if v, ok := m[name]; ok {
			return v, true
		}
	}
	var none V
	return none, false
}

// candidates lists what is routed for a host: by its own name, by wildcards, and
// for any host, in this order.
func candidates(m map[string][]path, host string) [][]path {
	host = strings.ToLower(host)
	names := append([]string{host}, wildcards(host, anyLabels)...)
	var found [][]path
	for _, n := range append(names, "") {
		if paths, ok := m[n]; ok {
			found = append(found, paths)
		}
	}
	return found
}
