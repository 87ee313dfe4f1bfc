package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/address"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

const (
	chatTime   = 10 * time.Second // for Redis to do what one call asks
	rateWindow = 10 * time.Second // of MessagesPer10s
	// idempotencyKey is the header that is a request's id: what is sent again with
	// the same one appears once.
	idempotencyKey = "Idempotency-Key"
)

// operation is a call that is a request of the protocol by another way. Its path
// says what the request is about: {room}, {user}, {offset} of a message, {emoji}.
// The query and the body are the request's other fields, by the same names, and
// the answer is the event that a WebSocket would get.
type operation struct {
	method, path string
	request      string   // the protocol's type
	on           *bool    // the request's On
	query, body  []string // fields it takes from there
	status       int      // when it was done
	answer       string   // the type of the event; empty: there is nothing to say
	summary      string
}

var yes, no = true, false

// operations are all calls about rooms and messages.
var operations = []operation{
	{"GET", "/api/rooms", protocol.TypeRooms, nil, []string{"after", "limit"}, nil, 200, protocol.TypeRoomList, "List the public rooms in which somebody is"},
	{"POST", "/api/rooms", protocol.TypeCreate, nil, nil, []string{"room", "kind", "encrypted", "topic", "retention"}, 201, protocol.TypeRoomInfo, "Make a room"},
	{"GET", "/api/rooms/mine", protocol.TypeMyRooms, nil, nil, nil, 200, protocol.TypeMyRooms, "List the caller's rooms, with what is unread"},
	{"GET", "/api/rooms/{room}", protocol.TypeRoom, nil, nil, nil, 200, protocol.TypeRoomInfo, "Tell about a room"},
	{"PATCH", "/api/rooms/{room}", protocol.TypeRoom, nil, nil, []string{"topic", "retention"}, 200, protocol.TypeRoomInfo, "Change a room's topic or retention"},
	{"PUT", "/api/rooms/{room}/membership", protocol.TypeJoin, nil, nil, nil, 200, protocol.TypeJoined, "Become a member"},
	{"DELETE", "/api/rooms/{room}/membership", protocol.TypeLeave, nil, nil, nil, 200, protocol.TypeLeft, "End one's membership"},
	{"PUT", "/api/rooms/{room}/closed", protocol.TypeClose, nil, nil, nil, 200, protocol.TypeRoomInfo, "Close a room: it can be read, and no more"},
	{"DELETE", "/api/rooms/{room}/closed", protocol.TypeReopen, nil, nil, nil, 200, protocol.TypeRoomInfo, "Open a closed room again"},

	{"GET", "/api/rooms/{room}/members", protocol.TypeMembers, nil, []string{"after", "limit"}, nil, 200, protocol.TypeMemberList, "List a room's members, present or not"},
	{"GET", "/api/rooms/{room}/present", protocol.TypeWho, nil, nil, nil, 200, protocol.TypeUserList, "List who is present in a room"},
	{"DELETE", "/api/rooms/{room}/members/{user}", protocol.TypeKick, nil, nil, nil, 200, protocol.TypeDone, "End another user's membership"},
	{"POST", "/api/rooms/{room}/invitations", protocol.TypeInvite, nil, nil, []string{"to"}, 200, protocol.TypeDone, "Let a user join a private room"},
	{"PUT", "/api/rooms/{room}/bans/{user}", protocol.TypeBan, nil, nil, []string{"seconds"}, 200, protocol.TypeDone, "Keep a user out of a room"},
	{"DELETE", "/api/rooms/{room}/bans/{user}", protocol.TypeUnban, nil, nil, nil, 200, protocol.TypeDone, "Let a banned user come back"},
	{"PUT", "/api/rooms/{room}/mutes/{user}", protocol.TypeMute, nil, nil, []string{"seconds"}, 200, protocol.TypeDone, "Keep a user from writing in a room"},
	{"DELETE", "/api/rooms/{room}/mutes/{user}", protocol.TypeUnmute, nil, nil, nil, 200, protocol.TypeDone, "Let a muted user write again"},

	{"GET", "/api/rooms/{room}/messages", protocol.TypeHistory, nil, []string{"before", "since", "limit"}, nil, 200, protocol.TypeHistory, "Get a page of a room's messages"},
	{"POST", "/api/rooms/{room}/messages", protocol.TypeMessage, nil, nil, []string{"id", "message", "ciphertext", "iv", "replyTo", "mentions"}, 201, protocol.TypeAck, "Send a message"},
	{"PATCH", "/api/rooms/{room}/messages/{offset}", protocol.TypeEdit, nil, nil, []string{"id", "message", "ciphertext", "iv"}, 200, protocol.TypeAck, "Edit one's message"},
	{"DELETE", "/api/rooms/{room}/messages/{offset}", protocol.TypeDelete, nil, nil, nil, 200, protocol.TypeAck, "Delete a message"},
	{"PUT", "/api/rooms/{room}/messages/{offset}/reactions/{emoji}", protocol.TypeReact, &yes, nil, nil, 200, protocol.TypeAck, "React to a message"},
	{"DELETE", "/api/rooms/{room}/messages/{offset}/reactions/{emoji}", protocol.TypeReact, &no, nil, nil, 200, protocol.TypeAck, "Take a reaction back"},
	{"PUT", "/api/rooms/{room}/read", protocol.TypeRead, nil, nil, []string{"offset"}, 200, protocol.TypeDone, "Note how far the caller has read"},
	{"POST", "/api/rooms/{room}/typing", protocol.TypeTyping, nil, nil, nil, 204, "", "Show that the caller is typing"},
	{"POST", "/api/direct/{user}/messages", protocol.TypeDirect, nil, nil, []string{"id", "message", "ciphertext", "iv", "replyTo"}, 201, protocol.TypeAck, "Send a direct message"},

	{"PUT", "/api/following/{user}", protocol.TypeSubscribe, nil, nil, nil, 200, protocol.TypeSubscribed, "Follow a user"},
	{"DELETE", "/api/following/{user}", protocol.TypeUnsubscribe, nil, nil, nil, 200, protocol.TypeUnsubscribed, "Stop following a user"},
	{"GET", "/api/presence", protocol.TypePresence, nil, []string{"name"}, nil, 200, protocol.TypeMemberList, "Tell which users are online"},
}

// handleChat has mux answer what is about rooms and messages.
func (s *Server) handleChat(mux *routes) {
	for _, op := range operations {
		mux.Handle(op.method+" "+op.path, s.limited(address.API, s.authed(s.do(op))))
	}
}

// do has the chat do what a call asks.
func (s *Server) do(op operation) func(http.ResponseWriter, *http.Request, account.Caller) {
	return func(w http.ResponseWriter, r *http.Request, who account.Caller) {
		var req protocol.Request
		// An absent body is an empty one: most calls have said everything with their path.
		if op.body != nil && r.ContentLength != 0 && !s.readUpTo(int64(s.maxFrame()), w, r, &req) {
			return
		}
		if err := op.complete(&req, r); err != nil {
			s.refuse(w, r, http.StatusBadRequest, err.Error())
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), chatTime)
		defer cancel()
		if !s.mayWrite(ctx, w, r, who, req) {
			return
		}
		answer, err := s.Hub.Chat().Do(ctx, who.User, req)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case answer.Type == "":
			w.WriteHeader(op.status)
		default:
			s.answer(w, r, op.status, answer)
		}
	}
}

// complete puts into the request what the call says outside its body.
func (op *operation) complete(req *protocol.Request, r *http.Request) error {
	req.Type, req.On = op.request, op.on
	if room := r.PathValue("room"); room != "" {
		req.Room = room
	}
	if user := r.PathValue("user"); user != "" {
		req.To = user
	}
	req.Emoji = r.PathValue("emoji")
	if key := r.Header.Get(idempotencyKey); key != "" && req.ID == "" {
		req.ID = key
	}
	if err := req.ValidateIDs(); err != nil {
		return err
	}
	if text := r.PathValue("offset"); text != "" {
		offset, err := strconv.ParseUint(text, 10, 64)
		if err != nil || offset == 0 {
			return fmt.Errorf("a message is named by its offset, a number from 1, not %q", text)
		}
		req.Ref = offset
	}
	return op.completeFromQuery(req, r)
}

func (op *operation) completeFromQuery(req *protocol.Request, r *http.Request) error {
	query := r.URL.Query()
	for name, into := range map[string]*uint64{"before": &req.Before, "since": &req.Since} {
		if err := op.number(name, query.Get(name), 64, into); err != nil {
			return err
		}
	}
	limit := uint64(req.Limit)
	if err := op.number("limit", query.Get("limit"), 31, &limit); err != nil {
		return err
	}
	req.Limit = int(limit)
	if slices.Contains(op.query, "after") {
		req.After = query.Get("after")
	}
	if slices.Contains(op.query, "name") {
		req.Names = query["name"]
	}
	return nil
}

// number reads a parameter of the query, if the call has it and it was given.
func (op *operation) number(name, text string, bits int, into *uint64) error {
	if text == "" || !slices.Contains(op.query, name) {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return fmt.Errorf("%s is a number, not %q", name, text)
	}
	*into = n
	return nil
}

// mayWrite counts a message against its sender's rate. If there were too many it
// has answered so. There is no connection to count on, so all servers count together.
func (s *Server) mayWrite(ctx context.Context, w http.ResponseWriter, r *http.Request, who account.Caller, req protocol.Request) bool {
	if req.Type != protocol.TypeMessage && req.Type != protocol.TypeDirect {
		return true
	}
	ok, retry, err := s.Accounts.Store.Allow(ctx, "messages:"+who.User, s.MessagesPer10s, rateWindow)
	switch {
	case err != nil:
		s.fail(w, r, err)
	case !ok:
		retryAfter(w, retry)
		s.refuse(w, r, http.StatusTooManyRequests, fmt.Sprintf("Rate limit exceeded: at most %d messages in 10 seconds", s.MessagesPer10s))
	default:
		return true
	}
	return false
}

// routes is a mux that knows what it answers.
type routes struct {
	*http.ServeMux
	patterns []string
}

func (m *routes) Handle(pattern string, h http.Handler) {
	m.ServeMux.Handle(pattern, h)
	m.patterns = append(m.patterns, pattern)
}

func (m *routes) HandleFunc(pattern string, h http.HandlerFunc) { m.Handle(pattern, h) }
