// Package account registers people and logs them in and out: the one set of
// rules behind both the HTTP calls and the line protocol. It knows neither.
package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// What can be wrong, in words for the person who asked.
var (
	ErrWrongLogin = errors.New("wrong username or password")
	ErrTaken      = errors.New("this username is taken")
	ErrClosed     = errors.New("registration is closed: ask an administrator for an account")
	ErrLoggedOut  = errors.New("the token's session was ended: log in again")
)

// InvalidError says why a username or password cannot be one.
type InvalidError struct{ Reason error }

func (e *InvalidError) Error() string { return e.Reason.Error() }
func (e *InvalidError) Unwrap() error { return e.Reason }

// Accounts does what its fields allow; all but Open are needed.
type Accounts struct {
	Store     *store.Store
	Passwords *auth.Passwords
	Tokens    *auth.Tokens
	Open      bool // strangers may register
}

// Register makes an account. Errors: *InvalidError, ErrTaken, ErrClosed,
// auth.ErrBusy, or Redis's.
func (a *Accounts) Register(ctx context.Context, user, password string) error {
	if !a.Open {
		return ErrClosed
	}
	if err := auth.ValidateUsername(user); err != nil {
		return &InvalidError{err}
	}
	if err := auth.ValidatePassword(password); err != nil {
		return &InvalidError{err}
	}
	hash, err := a.Passwords.Hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash the password of %s: %w", user, err)
	}
	return a.create(ctx, user, hash)
}

func (a *Accounts) create(ctx context.Context, user, hash string) error {
	err := a.Store.CreateUser(ctx, user, hash)
	if errors.Is(err, store.ErrUserExists) {
		return ErrTaken
	}
	return err
}

// Check tells whether password is user's. It takes as long for a user that does
// not exist, so that nobody learns who has an account. Errors: ErrWrongLogin,
// auth.ErrBusy, or Redis's.
func (a *Accounts) Check(ctx context.Context, user, password string) error {
	if auth.ValidateUsername(user) != nil {
		return a.wrong(ctx, password)
	}
	hash, err := a.Store.PasswordHash(ctx, user)
	switch {
	case errors.Is(err, store.ErrNoUser):
		return a.wrong(ctx, password)
	case err != nil:
		return err
	}
	err = a.Passwords.Verify(ctx, hash, password)
	if errors.Is(err, auth.ErrWrongPassword) {
		return ErrWrongLogin
	}
	return err
}

func (a *Accounts) wrong(ctx context.Context, password string) error {
	if err := a.Passwords.VerifyNone(ctx, password); err != nil && !errors.Is(err, auth.ErrWrongPassword) {
		return err
	}
	return ErrWrongLogin
}

// Issue opens a session for user, whose password was checked, and makes the
// token that proves it.
func (a *Accounts) Issue(ctx context.Context, user string) (token string, c auth.Claims, err error) {
	token, c, err = a.Tokens.Issue(user)
	if err != nil {
		return "", auth.Claims{}, fmt.Errorf("make a token for %s: %w", user, err)
	}
	if err := a.Store.AddLogin(ctx, user, c.Session, c.Expires); err != nil {
		return "", auth.Claims{}, fmt.Errorf("keep the session of %s: %w", user, err)
	}
	return token, c, nil
}

// OpenSession opens a session that has no token: that of a connection which
// lives no longer than life.
func (a *Accounts) OpenSession(ctx context.Context, user, session string, life time.Duration) error {
	if err := a.Store.AddLogin(ctx, user, session, time.Now().Add(life)); err != nil {
		return fmt.Errorf("keep the session of %s: %w", user, err)
	}
	return nil
}

// Authenticate reads a token and makes sure that its session was not ended.
// Errors: auth.ErrExpired, auth.ErrWrongCluster, auth.ErrInvalid, ErrLoggedOut,
// or Redis's.
func (a *Accounts) Authenticate(ctx context.Context, token string) (auth.Claims, error) {
	c, err := a.Tokens.Parse(token)
	if err != nil {
		return auth.Claims{}, err
	}
	valid, err := a.Store.LoginValid(ctx, c.User, c.Session)
	if err != nil {
		return auth.Claims{}, fmt.Errorf("look up the session of %s: %w", c.User, err)
	}
	if !valid {
		return auth.Claims{}, ErrLoggedOut
	}
	return c, nil
}
