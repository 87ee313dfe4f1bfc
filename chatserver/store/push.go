package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// maxSubscriptions is how many a user has; more are likely of browsers long gone.
const maxSubscriptions = 20

var addPush = script("add_push")

// Subscription is where a browser of a user gets Web Push messages, and the keys for them.
type Subscription struct {
	Endpoint string `json:"endpoint"` // URL of the push service; a secret of the user's
	P256dh   string `json:"p256dh"`
	Auth     string `json:"auth"`
	Session  string `json:"session"` // that made it, and that it ends with
	Created  int64  `json:"created"` // unix ms
}

// ID names the subscription among the user's.
func (s Subscription) ID() string {
	sum := sha256.Sum256([]byte(s.Endpoint))
	return hex.EncodeToString(sum[:16])
}

// AddSubscription remembers a subscription, instead of the oldest one if there are too
// many. One with the same endpoint is replaced.
func (s *Store) AddSubscription(ctx context.Context, user string, sub Subscription) error {
	text, err := json.Marshal(sub)
	if err == nil {
		err = addPush.Run(ctx, s.client, []string{pushKey(user)}, sub.ID(), text, maxSubscriptions).Err()
	}
	if err != nil {
		return fmt.Errorf("keep a push subscription of %s: %w", user, err)
	}
	return nil
}

// RemoveSubscription forgets a subscription; removed is false if there was none.
func (s *Store) RemoveSubscription(ctx context.Context, user, id string) (removed bool, err error) {
	removed, err = changed(s.client.HDel(ctx, pushKey(user), id).Result())
	if err != nil {
		return false, fmt.Errorf("forget a push subscription of %s: %w", user, err)
	}
	return removed, nil
}

// Subscriptions lists the push subscriptions of a user whose sessions live, and forgets
// the others: who logged out is not to be told any more.
func (s *Store) Subscriptions(ctx context.Context, user string) ([]Subscription, error) {
	all, err := s.client.HGetAll(ctx, pushKey(user)).Result()
	if err != nil {
		return nil, fmt.Errorf("list the push subscriptions of %s: %w", user, err)
	}
	if len(all) == 0 {
		return nil, nil
	}
	logins, err := s.Logins(ctx, user)
	if err != nil {
		return nil, err
	}
	var live []Subscription
	for id, text := range all {
		var sub Subscription
		err := json.Unmarshal([]byte(text), &sub)
		if err == nil && slices.ContainsFunc(logins, func(l Login) bool { return l.SID == sub.Session }) {
			live = append(live, sub)
			continue
		}
		if _, err := s.RemoveSubscription(ctx, user, id); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(live, func(a, b Subscription) int { return strings.Compare(a.Endpoint, b.Endpoint) })
	return live, nil
}
