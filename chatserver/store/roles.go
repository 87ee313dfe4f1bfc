package store

import (
	"context"
	"fmt"
)

// Role is what somebody may do beyond what everybody may. Each role may do what those below
// it may, so roles are compared: role >= RoleModerator.
type Role int

// The roles, lowest first.
const (
	RoleUser      Role = iota // what an account has unless it was given another
	RoleModerator             // keeps order in every room
	RoleAdmin                 // and looks after the accounts
)

var roleNames = [...]string{RoleUser: "user", RoleModerator: "moderator", RoleAdmin: "admin"}

func (r Role) String() string { return roleNames[r] }

// ParseRole reads the name of a role.
func ParseRole(name string) (Role, error) {
	for r, n := range roleNames {
		if n == name {
			return Role(r), nil
		}
	}
	return RoleUser, fmt.Errorf("%q is no role: use user, moderator or admin", name)
}

// Role looks up what a user may do. It fails with ErrNoUser if there is no such account. Ask
// when something privileged is to be done, and do not keep the answer: a role that was taken
// away is gone at once.
func (s *Store) Role(ctx context.Context, user string) (Role, error) {
	fields, err := s.client.HMGet(ctx, userKey(user), "password", "role").Result()
	if err == nil && fields[0] == nil {
		err = ErrNoUser
	}
	if err != nil {
		return RoleUser, fmt.Errorf("look up the role of %s: %w", user, err)
	}
	name, _ := fields[1].(string)
	return roleOf(name), nil
}

// roleOf reads the field "role" of an account. One that this server does not know, perhaps a
// newer server's, gives no rights.
func roleOf(field string) Role {
	role, err := ParseRole(field)
	if err != nil {
		return RoleUser
	}
	return role
}

// SetRole gives a user a role in place of the one before. It fails with ErrNoUser.
func (s *Store) SetRole(ctx context.Context, user string, role Role) error {
	name := role.String()
	if role == RoleUser {
		name = "" // as it is for accounts that never had another
	}
	return s.setUser(ctx, user, "role", name)
}
