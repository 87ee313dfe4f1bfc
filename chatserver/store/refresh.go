package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

var rotate = script("rotate")

// rotateGrace is how long a refresh token may come a second time, for a client that lost the
// answer. It is short because within it a thief's copy is noticed one refresh later only.
const rotateGrace = 10 * time.Second

// Errors about refresh tokens.
var (
	ErrNoFamily = errors.New("no such family of refresh tokens, or it has ended")
	ErrReused   = errors.New("a refresh token was used again")
)

// AddRefresh keeps the first secret of a family of refresh tokens for ttl. Both are hashes:
// nothing that is kept is of use as a token.
func (s *Store) AddRefresh(ctx context.Context, family, secret string, login UserSID, ttl time.Duration) error {
	pipe := s.client.TxPipeline()
	pipe.HSet(ctx, refreshKey(family), "user", login.User, "sid", login.SID, "current", secret)
	pipe.PExpire(ctx, refreshKey(family), ttl)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("keep a refresh token of %s: %w", login.User, err)
	}
	return nil
}

// RefreshLogin tells which login a family of refresh tokens belongs to, or fails with
// ErrNoFamily. It proves nothing: see RotateRefresh.
func (s *Store) RefreshLogin(ctx context.Context, family string) (UserSID, error) {
	fields, err := s.client.HMGet(ctx, refreshKey(family), "user", "sid").Result()
	if err != nil {
		return UserSID{}, fmt.Errorf("look up a refresh token: %w", err)
	}
	user, _ := fields[0].(string)
	sid, _ := fields[1].(string)
	if user == "" || sid == "" {
		return UserSID{}, fmt.Errorf("look up a refresh token: %w", ErrNoFamily)
	}
	return UserSID{User: user, SID: sid}, nil
}

// RotateRefresh has the secret next take the place of the one presented. It fails with
// ErrReused if that is not the present one: somebody has a copy of a token that was used
// already, and the caller must end the login with RemoveLogin. It keeps failing so until
// then. The one before the present one may come again for rotateGrace. It is idempotent.
func (s *Store) RotateRefresh(ctx context.Context, family, presented, next string, ttl time.Duration) error {
	outcome, err := rotate.Run(ctx, s.client, []string{refreshKey(family)},
		presented, next, time.Now().UnixMilli(), rotateGrace.Milliseconds(), ttl.Milliseconds()).Text()
	switch {
	case err != nil:
	case outcome == "reused":
		err = ErrReused
	case outcome == "unknown":
		err = ErrNoFamily
	}
	if err != nil {
		return fmt.Errorf("rotate a refresh token: %w", err)
	}
	return nil
}

func (s *Store) removeFamilies(ctx context.Context, families []string) error {
	if len(families) == 0 {
		return nil
	}
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, family := range families { // one by one: each is in a slot of its own
			pipe.Del(ctx, refreshKey(family))
		}
		return nil
	})
	return err
}
