package chatserver_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

func TestEveryAnswerTellsBrowsersToBeStrict(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, path := range []string{"/", "/health", "/login", "/ws", "/api/rooms", "/api/openapi.json", "/no/such/path"} {
			resp, _ := call(t, "GET", w.one.url()+path, "")
			for name, value := range map[string]string{
				"Strict-Transport-Security": "max-age=31536000",
				"Content-Security-Policy":   "default-src 'none'; frame-ancestors 'none'",
				"X-Content-Type-Options":    "nosniff",
				"X-Frame-Options":           "DENY",
				"Referrer-Policy":           "no-referrer",
				"Cache-Control":             "no-store",
			} {
				if got := resp.Header.Get(name); got != value {
					t.Errorf("GET %s answers %d with %s: %q, want %q", path, resp.StatusCode, name, got, value)
				}
			}
			if resp.Header.Get("Server") != "" {
				t.Errorf("GET %s tells which program answers", path)
			}
		}
	})
}

func TestAllowedPagesMayUseEveryCall(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			resp, _ := call(t, "OPTIONS", w.one.url()+"/api/rooms/x/messages", "", "Origin", "https://app.example.com",
				"Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type,idempotency-key")
			if !strings.Contains(resp.Header.Get("Access-Control-Allow-Methods"), method) {
				t.Errorf("a page may not %s: %v", method, resp.Header)
			}
			for _, name := range []string{"authorization", "content-type", "idempotency-key"} {
				if !strings.Contains(strings.ToLower(resp.Header.Get("Access-Control-Allow-Headers")), name) {
					t.Errorf("a page may not send %s: %v", name, resp.Header)
				}
			}
			if resp.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("browsers are told to send cookies")
			}
		}
	})
}

func TestProfilesAreOnTheAdminPortOnly(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, path := range []string{
			"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1",
			"/metrics", "/healthz", "/readyz", "/debug/log-level",
		} {
			if resp, _ := call(t, "GET", "http://"+w.one.admin+path, ""); resp.StatusCode != 200 {
				t.Errorf("the admin port answers %s with %d", path, resp.StatusCode)
			}
			if resp, _ := call(t, "GET", w.one.url()+path, ""); resp.StatusCode != 404 {
				t.Errorf("strangers get %d at %s, want 404", resp.StatusCode, path)
			}
		}
	})
}

func TestLongAnswersAreCompressedForWhoCanTakeIt(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		get := func(path, encoding string) (*http.Response, []byte) {
			t.Helper()
			req, err := http.NewRequestWithContext(waiting(t), "GET", w.one.url()+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", encoding) // set by hand, the client does not decompress
			resp, err := browser.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp, body
		}
		_, whole := get("/api/openapi.json", "identity")
		resp, zipped := get("/api/openapi.json", "gzip, br")
		if resp.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(strings.Join(resp.Header.Values("Vary"), ","), "Accept-Encoding") {
			t.Fatalf("a long answer comes with %v", resp.Header)
		}
		if len(zipped) > len(whole)/3 {
			t.Errorf("%d bytes became %d", len(whole), len(zipped))
		}
		r, err := gzip.NewReader(bytes.NewReader(zipped))
		if err != nil {
			t.Fatal(err)
		}
		if unzipped, err := io.ReadAll(r); err != nil || !bytes.Equal(unzipped, whole) {
			t.Errorf("what was compressed is not what was there: %v", err)
		}
		if resp, _ := get("/health", "gzip"); resp.Header.Get("Content-Encoding") != "" {
			t.Error("a short answer was compressed")
		}
	})
}

func TestClientsAreToldApartBehindChainsOfTrustedProxies(t *testing.T) {
	t.Parallel()
	s := run(t, redistest.Standalone(t), "proxied", "--requests-per-hour=1", "--trusted-proxies=127.0.0.0/8,10.0.0.0/8")
	asks := func(forwarded string) int {
		t.Helper()
		resp, _ := call(t, "POST", s.url()+"/login", `{}`, "X-Forwarded-For", forwarded)
		return resp.StatusCode
	}
	for _, c := range []struct {
		forwarded string
		limited   bool
		why       string
	}{
		{"203.0.113.1", false, "the first request of an address"},
		{"203.0.113.1", true, "its second"},
		{"203.0.113.2", false, "another address"},
		{"203.0.113.2, 10.1.2.3", true, "the same through one more trusted proxy"},
		{"198.51.100.7, 203.0.113.2", true, "an address that its client invents a hop before"},
		{"10.9.9.9, 203.0.113.2", true, "one who claims to be a trusted proxy"},
		{"203.0.113.3, 10.1.2.3, 10.4.5.6", false, "a third address through two trusted proxies"},
		{"2001:db8::1", false, "an IPv6 address"},
		{"2001:db8::2", true, "its neighbour, who is the same client"},
		{"2001:db8:0:1::1", false, "another network"},
	} {
		if got := asks(c.forwarded) == http.StatusTooManyRequests; got != c.limited {
			t.Errorf("%s (%s): limited is %v, want %v", c.why, c.forwarded, got, c.limited)
		}
	}
}
