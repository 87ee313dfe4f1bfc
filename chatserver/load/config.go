// Package load puts load on chat servers as their users would, and measures
// what these notice. Messages are sent at times that were fixed before, however
// slow the servers are, and every time is measured from there: a server that
// stalls cannot hide it by being asked less (no coordinated omission). A ledger
// checks that every acknowledged message reached everybody.
//
// It is a client: it knows the protocol and nothing of how servers work.
package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config is a run. cmd/chatload documents each field as a flag, with its default.
type Config struct {
	Tool     string // name and version, for the report
	Scenario string // one of Scenarios

	// Where and who.
	URLs     []string          // of the servers, used in turn
	Metrics  []string          // URLs of their /metrics
	TLS      *tls.Config       // nil: the system's roots
	Resolve  map[string]string // host:port to another host:port, to connect to that instead
	Sources  []netip.Addr      // local addresses, used in turn; none: the system's choice
	Accounts Accounts

	// How much.
	Connections int
	ConnectRate float64 // connections opened a second
	RoomSize    int     // members a room; 0: nobody is in any
	Senders     int     // who send, at most; 0: all that the scenario lets
	Rate        float64 // messages a second, of all senders together
	Size        int     // bytes of a message's text
	Ramp        time.Duration
	Duration    time.Duration
	Settle      time.Duration // how long what is on its way may take at the end

	// Of some scenarios.
	Bystanders int     // churn, storm: members that stay and speak
	Churn      float64 // connections that leave and come back, a second
	Logins     float64 // a second
	Storms     int     // how often all connections are cut

	// Of a sweep: instead of Rate for Duration, each of these for Duration.
	Rates []float64

	Progress io.Writer // a line a second; nil: none
}

// Accounts says as whom the connections are made. One of the ways.
type Accounts struct {
	Register bool          // make an account for each
	Logins   []Credentials // log in
	Tokens   []string      // be logged in already
}

// Credentials are a user's.
type Credentials struct{ User, Password string }

func (c *Config) validate() error {
	switch {
	case len(c.URLs) == 0:
		return errors.New("no server is named: give --url")
	case scenarios[c.Scenario] == nil:
		return fmt.Errorf("there is no scenario %q, but %s", c.Scenario, strings.Join(Scenarios(), ", "))
	case c.Connections < 1:
		return errors.New("there is nobody to connect: give --connections of 1 or more")
	case c.ConnectRate <= 0:
		return errors.New("connections are never opened: give a --connect-rate above 0")
	case c.Rate < 0 || c.Size < 1:
		return errors.New("a rate is 0 or more and a message has 1 byte or more")
	case c.Duration <= 0:
		return errors.New("nothing is measured: give a --duration above 0")
	case slices.ContainsFunc(c.Rates, func(rate float64) bool { return rate <= 0 }):
		return errors.New("the loads of a sweep are above 0")
	}
	return nil
}

// urls are those of the WebSockets.
func (c *Config) urls() ([]*url.URL, error) {
	var all []*url.URL
	for _, text := range c.URLs {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("%q is not the URL of a chat server: write it like https://chat.example.com", text)
		}
		u.Scheme = strings.Replace(u.Scheme, "ws", "http", 1)
		if u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%q: a chat server speaks https or, for tests, http", text)
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/ws"
		}
		all = append(all, u)
	}
	return all, nil
}

// maxSources is how many source addresses a range may have.
const maxSources = 4096

// ParseSources reads an address, or the first and the last of a range, like
// 127.0.0.2-127.0.0.50.
func ParseSources(text string) ([]netip.Addr, error) {
	first, last, isRange := strings.Cut(text, "-")
	from, err := netip.ParseAddr(strings.TrimSpace(first))
	if err != nil {
		return nil, fmt.Errorf("%q is no local address: %w", first, err)
	}
	if !isRange {
		return []netip.Addr{from}, nil
	}
	to, err := netip.ParseAddr(strings.TrimSpace(last))
	if err != nil {
		return nil, fmt.Errorf("%q is no local address: %w", last, err)
	}
	var all []netip.Addr
	for a := from; a.IsValid() && a.Compare(to) <= 0 && a.BitLen() == to.BitLen(); a = a.Next() {
		if all = append(all, a); len(all) > maxSources {
			return nil, fmt.Errorf("%s has more than %d addresses", text, maxSources)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s ends before it begins", text)
	}
	return all, nil
}

// ParseResolve reads host:port=host:port, or host=host:port for every port.
func ParseResolve(text string) (from, to string, err error) {
	from, to, ok := strings.Cut(text, "=")
	if !ok || from == "" {
		return "", "", fmt.Errorf("%q does not say what to connect to: write it like chat.example.com:443=10.0.0.7:8443", text)
	}
	if _, _, err := net.SplitHostPort(to); err != nil {
		return "", "", fmt.Errorf("%q is no host:port: %w", to, err)
	}
	return from, to, nil
}
