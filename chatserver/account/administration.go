package account

import (
	"context"
	"errors"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// SetRole gives a user a role, on behalf of an administrator. It counts from the
// next thing that the user does. Errors: ErrForbidden, ErrYourself, ErrNoUser,
// *InvalidError, or Redis's.
func (a *Accounts) SetRole(ctx context.Context, by Caller, user, role string) error {
	r, err := store.ParseRole(role)
	if err != nil {
		return &InvalidError{err}
	}
	if err := a.mayAdminister(ctx, by, user); err != nil {
		return err
	}
	return known(a.Store.SetRole(ctx, user, r))
}

// SetDisabled locks a user out, or lets them in again, on behalf of an
// administrator. Who is locked out loses all sessions. Errors: those of SetRole.
func (a *Accounts) SetDisabled(ctx context.Context, by Caller, user string, disabled bool) error {
	if err := a.mayAdminister(ctx, by, user); err != nil {
		return err
	}
	// The mark first: a login that comes in between is refused or among those that end.
	if err := known(a.Store.SetDisabled(ctx, user, disabled)); err != nil || !disabled {
		return err
	}
	return a.EndSessions(ctx, user)
}

// mayAdminister asks Redis each time, so that a role that was taken away is gone.
// That nobody can demote or lock out themselves keeps the last administrator.
func (a *Accounts) mayAdminister(ctx context.Context, by Caller, user string) error {
	role, err := a.Store.Role(ctx, by.User)
	switch {
	case err != nil:
		return err
	case role < store.RoleAdmin:
		return ErrForbidden
	case auth.ValidateUsername(user) != nil:
		return ErrNoUser
	case by.User == user:
		return ErrYourself
	}
	return nil
}

func known(err error) error {
	if errors.Is(err, store.ErrNoUser) {
		return ErrNoUser
	}
	return err
}
