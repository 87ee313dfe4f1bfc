package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// webhook posts notifications to the operator's own service, signed as
// standardwebhooks.com says: there are libraries in many languages that verify it.
type webhook struct {
	url        string
	secretFile string
	client     *http.Client
}

func newWebhook(cfg Config, trust *tls.Config) (*webhook, error) {
	u, err := url.Parse(cfg.WebhookURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("--webhook-url: %w", err)
	case u.Host == "", u.Scheme != "https" && (u.Scheme != "http" || !thisMachine(u.Hostname())):
		return nil, errors.New("--webhook-url has to begin with https://, or with http:// and an address of this machine")
	}
	w := &webhook{cfg.WebhookURL, cfg.WebhookSecretFile, newClient(&http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: atOnce, IdleConnTimeout: time.Minute,
	})}
	_, err = w.secret()
	return w, err
}

func thisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// secret reads the file anew, so that a rotated secret needs no restart.
func (w *webhook) secret() ([]byte, error) {
	text, err := os.ReadFile(w.secretFile)
	if err != nil {
		return nil, fmt.Errorf("read the webhook's secret: %w; set --webhook-secret-file", err)
	}
	text = bytes.TrimSpace(text)
	if encoded, ok := bytes.CutPrefix(text, []byte("whsec_")); ok {
		if text, err = base64.StdEncoding.DecodeString(string(encoded)); err != nil {
			return nil, fmt.Errorf("the webhook's secret in %s: what follows whsec_ is no base64", w.secretFile)
		}
	}
	if len(text) < 24 {
		return nil, fmt.Errorf("the webhook's secret in %s is too short: use 24 bytes or more", w.secretFile)
	}
	return text, nil
}

func (w *webhook) send(ctx context.Context, id string, body []byte) error {
	secret, err := w.secret()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the webhook's request: %w", err)
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "chatcluster")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", sign(secret, id, at, body))
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("call the webhook: %w", private(err))
	}
	defer discard(resp)
	if resp.StatusCode/100 == 2 {
		return nil
	}
	// Every other answer is tried again: one's own service that is just being set right
	// answers anything.
	return laterError{fmt.Errorf("the webhook answered %s", resp.Status), retryAfter(resp)}
}

func sign(secret []byte, id, at string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// newClient follows no redirects: what is signed or encrypted for one receiver is not
// another's, and a redirect could lead to an address that was never checked.
func newClient(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// private takes the URL out of an error: a subscription's is a secret of its user's.
func private(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// discard lets the connection be used again, unless the answer is a long one.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 16<<10)
	_ = resp.Body.Close()
}

func retryAfter(resp *http.Response) time.Duration {
	text := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(max(0, min(seconds, 86400))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
