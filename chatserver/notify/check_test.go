package notify

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

func TestOnlyPublicAddressesAreCalled(t *testing.T) {
	t.Parallel()
	for address, public := range map[string]bool{
		"93.184.216.34:443": true, "[2606:2800:220:1::1]:443": true,
		"127.0.0.1:443": false, "10.1.2.3:443": false, "192.168.0.1:443": false, "172.16.0.1:443": false,
		"169.254.169.254:443": false, "100.64.0.1:443": false, "0.0.0.0:443": false, "224.0.0.1:443": false,
		"255.255.255.255:443": false, "198.18.0.1:443": false,
		"[::1]:443": false, "[::]:443": false, "[fe80::1]:443": false, "[fd00::1]:443": false,
		"[::ffff:10.0.0.1]:443": false, "[64:ff9b::a00:1]:443": false, "[2002:a00:1::]:443": false, "[::a00:1]:443": false,
		"nonsense": false,
	} {
		if err := publicOnly(address); (err == nil) != public {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestWrongSubscriptionsAreRefused(t *testing.T) {
	t.Parallel()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := store.Subscription{
		Endpoint: "https://push.example.com/x?y=z",
		P256dh:   base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
		Auth:     base64.RawURLEncoding.EncodeToString(make([]byte, 16)),
	}
	n := &Notifier{push: &pusher{}}
	if err := n.Check(good); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for name, spoil := range map[string]func(*store.Subscription){
		"http":        func(s *store.Subscription) { s.Endpoint = "http://push.example.com/x" },
		"no host":     func(s *store.Subscription) { s.Endpoint = "https:///x" },
		"a user":      func(s *store.Subscription) { s.Endpoint = "https://u:p@push.example.com/x" },
		"a port":      func(s *store.Subscription) { s.Endpoint = "https://push.example.com:6379/x" },
		"private":     func(s *store.Subscription) { s.Endpoint = "https://10.0.0.1/x" },
		"private, v6": func(s *store.Subscription) { s.Endpoint = "https://[::1]/x" },
		"no key":      func(s *store.Subscription) { s.P256dh = "" },
		"no point":    func(s *store.Subscription) { s.P256dh = base64.RawURLEncoding.EncodeToString(make([]byte, 65)) },
		"short auth":  func(s *store.Subscription) { s.Auth = "AAAA" },
	} {
		sub := good
		spoil(&sub)
		if n.Check(sub) == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
