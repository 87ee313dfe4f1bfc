package web

import (
	"net/http"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/address"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// handlePush has mux answer what is about Web Push. Without it, it says so: a client asks
// for the key first, and then knows not to bother its user.
func (s *Server) handlePush(mux *routes) {
	api := func(h http.HandlerFunc) http.Handler {
		if s.Push.PublicKey() == "" {
			h = s.noPush
		}
		return s.limited(address.API, h)
	}
	mux.Handle("GET /api/push/key", api(s.pushKey))
	mux.Handle("POST /api/push/subscriptions", api(s.authed(s.subscribePush)))
	mux.Handle("DELETE /api/push/subscriptions", api(s.authed(s.unsubscribePush)))
}

func (s *Server) noPush(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, http.StatusNotFound, message{"this service sends no push messages", protocol.CodeNoPush})
}

func (s *Server) pushKey(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, http.StatusOK, struct {
		Key string `json:"key"` // for PushManager.subscribe, as applicationServerKey
	}{s.Push.PublicKey()})
}

// subscription is what PushSubscription.toJSON gives in browsers.
type subscription struct {
	Endpoint string `json:"endpoint"`
	Keys     struct {
		P256dh string `json:"p256dh"`
		Auth   string `json:"auth"`
	} `json:"keys"`
}

func (s *Server) subscribePush(w http.ResponseWriter, r *http.Request, who account.Caller) {
	var body subscription
	if !s.read(w, r, &body) {
		return
	}
	sub := store.Subscription{
		Endpoint: body.Endpoint, P256dh: body.Keys.P256dh, Auth: body.Keys.Auth,
		Session: who.Session, Created: time.Now().UnixMilli(),
	}
	if err := s.Push.Check(sub); err != nil {
		s.refuse(w, r, http.StatusBadRequest, err.Error())
		return
	}
	if err := s.Accounts.Store.AddSubscription(r.Context(), who.User, sub); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusCreated, message{Message: "this browser is notified while you are away, until the session ends"})
}

// unsubscribePush forgets a subscription. One that is not there is as forgotten as the
// caller wants it.
func (s *Server) unsubscribePush(w http.ResponseWriter, r *http.Request, who account.Caller) {
	var body subscription
	if !s.read(w, r, &body) {
		return
	}
	id := store.Subscription{Endpoint: body.Endpoint}.ID()
	if _, err := s.Accounts.Store.RemoveSubscription(r.Context(), who.User, id); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, message{Message: "this browser is notified no more"})
}
