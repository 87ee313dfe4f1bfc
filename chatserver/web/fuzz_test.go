package web

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// FuzzToken is about what a handshake says: the token, and the subprotocol to answer with,
// which has to be one that was offered.
func FuzzToken(f *testing.F) {
	f.Add("Bearer abc", "chatcluster.v1", "token=x")
	f.Add("", "chatcluster.v1, bearer.abc", "")
	f.Add("bearer ", "bearer.,\r\nx: y", "token=%zz&token=")
	f.Fuzz(func(t *testing.T, authorization, offered, query string) {
		r := &http.Request{
			Header: http.Header{"Authorization": {authorization}, "Sec-Websocket-Protocol": {offered}},
			URL:    &url.URL{RawQuery: query},
		}
		text, sub := token(r)
		if sub != "" && (!slices.Contains(subprotocols(r), sub) || protocol.BearerPrefix+text != sub) {
			t.Fatalf("the token %q is said to be in %q, of %q", text, sub, offered)
		}
	})
}

// FuzzOrigin: no Origin but the server's own and those listed gets in.
func FuzzOrigin(f *testing.F) {
	f.Add("https://app.example.com", "chat.example.com")
	f.Add("https://chat.example.com", "chat.example.com")
	f.Add("null", "chat.example.com")
	f.Add("https://app.example.com.evil.example", "")
	f.Add("https://app.example.com@evil.example", "x")
	f.Fuzz(func(t *testing.T, origin, host string) {
		allowed, err := parseOrigins([]string{"https://app.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Host: host, Header: http.Header{"Origin": {origin}}}
		if origin == "" || !allowed.allow(r) {
			return
		}
		u, err := url.Parse(origin)
		if err != nil {
			t.Fatalf("%q is no URL, and is let in", origin)
		}
		if !strings.EqualFold(u.Host, host) && !strings.EqualFold(u.Scheme+"://"+u.Host, "https://app.example.com") {
			t.Fatalf("a page of %q is let in to %q", origin, host)
		}
	})
}

// FuzzCall is about all that the calls of rooms and messages read: the path's words, the
// query and the body.
func FuzzCall(f *testing.F) {
	f.Add(uint8(18), "room", "7", "limit=10&before=3", `{"message":"hello","id":"1"}`)
	f.Add(uint8(20), "room", "18446744073709551616", "limit=-1", `{"message":7}`)
	f.Add(uint8(1), "", "0", "name=a&name=b", `{"retention":{"messages":1e99}}`)
	f.Add(uint8(18), "r", "1", "", `{"series":"s","seq":0}{}`)
	s := &Server{Config: Config{MaxMessageBytes: 4096, Log: slog.New(slog.DiscardHandler)}}
	f.Fuzz(func(t *testing.T, which uint8, room, offset, query, body string) {
		op := operations[int(which)%len(operations)]
		r := httptest.NewRequest(op.method, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.URL.RawQuery = query
		r.SetPathValue("room", room)
		r.SetPathValue("offset", offset)
		w := httptest.NewRecorder()
		var req protocol.Request
		if !s.readUpTo(int64(s.maxFrame()), w, r, &req) {
			if w.Code < 400 || w.Code > 499 {
				t.Fatalf("the body %q is refused with %d", body, w.Code)
			}
			return
		}
		if op.complete(&req, r) != nil {
			return
		}
		if req.Type != op.request || room != "" && req.Room != room {
			t.Fatalf("%s %s became %+v: the body has its way over the path", op.method, op.path, req)
		}
		if len(req.ID) > protocol.MaxID || len(req.Series) > protocol.MaxID {
			t.Fatalf("ids of %d and %d bytes were taken", len(req.ID), len(req.Series))
		}
	})
}
