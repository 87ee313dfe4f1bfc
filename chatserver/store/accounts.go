package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

var createUser = script("create_user")

// CreateUser makes an account, or fails with ErrUserExists. The hash is salted, so a call
// that Redis saw twice is known by it and is not an error.
func (s *Store) CreateUser(ctx context.Context, name, hash string) error {
	created, err := createUser.Run(ctx, s.client, []string{userKey(name)}, hash, time.Now().UnixMilli()).Bool()
	if err != nil {
		return fmt.Errorf("create user %s: %w", name, err)
	}
	if !created {
		return fmt.Errorf("create user %s: %w", name, ErrUserExists)
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
