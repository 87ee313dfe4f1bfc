package account

import (
	"context"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// Handles tells whether a request is about the account of whoever makes it, and
// so Do's to answer, not the chat's. Ending the present session is not: that is
// for the connection.
func Handles(req protocol.Request) bool {
	switch req.Type {
	case protocol.TypeSessions, protocol.TypePassword:
		return true
	case protocol.TypeLogout:
		return req.Session != ""
	}
	return false
}

// Do answers a request that Handles names. Errors: those of the method that the
// request stands for; see Describe.
func (a *Accounts) Do(ctx context.Context, who Caller, req protocol.Request, from Origin) (protocol.Event, error) {
	e := protocol.Event{Type: protocol.TypeDone, ID: req.ID}
	var err error
	switch {
	case req.Type == protocol.TypeSessions:
		e.Type = protocol.TypeSessions
		e.Sessions, err = a.Sessions(ctx, who)
	case req.Type == protocol.TypePassword:
		e.Message = "the password was changed, and all other sessions have ended"
		err = a.ChangePassword(ctx, who, req.Old, req.Message, from)
	case req.Session == protocol.AllSessions:
		e.Message = "all sessions have ended"
		err = a.EndSessions(ctx, who.User)
	default:
		e.Message = "the session has ended"
		err = a.EndSession(ctx, who.User, req.Session)
	}
	return e, err
}

// Sessions lists the caller's sessions, the one used last first.
func (a *Accounts) Sessions(ctx context.Context, who Caller) ([]protocol.SessionInfo, error) {
	logins, err := a.Store.Logins(ctx, who.User)
	if err != nil {
		return nil, err
	}
	infos := make([]protocol.SessionInfo, 0, len(logins))
	for _, l := range logins {
		infos = append(infos, protocol.SessionInfo{
			ID: l.SID, Created: timestamp(l.Created), LastUsed: timestamp(l.Used), Expires: timestamp(l.Expires),
			Address: l.Address, UserAgent: l.Agent, Current: l.SID == who.Session,
		})
	}
	return infos, nil
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
