package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// Grant is what a login or a refresh gives.
type Grant struct {
	Caller
	Token   string        // the access token,
	Life    time.Duration // how long it is good for,
	Refresh string        // and what to get the next one with, once
}

// LogIn opens a session with tokens, the first of which is good for life.
// Errors: ErrWrongLogin if the proof is none any more, ErrDisabled, or Redis's.
func (a *Accounts) LogIn(ctx context.Context, p Proof, life time.Duration, from Origin) (Grant, error) {
	refresh, kept := auth.NewRefreshToken()
	who, err := a.open(ctx, p, kept.Family, from)
	if err != nil {
		return Grant{}, err
	}
	login := store.UserSID{User: who.User, SID: who.Session}
	if err := a.Store.AddRefresh(ctx, kept.Family, kept.Secret, login, a.RefreshTTL); err != nil {
		return Grant{}, err
	}
	return a.grant(who, refresh, life)
}

// OpenSession opens a session without tokens, for a connection that ends it.
// Errors: those of LogIn.
func (a *Accounts) OpenSession(ctx context.Context, p Proof, from Origin) (Caller, error) {
	return a.open(ctx, p, "", from)
}

func (a *Accounts) open(ctx context.Context, p Proof, family string, from Origin) (Caller, error) {
	now := time.Now()
	l := store.Login{
		SID: rand.Text(), Created: now, Used: now, Expires: now.Add(a.RefreshTTL),
		Family: family, Address: from.address(), Agent: from.agent(),
	}
	dropped, err := a.Store.AddLogin(ctx, p.user, p.hash, l)
	switch {
	case errors.Is(err, store.ErrDisabled):
		return Caller{}, ErrDisabled
	case errors.Is(err, store.ErrChanged):
		return Caller{}, ErrWrongLogin
	case err != nil:
		return Caller{}, err
	}
	return Caller{User: p.user, Session: l.SID}, a.Hub.Logout(ctx, p.user, dropped...)
}

func (a *Accounts) grant(who Caller, refresh string, life time.Duration) (Grant, error) {
	token, _, err := a.Tokens.Issue(who.User, who.Session, life)
	if err != nil {
		return Grant{}, err
	}
	return Grant{Caller: who, Token: token, Life: life, Refresh: refresh}, nil
}

// Refresh gives the next tokens of a session for its refresh token, which is
// good once: a second use means that somebody has a copy, so the session ends
// for all who have a token of it, on every server. Errors: auth.ErrInvalid,
// ErrLoggedOut, ErrReused, or Redis's, after which the same token may be tried
// again.
func (a *Accounts) Refresh(ctx context.Context, token string) (grant Grant, err error) {
	defer func() { a.metrics.refreshes.WithLabelValues(result(err)).Inc() }()
	presented, err := auth.ParseRefreshToken(token)
	if err != nil {
		return Grant{}, err
	}
	next, kept, err := auth.NextRefreshToken(token)
	if err != nil {
		return Grant{}, err
	}
	login, err := a.Store.RefreshLogin(ctx, presented.Family)
	if errors.Is(err, store.ErrNoFamily) {
		return Grant{}, ErrLoggedOut
	}
	if err != nil {
		return Grant{}, err
	}
	// The session first and the token last: what fails before the token is replaced
	// costs the client nothing.
	err = a.Store.UseLogin(ctx, login.User, login.SID, time.Now().Add(a.RefreshTTL))
	if errors.Is(err, store.ErrNoLogin) {
		return Grant{}, ErrLoggedOut
	}
	if err != nil {
		return Grant{}, err
	}
	err = a.Store.RotateRefresh(ctx, presented.Family, presented.Secret, kept.Secret, a.RefreshTTL)
	switch {
	case errors.Is(err, store.ErrReused):
		if err := a.Hub.Logout(ctx, login.User, login.SID); err != nil {
			return Grant{}, fmt.Errorf("end a session of %s whose refresh token was used again: %w", login.User, err)
		}
		return Grant{}, ErrReused
	case errors.Is(err, store.ErrNoFamily):
		return Grant{}, ErrLoggedOut
	case err != nil:
		return Grant{}, err
	}
	return a.grant(Caller{User: login.User, Session: login.SID}, next, a.AccessTTL)
}

// useEvery is how exactly the last use of a session is known.
const useEvery = time.Minute

// Authenticate reads an access token and makes sure that its session was not
// ended. until is when the session will end if it is not refreshed. Errors:
// auth.ErrExpired, auth.ErrWrongCluster, auth.ErrInvalid, ErrLoggedOut, or
// Redis's.
func (a *Accounts) Authenticate(ctx context.Context, token string) (who Caller, until time.Time, err error) {
	c, err := a.Tokens.Parse(token)
	if err != nil {
		return Caller{}, time.Time{}, err
	}
	login, err := a.Store.Login(ctx, c.User, c.Session)
	if err == nil && time.Since(login.Used) > useEvery {
		err = a.Store.UseLogin(ctx, c.User, c.Session, time.Time{})
	}
	if errors.Is(err, store.ErrNoLogin) {
		err = ErrLoggedOut
	}
	if err != nil {
		return Caller{}, time.Time{}, err
	}
	return Caller{User: c.User, Session: c.Session}, login.Expires, nil
}

// EndSession ends one of the caller's sessions. Errors: ErrNoSession or Redis's.
func (a *Accounts) EndSession(ctx context.Context, user, session string) error {
	valid, err := a.Store.LoginValid(ctx, user, session)
	if err != nil {
		return err
	}
	if !valid {
		return ErrNoSession
	}
	return a.Hub.Logout(ctx, user, session)
}

// EndSessions ends all of a user's sessions, everywhere.
func (a *Accounts) EndSessions(ctx context.Context, user string) error {
	return a.endAll(ctx, user, "")
}

// endAll ends all of a user's sessions but one.
func (a *Accounts) endAll(ctx context.Context, user, but string) error {
	logins, err := a.Store.Logins(ctx, user)
	if err != nil {
		return err
	}
	var sessions []string
	for _, l := range logins {
		if l.SID != but {
			sessions = append(sessions, l.SID)
		}
	}
	return a.Hub.Logout(ctx, user, sessions...)
}

// LogOut ends the session of an access token, which may have expired, or of a
// refresh token. A session that has ended is as dead as the caller wants it.
// Errors: auth.ErrWrongCluster, auth.ErrInvalid, or Redis's.
func (a *Accounts) LogOut(ctx context.Context, token string) error {
	if len(token) != auth.RefreshTokenLength {
		c, err := a.Tokens.Parse(token)
		if err != nil && !errors.Is(err, auth.ErrExpired) {
			return err
		}
		return a.Hub.Logout(ctx, c.User, c.Session)
	}
	// A refresh token proves itself by being used, and if it fails the session ends too.
	grant, err := a.Refresh(ctx, token)
	if errors.Is(err, ErrLoggedOut) || errors.Is(err, ErrReused) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.Hub.Logout(ctx, grant.User, grant.Session)
}
