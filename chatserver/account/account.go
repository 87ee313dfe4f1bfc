// Package account registers people, logs them in and out, and looks after
// their sessions: the one set of rules behind the HTTP calls, the WebSocket and
// the line protocol. It knows none of them.
package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// Config is what Accounts need; all of it but Open, Guesses and Registerer is required.
type Config struct {
	Store     *store.Store
	Hub       *hub.Hub // closes the connections of sessions that end, on every server
	Passwords *auth.Passwords
	Tokens    *auth.Tokens
	Open      bool // strangers may register

	AccessTTL  time.Duration // how long a token is good for where its client can refresh it,
	PlainTTL   time.Duration // where its client may know nothing of that,
	RefreshTTL time.Duration // and how long a session lives after its last refresh
	Guesses    int           // wrong passwords for one account in an hour; 0: no limit

	Registerer prometheus.Registerer // of metrics; nil: nobody looks at them
}

// Caller is somebody who has proved who they are, in one of their sessions.
type Caller struct{ User, Session string }

// Accounts is safe for concurrent use.
type Accounts struct {
	Config
	metrics *metrics
}

// New makes Accounts.
func New(c Config) *Accounts { return &Accounts{c, newMetrics(c.Registerer, c.Passwords)} }

// Proof is that somebody knows the password of an account. It is given by Check
// and Register only, and is good until the password is changed.
type Proof struct{ user, hash string }

// Register makes an account. Errors: *InvalidError, ErrTaken, ErrClosed,
// auth.ErrBusy, or Redis's.
func (a *Accounts) Register(ctx context.Context, user, password string) (proof Proof, err error) {
	defer func() { a.metrics.registrations.WithLabelValues(result(err)).Inc() }()
	if !a.Open {
		return Proof{}, ErrClosed
	}
	if err := auth.ValidateUsername(user); err != nil {
		return Proof{}, &InvalidError{err}
	}
	if err := auth.ValidatePassword(password); err != nil {
		return Proof{}, &InvalidError{err}
	}
	hash, err := a.Passwords.Hash(ctx, password)
	if err != nil {
		return Proof{}, fmt.Errorf("hash the password of %s: %w", user, err)
	}
	err = a.Store.CreateUser(ctx, user, hash)
	if errors.Is(err, store.ErrUserExists) {
		return Proof{}, ErrTaken
	}
	return Proof{user, hash}, err
}

// ChangePassword has replacement take the place of the caller's password and
// ends all the caller's other sessions: whoever has the old one is out. Errors:
// those of a login, *InvalidError.
func (a *Accounts) ChangePassword(ctx context.Context, who Caller, old, replacement string, from Origin) error {
	if err := auth.ValidatePassword(replacement); err != nil {
		return &InvalidError{err}
	}
	if _, err := a.Check(ctx, who.User, old, from); err != nil {
		return err
	}
	hash, err := a.Passwords.Hash(ctx, replacement)
	if err != nil {
		return fmt.Errorf("hash the password of %s: %w", who.User, err)
	}
	// First the password: a login with the old one that is under way now is refused.
	if err := a.Store.SetPassword(ctx, who.User, hash); err != nil {
		return err
	}
	return a.endAll(ctx, who.User, who.Session)
}

// Check tells whether password is user's. It takes as long for a user that does
// not exist, so that nobody learns who has an account. Errors: ErrWrongLogin,
// *GuessesError, auth.ErrBusy, or Redis's.
func (a *Accounts) Check(ctx context.Context, user, password string, from Origin) (proof Proof, err error) {
	began := time.Now()
	defer func() { a.metrics.checked(began, err) }()
	if auth.ValidateUsername(user) != nil {
		return Proof{}, a.wrong(ctx, password)
	}
	guesses, err := a.mayGuess(ctx, user, from)
	if err != nil {
		return Proof{}, err
	}
	hash, err := a.verify(ctx, user, password)
	if errors.Is(err, ErrWrongLogin) {
		if err := guesses.count(ctx); err != nil {
			return Proof{}, err
		}
	}
	return Proof{user, hash}, err
}

func (a *Accounts) verify(ctx context.Context, user, password string) (hash string, err error) {
	hash, err = a.Store.PasswordHash(ctx, user)
	switch {
	case errors.Is(err, store.ErrNoUser):
		return "", a.wrong(ctx, password)
	case err != nil:
		return "", err
	}
	err = a.Passwords.Verify(ctx, hash, password)
	if errors.Is(err, auth.ErrWrongPassword) {
		return "", ErrWrongLogin
	}
	return hash, err
}

func (a *Accounts) wrong(ctx context.Context, password string) error {
	if err := a.Passwords.VerifyNone(ctx, password); err != nil && !errors.Is(err, auth.ErrWrongPassword) {
		return err
	}
	return ErrWrongLogin
}
