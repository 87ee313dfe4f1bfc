package address

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestClientAddressIsTheLastHopThatNoTrustedProxyWrote(t *testing.T) {
	t.Parallel()
	proxies, err := ParseProxies([]string{"10.0.0.0/8", "192.0.2.7", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	l := NewLimits(nil, Options{TrustedProxies: proxies}, nil)
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                        {"203.0.113.5:4000", nil, "203.0.113.5"},
		"a stranger's header is not read": {"203.0.113.5:4000", []string{"1.1.1.1"}, "203.0.113.5"},
		"one proxy":                       {"10.1.2.3:4000", []string{"203.0.113.5"}, "203.0.113.5"},
		"invented first hop":              {"10.1.2.3:4000", []string{"6.6.6.6, 203.0.113.5"}, "203.0.113.5"},
		"two proxies, two headers":        {"10.1.2.3:4000", []string{"203.0.113.5", "192.0.2.7"}, "203.0.113.5"},
		"hop with a port":                 {"10.1.2.3:4000", []string{"203.0.113.5:9999"}, "203.0.113.5"},
		"IPv6":                            {"[fd00::1]:4000", []string{"2001:db8::1"}, "2001:db8::1"},
		"mapped IPv4":                     {"[::ffff:10.1.2.3]:4000", []string{"203.0.113.5"}, "203.0.113.5"},
		"rubbish":                         {"10.1.2.3:4000", []string{"203.0.113.5, unknown"}, "10.1.2.3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.peer
			r.Header["X-Forwarded-For"] = c.forwarded
			if got := l.OfRequest(r); got != netip.MustParseAddr(c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestConnectionsOfAnAddressAreBounded(t *testing.T) {
	t.Parallel()
	l := NewLimits(nil, Options{ConnectionsAtOnce: 2}, nil)
	alice, bob := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("203.0.113.6")

	release, ok := l.Connect(alice)
	_, ok2 := l.Connect(alice)
	if !ok || !ok2 {
		t.Fatal("the first two connections are within the limit")
	}
	if _, ok := l.Connect(alice); ok {
		t.Error("a third connection was let in")
	}
	if _, ok := l.Connect(bob); !ok {
		t.Error("another address pays for the first one's connections")
	}
	release()
	release() // counts once
	if _, ok := l.Connect(alice); !ok {
		t.Error("a released connection still counts")
	}
	if _, ok := l.Connect(alice); ok {
		t.Error("one connection was released twice")
	}
}

func TestTrustedProxyThatIsNoAddressIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := ParseProxies([]string{"router.example.com"}); err == nil {
		t.Error("a name was accepted as a trusted proxy")
	}
}
