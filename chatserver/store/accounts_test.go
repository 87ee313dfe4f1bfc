package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestUserNameIsTakenOnce(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, name := b.open(t), unique("alice")
		if _, err := s.PasswordHash(t.Context(), name); !errors.Is(err, ErrNoUser) {
			t.Errorf("before: %v", err)
		}
		must(t, s.CreateUser(t.Context(), name, "hash"))
		must(t, s.CreateUser(t.Context(), name, "hash")) // as when go-redis sends it twice
		if err := s.CreateUser(t.Context(), name, "other hash"); !errors.Is(err, ErrUserExists) {
			t.Errorf("a second time: %v", err)
		}
		if hash := got[string](t)(s.PasswordHash(t.Context(), name)); hash != "hash" {
			t.Errorf("the hash is %q", hash)
		}
	})
}

func TestRoleIsGivenAndTakenAway(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, name := b.open(t), unique("alice")
		if _, err := s.Role(t.Context(), name); !errors.Is(err, ErrNoUser) {
			t.Errorf("the role of nobody: %v", err)
		}
		if err := s.SetRole(t.Context(), name, RoleAdmin); !errors.Is(err, ErrNoUser) {
			t.Errorf("nobody became an admin: %v", err)
		}
		must(t, s.CreateUser(t.Context(), name, "hash"))
		for _, want := range []Role{RoleUser, RoleAdmin, RoleModerator, RoleUser} {
			must(t, s.SetRole(t.Context(), name, want))
			if role := got[Role](t)(s.Role(t.Context(), name)); role != want {
				t.Errorf("the role is %s, want %s", role, want)
			}
		}
		must(t, s.client.HSet(t.Context(), userKey(name), "role", "emperor").Err())
		if role := got[Role](t)(s.Role(t.Context(), name)); role != RoleUser {
			t.Errorf("a role of the future gives the rights of a %s", role)
		}
	})
}

func TestAccountTellsWhatIsKeptOfIt(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, name := b.open(t), unique("alice")
		for what, err := range map[string]error{
			"password": s.SetPassword(t.Context(), name, "x"), "disabled": s.SetDisabled(t.Context(), name, true),
			"key": s.SetPublicKey(t.Context(), name, "x"), "account": func() error { _, err := s.Account(t.Context(), name); return err }(),
		} {
			if !errors.Is(err, ErrNoUser) {
				t.Errorf("the %s of nobody: %v", what, err)
			}
		}
		must(t, s.CreateUser(t.Context(), name, "hash"))
		a := got[Account](t)(s.Account(t.Context(), name))
		if a.Created.IsZero() || a != (Account{Name: name, Created: a.Created}) {
			t.Errorf("a new account is %+v", a)
		}
		must(t, s.SetPassword(t.Context(), name, "new hash"))
		must(t, s.SetDisabled(t.Context(), name, true))
		must(t, s.SetPublicKey(t.Context(), name, `{"kty":"EC"}`))
		must(t, s.SetRole(t.Context(), name, RoleAdmin))
		want := Account{Name: name, Created: a.Created, Role: RoleAdmin, Disabled: true, PublicKey: `{"kty":"EC"}`}
		if a := got[Account](t)(s.Account(t.Context(), name)); a != want {
			t.Errorf("the account is %+v, want %+v", a, want)
		}
		if hash := got[string](t)(s.PasswordHash(t.Context(), name)); hash != "new hash" {
			t.Errorf("the hash is %q", hash)
		}
		must(t, s.SetDisabled(t.Context(), name, false))
		if got[Account](t)(s.Account(t.Context(), name)).Disabled {
			t.Error("the account is still disabled")
		}
	})
}

func TestUsersAreListedByPages(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, prefix := b.open(t), unique("u")
		var want []string
		for i := range 7 {
			name := fmt.Sprint(prefix, i)
			must(t, s.CreateUser(t.Context(), name, "hash"))
			want = append(want, name)
		}
		must(t, s.CreateUser(t.Context(), "a"+prefix, "hash"))
		must(t, s.client.ZAdd(t.Context(), usersKey, redis.Z{Member: prefix + "25"}).Err()) // its registration failed
		must(t, s.SetRole(t.Context(), want[1], RoleModerator))
		got[Acquired](t)(s.Acquire(t.Context(), want[4], "sid", Reject, nil))

		var names []string
		after, pages := "", 0
		for {
			users, next, err := s.Users(t.Context(), prefix, after, 3)
			must(t, err)
			pages++
			for _, u := range users {
				names = append(names, u.Name)
				if u.Online != (u.Name == want[4]) || (u.Role == RoleModerator) != (u.Name == want[1]) {
					t.Errorf("listed as %+v", u)
				}
			}
			if after = next; next == "" {
				break
			}
		}
		if !slices.Equal(names, want) || pages != 3 {
			t.Errorf("%d pages list %v, want %v", pages, names, want)
		}
		if users, _, err := s.Users(t.Context(), "", prefix, 1); err != nil || len(users) != 1 || users[0].Name != want[0] {
			t.Errorf("behind %s comes %v (%v)", prefix, users, err)
		}
		if users, next, err := s.Users(t.Context(), prefix+"x", "", 10); err != nil || len(users) != 0 || next != "" {
			t.Errorf("nobody has the prefix, but %v (%v)", users, err)
		}
	})
}

func TestFollowing(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, alice, bob := b.open(t), unique("alice"), unique("bob")
		if got[bool](t)(s.HasFollowers(t.Context(), alice)()) {
			t.Error("followed before anything")
		}
		if !got[bool](t)(s.Follow(t.Context(), alice, bob)) || got[bool](t)(s.Follow(t.Context(), alice, bob)) {
			t.Error("following is not new once and only once")
		}
		if f := got[[]string](t)(s.Following(t.Context(), bob)); !slices.Equal(f, []string{alice}) || !got[bool](t)(s.HasFollowers(t.Context(), alice)()) {
			t.Errorf("bob follows %v", f)
		}
		if !got[bool](t)(s.Unfollow(t.Context(), alice, bob)) || got[bool](t)(s.Unfollow(t.Context(), alice, bob)) {
			t.Error("unfollowing does not end it once and only once")
		}
		if f := got[[]string](t)(s.Following(t.Context(), bob)); len(f) != 0 || got[bool](t)(s.HasFollowers(t.Context(), alice)()) {
			t.Errorf("bob still follows %v", f)
		}
	})
}

func TestDirectRoomsAreRemembered(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, alice := b.open(t), unique("alice")
		rooms := []string{"@" + alice + ":bob", "@" + alice + ":carol"}
		for _, r := range []string{rooms[1], rooms[0]} {
			if !got[bool](t)(s.OpenDirect(t.Context(), alice, r)) || got[bool](t)(s.OpenDirect(t.Context(), alice, r)) {
				t.Errorf("%s is not new once and only once", r)
			}
		}
		if d := got[[]string](t)(s.Directs(t.Context(), alice)); !slices.Equal(d, rooms) {
			t.Errorf("directs are %v", d)
		}
	})
}

func TestLimitHoldsAcrossServersForAWindow(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		stores, key := []*Store{b.open(t), b.open(t)}, unique("2001:db8::1")
		const limit = 5
		for i := range 2 * limit {
			ok, retry, err := stores[i%2].Allow(t.Context(), key, limit, time.Hour)
			must(t, err)
			if ok != (i < limit) || !ok && (retry <= 0 || retry > time.Hour) {
				t.Errorf("use %d: allowed %t, retry after %s", i+1, ok, retry)
			}
		}
		if ok, _, err := stores[0].Allow(t.Context(), key, 0, time.Hour); !ok || err != nil {
			t.Errorf("without a limit: %t, %v", ok, err)
		}
		for limit, want := range map[int]bool{0: false, 2 * limit: true, 2*limit + 1: false} {
			retry := got[time.Duration](t)(stores[1].Exceeded(t.Context(), key, limit))
			if (retry > 0) != want || retry > time.Hour {
				t.Errorf("%d uses of %d: retry after %s", 2*limit, limit, retry)
			}
		}
		if b.embedded {
			return // no clock of its own
		}
		short := unique("short")
		for range 2 {
			_, _, err := stores[0].Allow(t.Context(), short, 1, 100*time.Millisecond)
			must(t, err)
		}
		await(t, "the window to end", func(ctx context.Context) bool {
			ok, _, err := stores[1].Allow(ctx, short, 1, 100*time.Millisecond)
			return ok && err == nil
		})
	})
}
