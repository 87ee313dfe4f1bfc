package web

import (
	"net/http"
	"strings"

	"github.com/chatcluster/chatcluster/chatserver/account"
)

// authed calls next with whoever the access token in the Authorization header
// says is calling.
func (s *Server) authed(next func(http.ResponseWriter, *http.Request, account.Caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text := bearer(r)
		if text == "" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="chatcluster"`)
			s.refuse(w, r, http.StatusUnauthorized, "a token is needed: Authorization: Bearer <token>")
			return
		}
		who, _, err := s.Accounts.Authenticate(r.Context(), text)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		next(w, r, who)
	}
}

// bearer is the access token in the Authorization header; empty if there is none.
func bearer(r *http.Request) string {
	kind, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return ""
	}
	return strings.TrimSpace(text)
}
