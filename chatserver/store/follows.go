package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Follow makes follower follow user; added is false if that was so before. The two sets are
// in two slots: a call that failed half-way is completed by repeating it.
func (s *Store) Follow(ctx context.Context, user, follower string) (added bool, err error) {
	if err = s.client.SAdd(ctx, followingKey(follower), user).Err(); err == nil {
		added, err = changed(s.client.SAdd(ctx, subscribersKey(user), follower).Result())
	}
	if err != nil {
		return false, fmt.Errorf("let %s follow %s: %w", follower, user, err)
	}
	return added, nil
}

// Unfollow is the inverse of Follow.
func (s *Store) Unfollow(ctx context.Context, user, follower string) (removed bool, err error) {
	if removed, err = changed(s.client.SRem(ctx, subscribersKey(user), follower).Result()); err == nil {
		err = s.client.SRem(ctx, followingKey(follower), user).Err()
	}
	if err != nil {
		return false, fmt.Errorf("let %s no longer follow %s: %w", follower, user, err)
	}
	return removed, nil
}

// HasFollowers asks whether a message of user must go to the user's follow channel; call the
// result for the answer. Asked before a publish, it costs that no round trip: questions
// travel in pipelines of their own.
func (s *Store) HasFollowers(ctx context.Context, user string) (answer func() (bool, error)) {
	r := s.lookups.ask(ctx, call{keys: []string{subscribersKey(user)}})
	return func() (bool, error) {
		found, err := r.answer(ctx, s.lookups)
		if err != nil {
			return false, fmt.Errorf("look for followers of %s: %w", user, err)
		}
		return found == "1", nil
	}
}

// lookUpKeys answers which keys there are, in one pipeline.
func (s *Store) lookUpKeys(ctx context.Context, batch []*request) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	pipe := s.client.Pipeline()
	cmds := make([]*redis.IntCmd, len(batch))
	for i, r := range batch {
		cmds[i] = pipe.Exists(ctx, r.call.keys[0])
	}
	_, _ = pipe.Exec(ctx) // each command carries its error
	for i, cmd := range cmds {
		n, err := cmd.Result()
		batch[i].reply <- result{strconv.FormatInt(n, 10), err}
	}
}

// Following lists whom follower follows, sorted.
func (s *Store) Following(ctx context.Context, follower string) ([]string, error) {
	return s.sortedSet(ctx, followingKey(follower))
}

// OpenDirect remembers that user has a direct room; added is false if it was known.
func (s *Store) OpenDirect(ctx context.Context, user, room string) (added bool, err error) {
	added, err = changed(s.client.SAdd(ctx, directKey(user), room).Result())
	if err != nil {
		return false, fmt.Errorf("open direct room %s for %s: %w", room, user, err)
	}
	return added, nil
}

// Directs lists the direct rooms of user, sorted.
func (s *Store) Directs(ctx context.Context, user string) ([]string, error) {
	return s.sortedSet(ctx, directKey(user))
}

func (s *Store) sortedSet(ctx context.Context, key string) ([]string, error) {
	members, err := s.client.SMembers(ctx, key).Result()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	slices.Sort(members)
	return members, nil
}

func changed(n int64, err error) (bool, error) { return n > 0, err }
