package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
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

func TestLoginIsValidUntilItExpiresOrIsRemoved(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, user := b.open(t), unique("alice")
		soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
		must(t, s.AddLogin(t.Context(), user, "good", soon))
		must(t, s.AddLogin(t.Context(), user, "killed", soon))
		must(t, s.RemoveLogin(t.Context(), user, "killed"))
		must(t, s.client.HSet(t.Context(), loginsKey(user), "expired", past.UnixMilli()).Err())
		sids := []string{"good", "killed", "expired", "unknown"}
		want := []bool{true, false, false, false}
		var all []UserSID
		for i, sid := range sids {
			if valid := got[bool](t)(s.LoginValid(t.Context(), user, sid)); valid != want[i] {
				t.Errorf("%s is valid: %t", sid, valid)
			}
			all = append(all, UserSID{user, sid})
		}
		if valid := got[[]bool](t)(s.LoginsValid(t.Context(), all)); !slices.Equal(valid, want) {
			t.Errorf("together: %v", valid)
		}
		must(t, s.AddLogin(t.Context(), user, "late", past)) // prunes
		if left := got[[]string](t)(s.client.HKeys(t.Context(), loginsKey(user)).Result()); !slices.Equal(left, []string{"good"}) {
			t.Errorf("kept are %v", left)
		}
	})
}

func TestLoginsOfAUserAreBounded(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, user := b.open(t), unique("alice")
		for i := range maxLogins + 10 {
			must(t, s.AddLogin(t.Context(), user, fmt.Sprint(i), time.Now().Add(time.Hour+time.Duration(i)*time.Second)))
		}
		for i, want := range map[int]bool{0: false, 9: false, 10: true, maxLogins + 9: true} {
			if valid := got[bool](t)(s.LoginValid(t.Context(), user, fmt.Sprint(i))); valid != want {
				t.Errorf("login %d is valid: %t", i, valid)
			}
		}
		// One that expires first of all is itself still added.
		must(t, s.AddLogin(t.Context(), user, "short", time.Now().Add(time.Minute)))
		if !got[bool](t)(s.LoginValid(t.Context(), user, "short")) {
			t.Error("a short login was dropped for the long ones")
		}
		if ttl := got[time.Duration](t)(s.client.PTTL(t.Context(), loginsKey(user)).Result()); ttl <= 0 {
			t.Errorf("the logins live for %s", ttl)
		}
	})
}

func TestFollowing(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, alice, bob := b.open(t), unique("alice"), unique("bob")
		if got[bool](t)(s.HasFollowers(t.Context(), alice)) {
			t.Error("followed before anything")
		}
		if !got[bool](t)(s.Follow(t.Context(), alice, bob)) || got[bool](t)(s.Follow(t.Context(), alice, bob)) {
			t.Error("following is not new once and only once")
		}
		if f := got[[]string](t)(s.Following(t.Context(), bob)); !slices.Equal(f, []string{alice}) || !got[bool](t)(s.HasFollowers(t.Context(), alice)) {
			t.Errorf("bob follows %v", f)
		}
		if !got[bool](t)(s.Unfollow(t.Context(), alice, bob)) || got[bool](t)(s.Unfollow(t.Context(), alice, bob)) {
			t.Error("unfollowing does not end it once and only once")
		}
		if f := got[[]string](t)(s.Following(t.Context(), bob)); len(f) != 0 || got[bool](t)(s.HasFollowers(t.Context(), alice)) {
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
