package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxLogins bounds the tokens one user can have; the one that expires first makes room.
const maxLogins = 64

var addLogin = script("add_login")

// UserSID names one login: a user and the session id of the token.
type UserSID struct{ User, SID string }

// AddLogin remembers a token until it expires.
func (s *Store) AddLogin(ctx context.Context, user, sid string, expires time.Time) error {
	err := addLogin.Run(ctx, s.client, []string{loginsKey(user)},
		sid, expires.UnixMilli(), time.Now().UnixMilli(), maxLogins).Err()
	if err != nil {
		return fmt.Errorf("add a login of %s: %w", user, err)
	}
	return nil
}

// RemoveLogin forgets a token, which kills it everywhere.
func (s *Store) RemoveLogin(ctx context.Context, user, sid string) error {
	if err := s.client.HDel(ctx, loginsKey(user), sid).Err(); err != nil {
		return fmt.Errorf("remove a login of %s: %w", user, err)
	}
	return nil
}

// LoginValid tells whether the token was added, not removed, and has not expired.
func (s *Store) LoginValid(ctx context.Context, user, sid string) (bool, error) {
	valid, err := loginValid(s.client.HGet(ctx, loginsKey(user), sid))
	if err != nil {
		return false, fmt.Errorf("look up a login of %s: %w", user, err)
	}
	return valid, nil
}

// LoginsValid is LoginValid for many, in their order.
func (s *Store) LoginsValid(ctx context.Context, logins []UserSID) ([]bool, error) {
	valid := make([]bool, 0, len(logins))
	for chunk := range chunks(logins) {
		pipe := s.client.Pipeline()
		cmds := make([]*redis.StringCmd, len(chunk))
		for i, l := range chunk {
			cmds[i] = pipe.HGet(ctx, loginsKey(l.User), l.SID)
		}
		_, _ = pipe.Exec(ctx) // each command carries its error
		for _, cmd := range cmds {
			ok, err := loginValid(cmd)
			if err != nil {
				return nil, fmt.Errorf("look up %d logins: %w", len(logins), err)
			}
			valid = append(valid, ok)
		}
	}
	return valid, nil
}

func loginValid(cmd *redis.StringCmd) (bool, error) {
	value, err := cmd.Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	expires, err := strconv.ParseInt(value, 10, 64)
	return err == nil && time.Now().UnixMilli() < expires, nil
}
