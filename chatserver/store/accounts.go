package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	createUser = script("create_user")
	setUser    = script("set_user")
)

// Account is what is kept of a user beside the password.
type Account struct {
	Name      string
	Created   time.Time
	Role      Role
	Disabled  bool   // may not log in
	PublicKey string // as it was given; empty: none was
}

// CreateUser makes an account, or fails with ErrUserExists. The hash is salted, so a call
// that Redis saw twice is known by it and is not an error.
func (s *Store) CreateUser(ctx context.Context, name, hash string) error {
	// The index first: what it names and is no account is left out of lists, but an account
	// that it does not name would never be found.
	err := s.client.ZAdd(ctx, usersKey, redis.Z{Member: name}).Err()
	var created bool
	if err == nil {
		created, err = createUser.Run(ctx, s.client, []string{userKey(name)}, hash, time.Now().UnixMilli()).Bool()
	}
	if err == nil && !created {
		err = ErrUserExists
	}
	if err != nil {
		return fmt.Errorf("create user %s: %w", name, err)
	}
	return nil
}

// PasswordHash fails with ErrNoUser if there is no such account.
func (s *Store) PasswordHash(ctx context.Context, name string) (string, error) {
	hash, err := s.client.HGet(ctx, userKey(name), "password").Result()
	if errors.Is(err, redis.Nil) {
		err = ErrNoUser
	}
	if err != nil {
		return "", fmt.Errorf("look up user %s: %w", name, err)
	}
	return hash, nil
}

// Account fails with ErrNoUser if there is no such account.
func (s *Store) Account(ctx context.Context, name string) (Account, error) {
	fields, err := s.client.HMGet(ctx, userKey(name), accountFields...).Result()
	if err != nil {
		return Account{}, fmt.Errorf("look up user %s: %w", name, err)
	}
	a, ok := parseAccount(name, fields)
	if !ok {
		return Account{}, fmt.Errorf("look up user %s: %w", name, ErrNoUser)
	}
	return a, nil
}

var accountFields = []string{"created", "role", "disabled", "publicKey"}

// parseAccount reads the values of accountFields; ok is false if they are of no account.
func parseAccount(name string, fields []any) (a Account, ok bool) {
	var text [4]string
	for i := range text {
		text[i], _ = fields[i].(string)
	}
	created, err := strconv.ParseInt(text[0], 10, 64)
	if err != nil {
		return Account{}, false
	}
	return Account{
		Name: name, Created: time.UnixMilli(created), Role: roleOf(text[1]), Disabled: text[2] != "", PublicKey: text[3],
	}, true
}

// SetPassword fails with ErrNoUser.
func (s *Store) SetPassword(ctx context.Context, name, hash string) error {
	return s.setUser(ctx, name, "password", hash)
}

// SetDisabled says whether an account may not log in. Once it is disabled no login begins;
// those there are go on until they are removed. It fails with ErrNoUser.
func (s *Store) SetDisabled(ctx context.Context, name string, disabled bool) error {
	value := ""
	if disabled {
		value = "1"
	}
	return s.setUser(ctx, name, "disabled", value)
}

// SetPublicKey keeps a key that others may have, whatever it is. It fails with ErrNoUser.
func (s *Store) SetPublicKey(ctx context.Context, name, key string) error {
	return s.setUser(ctx, name, "publicKey", key)
}

// setUser sets a field of an account; an empty value removes it.
func (s *Store) setUser(ctx context.Context, name, field, value string) error {
	known, err := setUser.Run(ctx, s.client, []string{userKey(name)}, field, value).Bool()
	if err == nil && !known {
		err = ErrNoUser
	}
	if err != nil {
		return fmt.Errorf("set the %s of user %s: %w", field, name, err)
	}
	return nil
}

// UserInfo is a line of the list of users.
type UserInfo struct {
	Account
	Online bool
}

// Users lists accounts whose names begin with prefix and come after after, sorted by the bytes
// of their names. It looks at limit names; next is what to give as after for those behind
// them, or empty if there are none.
func (s *Store) Users(ctx context.Context, prefix, after string, limit int) (users []UserInfo, next string, err error) {
	from := "[" + prefix
	if after >= prefix {
		from = "(" + after
	}
	names, err := s.client.ZRangeByLex(ctx, usersKey, &redis.ZRangeBy{
		Min: from, Max: "(" + prefix + "\xff", Count: int64(limit) + 1, // one more tells whether there are more
	}).Result()
	if err == nil && len(names) > limit {
		names = names[:limit]
		next = names[limit-1]
	}
	if err == nil {
		users, err = s.infoOf(ctx, names)
	}
	if err != nil {
		return nil, "", fmt.Errorf("list the users: %w", err)
	}
	return users, next, nil
}

// infoOf looks up those of names that are accounts.
func (s *Store) infoOf(ctx context.Context, names []string) ([]UserInfo, error) {
	users := make([]UserInfo, 0, len(names))
	for chunk := range chunks(names) {
		pipe := s.client.Pipeline()
		accounts, sessions := make([]*redis.SliceCmd, len(chunk)), make([]*redis.IntCmd, len(chunk))
		for i, name := range chunk {
			accounts[i] = pipe.HMGet(ctx, userKey(name), accountFields...)
			sessions[i] = pipe.Exists(ctx, sessionKey(name))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, err
		}
		for i, name := range chunk {
			if a, ok := parseAccount(name, accounts[i].Val()); ok {
				users = append(users, UserInfo{Account: a, Online: sessions[i].Val() > 0})
			}
		}
	}
	return users, nil
}
