package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/chatcluster/chatcluster/chatserver/telemetry"
)

// origins are the web pages of other hosts that may use this server.
type origins map[string]bool

func parseOrigins(texts []string) (origins, error) {
	o := make(origins, len(texts))
	for _, text := range texts {
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" || u.Host == "" || strings.TrimSuffix(u.Path, "/") != "" {
			return nil, fmt.Errorf("%q is no origin: write it like https://app.example.com", text)
		}
		o[canonical(u)] = true
	}
	return o, nil
}

// CheckOrigins says which of the texts is no origin.
func CheckOrigins(texts []string) error {
	_, err := parseOrigins(texts)
	return err
}

func canonical(u *url.URL) string {
	return strings.ToLower(u.Scheme + "://" + u.Host)
}

// allow tells whether the page that made r may. A request without Origin comes
// from a program, not from a page that its user might not trust.
func (o origins) allow(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	return strings.EqualFold(u.Host, r.Host) || o[canonical(u)]
}

// shared lets pages of allowed origins read the answers (CORS). Cookies are no
// part of it: tokens travel in headers and bodies.
func (s *Server) shared(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if origin == "" {
			next.ServeHTTP(w, r)
			return
		}
		if !s.origins.allow(r) {
			s.refuse(w, r, http.StatusForbidden, "pages of this origin may not use this server: its administrator can allow it")
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After, "+telemetry.RequestIDHeader)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+idempotencyKey+", "+telemetry.RequestIDHeader)
			w.Header().Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
