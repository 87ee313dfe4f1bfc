package notify

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

const (
	// pushTTL is how long a push service keeps a notification for a browser that is away.
	pushTTL     = 24 * time.Hour
	maxEndpoint = 1024 // bytes
)

// pusher sends Web Push messages: encrypted for the browser (RFC 8291), signed with the
// service's own key (VAPID, RFC 8292).
type pusher struct {
	public, private string // base64url
	contact         string
	allowPrivate    bool
	client          *http.Client
}

func newPusher(cfg Config, trust *tls.Config) (*pusher, error) {
	if !strings.HasPrefix(cfg.VAPIDContact, "mailto:") && !strings.HasPrefix(cfg.VAPIDContact, "https:") {
		return nil, errors.New("push services want to know whom to ask: set --vapid-contact to a mailto: or https: URL")
	}
	key, err := readVAPIDKey(cfg.VAPIDKeyFile)
	if err != nil {
		return nil, err
	}
	p := &pusher{
		public:  base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
		private: base64.RawURLEncoding.EncodeToString(key.Bytes()),
		contact: strings.TrimPrefix(cfg.VAPIDContact, "mailto:"), allowPrivate: cfg.AllowPrivate,
	}
	dialer := &net.Dialer{Timeout: sendTimeout}
	if !cfg.AllowPrivate {
		// Where it matters: a name that was public when it was checked may be private now.
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return publicOnly(address) }
	}
	// No proxy: it would look names up itself, behind this check.
	p.client = newClient(&http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10,
	})
	return p, nil
}

// readVAPIDKey reads a P-256 key, as openssl writes it.
func readVAPIDKey(file string) (*ecdh.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the VAPID key: %w", err)
	}
	wrong := fmt.Errorf("%s has no P-256 private key in PEM: make one with openssl ecparam -name prime256v1 -genkey -noout", file)
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, wrong
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return p256(key, wrong)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, wrong
	}
	return p256(key, wrong)
}

func p256(key *ecdsa.PrivateKey, wrong error) (*ecdh.PrivateKey, error) {
	k, err := key.ECDH()
	if err != nil || k.Curve() != ecdh.P256() {
		return nil, wrong
	}
	return k, nil
}

// internal are addresses that are not private by name and lead inside all the same: they
// belong to carriers, to tests, or have another address in them.
var internal = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("::/96"),
}

// publicOnly refuses addresses that a stranger must not have this server call.
func publicOnly(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return refusedError{fmt.Errorf("call a push service at %s: %w", address, err)}
	}
	ip := ap.Addr().Unmap()
	bad := !ip.IsGlobalUnicast() || ip.IsPrivate()
	for _, p := range internal {
		bad = bad || p.Contains(ip)
	}
	if bad {
		return refusedError{errors.New("the push service's address is not a public one")}
	}
	return nil
}

// send makes one try.
func (p *pusher) send(ctx context.Context, sub store.Subscription, t task) error {
	resp, err := webpush.SendNotificationWithContext(ctx, t.Body,
		&webpush.Subscription{Endpoint: sub.Endpoint, Keys: webpush.Keys{Auth: sub.Auth, P256dh: sub.P256dh}},
		&webpush.Options{
			HTTPClient: p.client, Subscriber: p.contact, VAPIDPublicKey: p.public, VAPIDPrivateKey: p.private,
			TTL: int(pushTTL.Seconds()), Urgency: webpush.UrgencyHigh,
			// Of what waits for a browser that is away, the newest of each room is enough:
			// it has the count. The push service must not learn the room's name from it.
			Topic: hash(sub.Auth + "/" + t.Room),
		})
	if err != nil {
		return fmt.Errorf("call the push service: %w", private(err))
	}
	defer discard(resp)
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return nil
	case code == http.StatusNotFound, code == http.StatusGone:
		return errGone
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		return laterError{fmt.Errorf("the push service answered %s", resp.Status), retryAfter(resp)}
	default:
		return refusedError{fmt.Errorf("the push service answered %s", resp.Status)}
	}
}

// PublicKey is what browsers subscribe with, base64url; empty: there is no Web Push.
func (n *Notifier) PublicKey() string {
	if n == nil || n.push == nil {
		return ""
	}
	return n.push.public
}

// Check says what is wrong with a subscription, for whoever made it.
func (n *Notifier) Check(sub store.Subscription) error {
	u, err := url.Parse(sub.Endpoint)
	switch {
	case err != nil, u.Scheme != "https", u.Hostname() == "", u.User != nil, len(sub.Endpoint) > maxEndpoint:
		return errors.New("the endpoint has to be the https URL that the browser gave")
	case !n.push.allowPrivate && u.Port() != "" && u.Port() != "443":
		return errors.New("the endpoint has a port that push services do not use")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !n.push.allowPrivate {
		if publicOnly(netip.AddrPortFrom(ip, 443).String()) != nil {
			return errors.New("the endpoint is no public address")
		}
	}
	key, err := decodeKey(sub.P256dh)
	if err == nil {
		_, err = ecdh.P256().NewPublicKey(key)
	}
	if err != nil {
		return errors.New("keys.p256dh has to be the browser's public key, in base64url")
	}
	if auth, err := decodeKey(sub.Auth); err != nil || len(auth) != 16 {
		return errors.New("keys.auth has to be the browser's 16 bytes, in base64url")
	}
	return nil
}

func decodeKey(text string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
}
