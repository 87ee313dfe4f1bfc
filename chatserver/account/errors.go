package account

import (
	"errors"
	"fmt"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// What can be wrong, in words for the person who asked.
var (
	ErrWrongLogin = errors.New("wrong username or password")
	ErrTaken      = errors.New("this username is taken")
	ErrClosed     = errors.New("registration is closed: ask an administrator for an account")
	ErrDisabled   = errors.New("this account is disabled: ask an administrator")
	ErrLoggedOut  = errors.New("the token's session was ended: log in again")
	ErrReused     = errors.New("this refresh token was used before, so somebody may have a copy: its session was ended, log in again")
	ErrNoSession  = errors.New("you have no such session: it may have ended")
	ErrNoUser     = errors.New("there is no user of this name")
	ErrNoKey      = errors.New("this user has set no public key")
	ErrForbidden  = errors.New("this is for administrators")
	ErrYourself   = errors.New("administrators cannot do this to themselves: ask another one")
)

var codes = map[error]string{
	ErrWrongLogin: protocol.CodeWrongLogin,
	ErrTaken:      protocol.CodeTaken,
	ErrClosed:     protocol.CodeClosed,
	ErrDisabled:   protocol.CodeDisabled,
	ErrReused:     protocol.CodeReused,
	ErrNoSession:  protocol.CodeNoSession,
	ErrNoUser:     protocol.CodeNoUser,
	ErrNoKey:      protocol.CodeNoKey,
	ErrForbidden:  protocol.CodeForbidden,
	ErrYourself:   protocol.CodeForbidden,

	ErrLoggedOut:         protocol.CodeNotLoggedIn,
	auth.ErrExpired:      protocol.CodeNotLoggedIn,
	auth.ErrWrongCluster: protocol.CodeNotLoggedIn,
	auth.ErrInvalid:      protocol.CodeNotLoggedIn,
	auth.ErrBusy:         protocol.CodeUnavailable,
}

// InvalidError says why a value cannot be what it is given for.
type InvalidError struct{ Reason error }

func (e *InvalidError) Error() string { return e.Reason.Error() }
func (e *InvalidError) Unwrap() error { return e.Reason }

// GuessesError says that too many wrong passwords were given for an account.
type GuessesError struct{ RetryAfter time.Duration }

func (e *GuessesError) Error() string {
	return fmt.Sprintf("too many wrong passwords for this account: try again in %s", e.RetryAfter.Round(time.Second))
}

// Describe tells what is wrong to programs, as a code of the protocol, and to
// people; ok is false for what went wrong inside, which is nothing for strangers.
func Describe(err error) (code, text string, ok bool) {
	var invalid *InvalidError
	var guesses *GuessesError
	switch {
	case errors.As(err, &invalid):
		return protocol.CodeBadRequest, invalid.Error(), true
	case errors.As(err, &guesses):
		return protocol.CodeLimit, guesses.Error(), true
	}
	for known, code := range codes {
		if errors.Is(err, known) {
			return code, known.Error(), true
		}
	}
	return "", "", false
}
