package address

import (
	"log/slog"
	"net/http"
	"net/netip"
	"testing"
)

// Whatever a stranger writes into X-Forwarded-For: without a trusted proxy it says nothing,
// and with one the address is never that proxy's word for something further left.
func FuzzOfRequest(f *testing.F) {
	f.Add("192.0.2.1:1234", "203.0.113.7")
	f.Add("10.0.0.1:1234", "invented, 203.0.113.7, 10.0.0.2")
	f.Add("[::ffff:10.0.0.1]:80", "::1%eth0, [2001:db8::1]:443")
	f.Add("@", ",,,")
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {forwarded}}}
		direct := NewLimits(nil, Options{}, slog.Default())
		if got := direct.OfRequest(r); got != parse(remote) {
			t.Fatalf("with no trusted proxy %q made %s of %s", forwarded, got, remote)
		}
		proxied := NewLimits(nil, Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, slog.Default())
		got, peer := proxied.OfRequest(r), parse(remote)
		if !proxied.trusted(peer) && got != peer {
			t.Fatalf("%s is no proxy, and its %q made it %s", remote, forwarded, got)
		}
		if got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%s is one of several ways to write the address", got)
		}
	})
}
