package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxLogins bounds the logins one user can have; the one least recently used makes room.
const maxLogins = 64

var (
	addLogin = script("add_login")
	useLogin = script("use_login")
)

// Errors about logins.
var (
	ErrNoLogin  = errors.New("no such login, or it has ended")
	ErrDisabled = errors.New("the account is disabled")
	ErrChanged  = errors.New("the password was changed meanwhile")
)

// Login is a session as its user sees it: what a login began and a logout ends. It outlives
// the access tokens that are issued for it and the connections that are made with them.
type Login struct {
	SID     string
	Created time.Time
	Used    time.Time // when it last proved who somebody is
	Expires time.Time
	Family  string // of its refresh tokens, see AddRefresh; empty: it has none
	Address string // of the client, as far as is known
	Agent   string // what the client calls itself
}

// storedLogin is a Login in Redis, where scripts read the times.
type storedLogin struct {
	Created int64  `json:"created"` // unix ms, like the others
	Used    int64  `json:"used"`
	Expires int64  `json:"expires"`
	Family  string `json:"family,omitempty"`
	Address string `json:"address,omitempty"`
	Agent   string `json:"agent,omitempty"`
}

// UserSID names one login: a user and the session id of the token.
type UserSID struct{ User, SID string }

// AddLogin begins a login. proof is the hash of the password that was verified for it, or
// empty where none was: with ErrChanged or ErrDisabled it is not begun, because the account
// has another password by now, or may not log in. A user who has too many logins loses those
// least recently used; they are returned, for their connections to be closed.
func (s *Store) AddLogin(ctx context.Context, user, proof string, l Login) (dropped []string, err error) {
	dropped, err = s.addLogin(ctx, user, proof, l)
	if err == nil && len(dropped) > 0 {
		err = s.RemoveLogin(ctx, user, dropped...)
	}
	if err != nil {
		return nil, fmt.Errorf("add a login of %s: %w", user, err)
	}
	return dropped, nil
}

func (s *Store) addLogin(ctx context.Context, user, proof string, l Login) (excess []string, err error) {
	text, err := json.Marshal(storedLogin{
		Created: l.Created.UnixMilli(), Used: l.Used.UnixMilli(), Expires: l.Expires.UnixMilli(),
		Family: l.Family, Address: l.Address, Agent: l.Agent,
	})
	if err != nil {
		return nil, err
	}
	reply, err := addLogin.Run(ctx, s.client, []string{loginsKey(user), userKey(user)},
		l.SID, text, time.Now().UnixMilli(), maxLogins, proof).StringSlice()
	switch {
	case err != nil:
		return nil, err
	case reply[0] == "disabled":
		return nil, ErrDisabled
	case reply[0] == "changed":
		return nil, ErrChanged
	}
	return reply[1:], nil
}

// UseLogin notes that a login is used now, and that it lives until expires at least; the zero
// time changes nothing about that. It fails with ErrNoLogin.
func (s *Store) UseLogin(ctx context.Context, user, sid string, expires time.Time) error {
	until := int64(0)
	if !expires.IsZero() {
		until = expires.UnixMilli()
	}
	ok, err := useLogin.Run(ctx, s.client, []string{loginsKey(user)}, sid, time.Now().UnixMilli(), until).Bool()
	if err == nil && !ok {
		err = ErrNoLogin
	}
	if err != nil {
		return fmt.Errorf("use a login of %s: %w", user, err)
	}
	return nil
}

// RemoveLogin ends logins, and with them all their tokens. Those that do not exist are no error.
func (s *Store) RemoveLogin(ctx context.Context, user string, sids ...string) error {
	if len(sids) == 0 {
		return nil
	}
	families, err := s.familiesOf(ctx, user, sids)
	if err == nil {
		err = s.client.HDel(ctx, loginsKey(user), sids...).Err()
	}
	if err == nil {
		// What is left of a family if this fails is of no use to anybody: a refresh needs the login.
		err = s.removeFamilies(ctx, families)
	}
	if err != nil {
		return fmt.Errorf("remove %d logins of %s: %w", len(sids), user, err)
	}
	return nil
}

func (s *Store) familiesOf(ctx context.Context, user string, sids []string) ([]string, error) {
	found, err := s.client.HMGet(ctx, loginsKey(user), sids...).Result()
	if err != nil {
		return nil, err
	}
	var families []string
	for i, value := range found {
		text, _ := value.(string)
		if l, err := parseLogin(sids[i], text); err == nil && l.Family != "" {
			families = append(families, l.Family)
		}
	}
	return families, nil
}

// Login looks up one login. It fails with ErrNoLogin if it was never added, has expired, or
// was removed.
func (s *Store) Login(ctx context.Context, user, sid string) (Login, error) {
	l, err := liveLogin(sid, s.client.HGet(ctx, loginsKey(user), sid))
	if err != nil {
		return Login{}, fmt.Errorf("look up a login of %s: %w", user, err)
	}
	return l, nil
}

// LoginValid tells whether Login finds the login.
func (s *Store) LoginValid(ctx context.Context, user, sid string) (bool, error) {
	_, err := s.Login(ctx, user, sid)
	if errors.Is(err, ErrNoLogin) {
		return false, nil
	}
	return err == nil, err
}

// Logins lists a user's logins, the most recently used one first.
func (s *Store) Logins(ctx context.Context, user string) ([]Login, error) {
	all, err := s.client.HGetAll(ctx, loginsKey(user)).Result()
	if err != nil {
		return nil, fmt.Errorf("list the logins of %s: %w", user, err)
	}
	logins := make([]Login, 0, len(all))
	for sid, text := range all {
		if l, err := parseLogin(sid, text); err == nil && time.Now().Before(l.Expires) {
			logins = append(logins, l)
		}
	}
	slices.SortFunc(logins, func(a, b Login) int {
		return cmp.Or(b.Used.Compare(a.Used), b.Created.Compare(a.Created), cmp.Compare(a.SID, b.SID))
	})
	return logins, nil
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
		for i, cmd := range cmds {
			_, err := liveLogin(chunk[i].SID, cmd)
			if err != nil && !errors.Is(err, ErrNoLogin) {
				return nil, fmt.Errorf("look up %d logins: %w", len(logins), err)
			}
			valid = append(valid, err == nil)
		}
	}
	return valid, nil
}

func liveLogin(sid string, cmd *redis.StringCmd) (Login, error) {
	text, err := cmd.Result()
	if errors.Is(err, redis.Nil) {
		return Login{}, ErrNoLogin
	}
	if err != nil {
		return Login{}, err
	}
	l, err := parseLogin(sid, text)
	if err != nil || !time.Now().Before(l.Expires) {
		return Login{}, ErrNoLogin
	}
	return l, nil
}

func parseLogin(sid, text string) (Login, error) {
	var l storedLogin
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return Login{}, err
	}
	return Login{
		SID:     sid,
		Created: time.UnixMilli(l.Created), Used: time.UnixMilli(l.Used), Expires: time.UnixMilli(l.Expires),
		Family: l.Family, Address: l.Address, Agent: l.Agent,
	}, nil
}
