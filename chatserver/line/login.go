package line

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/account"
	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// logIn checks the password and makes the connection a client of the user.
func (c *session) logIn(ctx context.Context, user, password string) {
	if !c.mayTry(ctx) {
		return
	}
	if err := c.server.Accounts.Check(ctx, user, password); err != nil {
		c.refused(err)
		return
	}
	c.enter(ctx, user)
}

// register makes an account and logs in with it.
func (c *session) register(ctx context.Context, user, password string) {
	if !c.mayTry(ctx) {
		return
	}
	if err := c.server.Accounts.Register(ctx, user, password); err != nil {
		c.refused(err)
		return
	}
	c.server.Log.Info("account made", "user", user)
	c.enter(ctx, user)
}

// mayTry says whether a login or a registration may be tried here and now.
func (c *session) mayTry(ctx context.Context) bool {
	if c.client != nil {
		c.fail(protocol.CodeBadRequest, fmt.Sprintf("you are logged in as %s: /logout first", c.login.User))
		return false
	}
	retry, ok := c.server.Addresses.Request(ctx, c.addr)
	if !ok {
		c.fail(protocol.CodeLimit, fmt.Sprintf("too many requests from this address: try again in %s", retry.Round(time.Second)))
	}
	return ok
}

func (c *session) enter(ctx context.Context, user string) {
	login := hub.Login{User: user, Session: newSession()}
	if err := c.server.Accounts.OpenSession(ctx, user, login.Session, sessionLife); err != nil {
		c.refused(err)
		return
	}
	client, err := c.server.Hub.Attach(ctx, login, c, hub.AttachOptions{SingleRoom: true})
	if err != nil {
		if err := c.server.Accounts.Store.RemoveLogin(ctx, user, login.Session); err != nil {
			c.server.Log.Warn("a session could not be removed and lives until it expires", "user", user, "error", err)
		}
		c.refused(err)
		return
	}
	c.client, c.login, c.failures = client, login, 0
	c.say(fmt.Sprintf("you are logged in as %s. /join <room> to enter a room.", user))
}

// logOut ends the session and leaves the connection as it was before the login.
func (c *session) logOut() {
	if c.client == nil {
		c.fail(protocol.CodeNotLoggedIn, "nobody is logged in here")
		return
	}
	c.leave()
	c.say("you are logged out")
}

// refused says why somebody was not let in. What went wrong inside is for the
// log, not for strangers.
func (c *session) refused(err error) {
	var invalid *account.InvalidError
	switch {
	case errors.As(err, &invalid):
		c.fail(protocol.CodeBadRequest, err.Error())
	case errors.Is(err, account.ErrWrongLogin):
		c.fail(protocol.CodeWrongLogin, err.Error())
		if c.failures++; c.failures >= maxFailures {
			c.goodbye("too many wrong passwords: closing")
		}
	case errors.Is(err, account.ErrTaken):
		c.fail(protocol.CodeTaken, err.Error())
	case errors.Is(err, account.ErrClosed):
		c.fail(protocol.CodeClosed, err.Error())
	case errors.Is(err, store.ErrOnline):
		c.fail(protocol.CodeOnline, "this user is online elsewhere already: log out there first")
	case errors.Is(err, hub.ErrDraining):
		c.goodbye("this server is going away: please connect again")
	case errors.Is(err, auth.ErrBusy):
		c.fail(protocol.CodeUnavailable, "too many people are logging in: try again in a moment")
	default:
		c.server.Log.Error("a login failed", "error", err)
		c.fail(protocol.CodeUnavailable, "the service cannot answer now: try again in a moment")
	}
}
