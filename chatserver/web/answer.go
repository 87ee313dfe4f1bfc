package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

type message struct {
	Message string `json:"message"`
	Code    string `json:"code,omitempty"` // of an error, for programs
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.Log.DebugContext(r.Context(), "the client did not take its answer", "path", r.URL.Path, "error", err)
	}
}

// refuse answers with the code that says to programs what status says to proxies.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	code := protocol.CodeBadRequest
	switch status {
	case http.StatusUnauthorized:
		code = protocol.CodeNotLoggedIn
	case http.StatusForbidden:
		code = protocol.CodeForbidden
	case http.StatusRequestEntityTooLarge:
		code = protocol.CodeTooLong
	case http.StatusTooManyRequests:
		code = protocol.CodeLimit
	case http.StatusInternalServerError, http.StatusServiceUnavailable:
		code = protocol.CodeUnavailable
	}
	s.answer(w, r, status, message{why, code})
}

// statuses are those of the errors that account.Describe knows and of the chat's
// refusals. Others are the caller's to mend: 400.
var statuses = map[string]int{
	protocol.CodeBadRequest:  http.StatusBadRequest,
	protocol.CodeWrongLogin:  http.StatusUnauthorized,
	protocol.CodeNotLoggedIn: http.StatusUnauthorized,
	protocol.CodeReused:      http.StatusUnauthorized,
	protocol.CodeClosed:      http.StatusForbidden,
	protocol.CodeDisabled:    http.StatusForbidden,
	protocol.CodeForbidden:   http.StatusForbidden,
	protocol.CodeNoSession:   http.StatusNotFound,
	protocol.CodeNoUser:      http.StatusNotFound,
	protocol.CodeNoKey:       http.StatusNotFound,
	protocol.CodeTaken:       http.StatusConflict,
	protocol.CodeLimit:       http.StatusTooManyRequests,
	protocol.CodeUnavailable: http.StatusServiceUnavailable,

	protocol.CodeTooLong:    http.StatusRequestEntityTooLarge,
	protocol.CodeNoRoom:     http.StatusNotFound,
	protocol.CodeNoMessage:  http.StatusNotFound,
	protocol.CodeRoomClosed: http.StatusConflict,
	protocol.CodeBanned:     http.StatusForbidden,
	protocol.CodeMuted:      http.StatusForbidden,
	protocol.CodePlaintext:  http.StatusForbidden,
}

// fail answers with the status, code and sentence that err stands for. What went
// wrong inside is for the log, not for strangers.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	code, text, known := account.Describe(err)
	if refusal := new(chat.Refusal); errors.As(err, &refusal) {
		code, text, known = refusal.Code, refusal.Text, true
	}
	switch {
	case known:
		hint(w, code, err)
		s.answer(w, r, cmp.Or(statuses[code], http.StatusBadRequest), message{text, code})
	case r.Context().Err() != nil:
		s.Log.DebugContext(r.Context(), "the client went away", "path", r.URL.Path, "error", err)
	default:
		s.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		retryAfter(w, time.Second)
		s.refuse(w, r, http.StatusServiceUnavailable, "the service cannot answer now: try again in a moment")
	}
}

// hint sets the header that tells a program what to do about an error.
func hint(w http.ResponseWriter, code string, err error) {
	var guesses *account.GuessesError
	switch {
	case errors.As(err, &guesses):
		retryAfter(w, guesses.RetryAfter)
	case code == protocol.CodeUnavailable:
		retryAfter(w, time.Second)
	case code == protocol.CodeNotLoggedIn:
		w.Header().Set("WWW-Authenticate", `Bearer realm="chatcluster", error="invalid_token"`)
	}
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(max(d, time.Second).Seconds()))))
}

// read decodes the JSON body of r into body. If it cannot, it has answered why.
func (s *Server) read(w http.ResponseWriter, r *http.Request, body any) bool {
	return s.readUpTo(maxBody, w, r, body)
}

// readUpTo is read for bodies of at most limit bytes.
func (s *Server) readUpTo(limit int64, w http.ResponseWriter, r *http.Request, body any) bool {
	kind := r.Header.Get("Content-Type")
	// A type is asked for because without it a page of any origin could post here.
	if parsed, _, err := mime.ParseMediaType(kind); err != nil || parsed != "application/json" {
		s.refuse(w, r, http.StatusUnsupportedMediaType, "the body must be JSON, with the header Content-Type: application/json")
		return false
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	err := d.Decode(body)
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		s.refuse(w, r, http.StatusRequestEntityTooLarge, "the body is too large")
		return false
	case err != nil, d.More():
		s.refuse(w, r, http.StatusBadRequest, "the body must be one JSON object, with fields of the right types")
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

POST /register      {"username": "...", "password": "..."}   make an account
POST /login         {"username": "...", "password": "..."}   get tokens
POST /api/refresh   {"refreshToken": "..."}                  get the next ones
POST /logout        {"token": "..."}                         end the token's session
GET  /health                                                 is it up?
GET  /ws            WebSocket, with Authorization: Bearer <token>
`

// mistake is what a defect does, so that operators see whether they would be told of one.
func mistake(http.ResponseWriter, *http.Request) {
	panic("no defect: somebody asked for /debug-sentry")
}

// nothingHere tells a wrong method on a right path from a wrong path.
func (s *Server) nothingHere(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
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
