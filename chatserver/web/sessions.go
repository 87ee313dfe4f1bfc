package web

import (
	"net/http"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

func (s *Server) listSessions(w http.ResponseWriter, r *http.Request, who account.Caller) {
	sessions, err := s.Accounts.Sessions(r.Context(), who)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, struct {
		Sessions []protocol.SessionInfo `json:"sessions"`
	}{sessions})
}

func (s *Server) endSession(w http.ResponseWriter, r *http.Request, who account.Caller) {
	if err := s.Accounts.EndSession(r.Context(), who.User, r.PathValue("id")); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, message{Message: "the session has ended"})
}

func (s *Server) logoutEverywhere(w http.ResponseWriter, r *http.Request, who account.Caller) {
	if err := s.Accounts.EndSessions(r.Context(), who.User); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, message{Message: "all sessions have ended"})
}

func (s *Server) changePassword(w http.ResponseWriter, r *http.Request, who account.Caller) {
	var body struct {
		Old string `json:"old"`
		New string `json:"new"`
	}
	if !s.read(w, r, &body) {
		return
	}
	if err := s.Accounts.ChangePassword(r.Context(), who, body.Old, body.New, s.origin(r)); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, message{Message: "the password was changed, and all other sessions have ended"})
}
