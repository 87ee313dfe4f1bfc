package line

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/address"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// logIn checks the password and makes the connection a client of the user.
func (c *session) logIn(ctx context.Context, user, password string) {
	if !c.mayTry(ctx) {
		return
	}
	proof, err := c.server.Accounts.Check(ctx, user, password, c.origin())
	if err != nil {
		c.refused(err)
		return
	}
	c.enter(ctx, proof)
}

// register makes an account and logs in with it.
func (c *session) register(ctx context.Context, user, password string) {
	if !c.mayTry(ctx) {
		return
	}
	proof, err := c.server.Accounts.Register(ctx, user, password)
	if err != nil {
		c.refused(err)
		return
	}
	c.server.Log.InfoContext(c.ctx, "account made", "user", user)
	c.enter(ctx, proof)
}

func (c *session) origin() account.Origin {
	return account.Origin{Address: c.addr, Agent: "a terminal"}
}

// mayTry says whether a login or a registration may be tried here and now.
func (c *session) mayTry(ctx context.Context) bool {
	if c.client != nil {
		c.fail(protocol.CodeBadRequest, fmt.Sprintf("you are logged in as %s: /logout first", c.login.User))
		return false
	}
	retry, ok := c.server.Addresses.Allow(ctx, address.Plain, c.addr)
	if !ok {
		c.fail(protocol.CodeLimit, fmt.Sprintf("too many requests from this address: try again in %s", retry.Round(time.Second)))
	}
	return ok
}

func (c *session) enter(ctx context.Context, proof account.Proof) {
	who, err := c.server.Accounts.OpenSession(ctx, proof, c.origin())
	if err != nil {
		c.refused(err)
		return
	}
	login := hub.Login{User: who.User, Session: who.Session}
	client, err := c.server.Hub.Attach(ctx, login, c, hub.AttachOptions{SingleRoom: true})
	if err != nil {
		if err := c.server.Accounts.Store.RemoveLogin(ctx, who.User, who.Session); err != nil {
			c.server.Log.WarnContext(c.ctx, "a session could not be removed and lives until it expires", "user", who.User, "error", err)
		}
		c.refused(err)
		return
	}
	c.client, c.login, c.failures = client, login, 0
	c.say(fmt.Sprintf("you are logged in as %s. /join <room> to enter a room.", who.User))
}

// logOut ends the session and leaves the connection as it was before the login.
func (c *session) logOut() {
	if c.client == nil {
		c.fail(protocol.CodeNotLoggedIn, "nobody is logged in here")
		return
	}
	c.leave(protocol.CloseNormal)
	c.say("you are logged out")
}

// manage answers what is about the account of whoever is logged in.
func (c *session) manage(ctx context.Context, req protocol.Request) {
	if c.client == nil {
		c.fail(protocol.CodeNotLoggedIn, notLoggedIn)
		return
	}
	who := account.Caller{User: c.login.User, Session: c.login.Session}
	e, err := c.server.Accounts.Do(ctx, who, req, c.origin())
	if err != nil {
		c.refused(err)
		return
	}
	c.tell(e)
}

// refused says why somebody was not let in, or not given what they asked for.
// What went wrong inside is for the log, not for strangers.
func (c *session) refused(err error) {
	code, text, known := account.Describe(err)
	switch {
	case known:
		c.fail(code, text)
		if code != protocol.CodeWrongLogin {
			return
		}
		if c.failures++; c.failures >= maxFailures {
			c.bye("too many wrong passwords: closing")
		}
	case errors.Is(err, store.ErrOnline):
		c.fail(protocol.CodeOnline, "this user is online elsewhere already: log out there first")
	case errors.Is(err, hub.ErrDraining):
		c.goodbye("this server is going away: please connect again")
	case errors.Is(err, hub.ErrCrowd): // no defect; the hub counts it
		c.fail(protocol.CodeUnavailable, err.Error()+": try again in a moment")
	default:
		c.server.Log.ErrorContext(c.ctx, "an account could not be served", "error", err)
		c.fail(protocol.CodeUnavailable, "the service cannot answer now: try again in a moment")
	}
}
