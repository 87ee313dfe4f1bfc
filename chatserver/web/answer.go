package web

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/auth"
)

type message struct {
	Message string `json:"message"`
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.Log.DebugContext(r.Context(), "the client did not take its answer", "path", r.URL.Path, "error", err)
	}
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	s.answer(w, r, status, message{why})
}

// fail answers with the status and sentence that err stands for. What went
// wrong inside is for the log, not for strangers.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var invalid *account.InvalidError
	switch {
	case errors.As(err, &invalid):
		s.refuse(w, r, http.StatusBadRequest, err.Error())
	case errors.Is(err, account.ErrWrongLogin):
		s.refuse(w, r, http.StatusUnauthorized, err.Error())
	case errors.Is(err, account.ErrTaken):
		s.refuse(w, r, http.StatusConflict, err.Error())
	case errors.Is(err, account.ErrClosed):
		s.refuse(w, r, http.StatusForbidden, err.Error())
	case isTokenError(err):
		w.Header().Set("WWW-Authenticate", `Bearer realm="chatcluster", error="invalid_token"`)
		s.refuse(w, r, http.StatusUnauthorized, err.Error())
	case errors.Is(err, auth.ErrBusy):
		w.Header().Set("Retry-After", "1")
		s.refuse(w, r, http.StatusServiceUnavailable, "too many people are logging in: try again in a moment")
	case r.Context().Err() != nil:
		s.Log.DebugContext(r.Context(), "the client went away", "path", r.URL.Path, "error", err)
	default:
		s.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		w.Header().Set("Retry-After", "1")
		s.refuse(w, r, http.StatusServiceUnavailable, "the service cannot answer now: try again in a moment")
	}
}

func isTokenError(err error) bool {
	return errors.Is(err, auth.ErrExpired) || errors.Is(err, auth.ErrWrongCluster) ||
		errors.Is(err, auth.ErrInvalid) || errors.Is(err, account.ErrLoggedOut)
}

// read decodes the JSON body of r into body. If it cannot, it has answered why.
func (s *Server) read(w http.ResponseWriter, r *http.Request, body any) bool {
	kind := r.Header.Get("Content-Type")
	// A type is asked for because without it a page of any origin could post here.
	if parsed, _, err := mime.ParseMediaType(kind); err != nil || parsed != "application/json" {
		s.refuse(w, r, http.StatusUnsupportedMediaType, "the body must be JSON, with the header Content-Type: application/json")
		return false
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	err := d.Decode(body)
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		s.refuse(w, r, http.StatusRequestEntityTooLarge, "the body is too large")
		return false
	case err != nil, d.More():
		s.refuse(w, r, http.StatusBadRequest, "the body must be one JSON object with text fields")
		return false
	}
	return true
}

// root answers a browser that was pointed here, and WebSockets of clients that
// use no path.
func (s *Server) root(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		s.upgrade(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, welcome)
}

const welcome = `This is a ChatCluster chat server.

POST /register   {"username": "...", "password": "..."}   make an account
POST /login      {"username": "...", "password": "..."}   get a token
POST /logout     {"token": "..."}                         end the token's session
GET  /health                                              is it up?
GET  /ws         WebSocket, with Authorization: Bearer <token>
`

// nothingHere tells a wrong method on a right path from a wrong path.
func (s *Server) nothingHere(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != "/" {
				w.Header().Set("Allow", method)
				s.refuse(w, r, http.StatusMethodNotAllowed, "this path answers to "+method)
				return
			}
		}
		s.refuse(w, r, http.StatusNotFound, "there is nothing at this path: see /")
	}
}
