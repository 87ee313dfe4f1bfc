package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// addLogin begins a login that was used at some time and expires in an hour.
func addLoginAt(t *testing.T, s *Store, user, sid string, used time.Time) (dropped []string) {
	t.Helper()
	return got[[]string](t)(s.AddLogin(t.Context(), user, "", Login{
		SID: sid, Created: used, Used: used, Expires: time.Now().Add(time.Hour),
	}))
}

func TestLoginIsValidUntilItExpiresOrIsRemoved(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, user, now := b.open(t), unique("alice"), time.Now()
		addLoginAt(t, s, user, "good", now)
		addLoginAt(t, s, user, "killed", now)
		must(t, s.RemoveLogin(t.Context(), user, "killed", "one that never was"))
		must(t, s.client.HSet(t.Context(), loginsKey(user), "expired", fmt.Sprintf(`{"used":1,"expires":%d}`, now.UnixMilli()-1)).Err())
		must(t, s.client.HSet(t.Context(), loginsKey(user), "not ours", "1").Err())
		sids := []string{"good", "killed", "expired", "unknown", "not ours"}
		want := []bool{true, false, false, false, false}
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
		must(t, s.client.HDel(t.Context(), loginsKey(user), "not ours").Err())
		addLoginAt(t, s, user, "late", now) // prunes
		left := got[[]string](t)(s.client.HKeys(t.Context(), loginsKey(user)).Result())
		if slices.Sort(left); !slices.Equal(left, []string{"good", "late"}) {
			t.Errorf("kept are %v", left)
		}
	})
}

func TestLoginsAreListedAsTheyBegan(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, user := b.open(t), unique("alice")
		now := time.UnixMilli(time.Now().UnixMilli())
		older := Login{SID: "older", Created: now.Add(-time.Hour), Used: now.Add(-time.Minute), Expires: now.Add(time.Hour)}
		newer := Login{SID: "newer", Created: now, Used: now, Expires: now.Add(time.Hour), Family: "f", Address: "2001:db8::1", Agent: `a "browser" ü`}
		for _, l := range []Login{older, newer} {
			got[[]string](t)(s.AddLogin(t.Context(), user, "", l))
		}
		if logins := got[[]Login](t)(s.Logins(t.Context(), user)); !slices.Equal(logins, []Login{newer, older}) {
			t.Errorf("the logins are %+v", logins)
		}
		must(t, s.UseLogin(t.Context(), user, "older", now.Add(2*time.Hour)))
		used := got[Login](t)(s.Login(t.Context(), user, "older"))
		if !used.Expires.Equal(now.Add(2*time.Hour)) || used.Used.Before(now) || !used.Created.Equal(older.Created) {
			t.Errorf("after its use the login is %+v", used)
		}
		must(t, s.UseLogin(t.Context(), user, "older", time.Time{}))
		if l := got[Login](t)(s.Login(t.Context(), user, "older")); !l.Expires.Equal(used.Expires) {
			t.Errorf("a use that says nothing of the end made it %s", l.Expires)
		}
		if ttl := got[time.Duration](t)(s.client.PTTL(t.Context(), loginsKey(user)).Result()); ttl < 110*time.Minute {
			t.Errorf("the logins live for %s, less than one of them", ttl)
		}
		for _, err := range []error{
			s.UseLogin(t.Context(), user, "unknown", now.Add(time.Hour)),
			func() error { _, err := s.Login(t.Context(), user, "unknown"); return err }(),
		} {
			if !errors.Is(err, ErrNoLogin) {
				t.Errorf("a login that is none: %v", err)
			}
		}
	})
}

func TestLoginsOfAUserAreBounded(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, user, now := b.open(t), unique("alice"), time.Now()
		var dropped []string
		for i := range maxLogins + 10 {
			dropped = append(dropped, addLoginAt(t, s, user, fmt.Sprint(i), now.Add(time.Duration(i)*time.Second))...)
		}
		if want := []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}; !slices.Equal(dropped, want) {
			t.Errorf("dropped were %v, want those used longest ago", dropped)
		}
		for i, want := range map[int]bool{0: false, 9: false, 10: true, maxLogins + 9: true} {
			if valid := got[bool](t)(s.LoginValid(t.Context(), user, fmt.Sprint(i))); valid != want {
				t.Errorf("login %d is valid: %t", i, valid)
			}
		}
		// One that was used before all others is itself still added.
		addLoginAt(t, s, user, "old", now.Add(-time.Hour))
		if !got[bool](t)(s.LoginValid(t.Context(), user, "old")) {
			t.Error("the newcomer was dropped for the others")
		}
	})
}

func TestLoginNeedsTheAccountAsItWasWhenItProvedItself(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, user := b.open(t), unique("alice")
		must(t, s.CreateUser(t.Context(), user, "hash"))
		add := func(sid, proof string) error {
			_, err := s.AddLogin(t.Context(), user, proof, Login{SID: sid, Expires: time.Now().Add(time.Hour)})
			return err
		}
		must(t, add("a", "hash"))
		must(t, s.SetPassword(t.Context(), user, "other hash"))
		if err := add("b", "hash"); !errors.Is(err, ErrChanged) {
			t.Errorf("with the password from before: %v", err)
		}
		must(t, s.SetDisabled(t.Context(), user, true))
		for _, proof := range []string{"other hash", ""} {
			if err := add("c", proof); !errors.Is(err, ErrDisabled) {
				t.Errorf("to a disabled account: %v", err)
			}
		}
		must(t, s.SetDisabled(t.Context(), user, false))
		must(t, add("d", "other hash"))
		for sid, want := range map[string]bool{"a": true, "b": false, "c": false, "d": true} {
			if valid := got[bool](t)(s.LoginValid(t.Context(), user, sid)); valid != want {
				t.Errorf("login %s is valid: %t", sid, valid)
			}
		}
	})
}

func TestRefreshTokenIsGoodOnceAndOnceMoreForALostAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, family := b.open(t), unique("family")
		login := UserSID{unique("alice"), "sid"}
		rotate := func(presented, next string) error {
			return s.RotateRefresh(t.Context(), family, presented, next, time.Hour)
		}
		if err := rotate("s1", "s2"); !errors.Is(err, ErrNoFamily) {
			t.Errorf("before there is a family: %v", err)
		}
		must(t, s.AddRefresh(t.Context(), family, "s1", login, time.Minute))
		if l := got[UserSID](t)(s.RefreshLogin(t.Context(), family)); l != login {
			t.Errorf("the family is of %+v", l)
		}
		must(t, rotate("s1", "s2"))
		if ttl := got[time.Duration](t)(s.client.PTTL(t.Context(), refreshKey(family)).Result()); ttl < 50*time.Minute {
			t.Errorf("a family that was used lives for %s", ttl)
		}
		must(t, rotate("s1", "s2")) // as when go-redis sends it twice
		must(t, rotate("s1", "s3")) // as when the client lost the answer
		must(t, rotate("s3", "s4"))
		// s2 was given out and nobody had to have it: who comes with it now is not the
		// one who has gone on to s4.
		for _, secret := range []string{"s2", "s4", "s3"} {
			if err := rotate(secret, "s5"); !errors.Is(err, ErrReused) {
				t.Errorf("%s, at or after a reuse: %v", secret, err)
			}
		}
	})
}

func TestSecretIsRefusedOnceItsGraceIsOver(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, family := b.open(t), unique("family")
		must(t, s.AddRefresh(t.Context(), family, "s1", UserSID{"alice", "sid"}, time.Hour))
		must(t, s.RotateRefresh(t.Context(), family, "s1", "s2", time.Hour))
		long := time.Now().Add(-rotateGrace - time.Second).UnixMilli()
		must(t, s.client.HSet(t.Context(), refreshKey(family), "rotated", long).Err())
		if err := s.RotateRefresh(t.Context(), family, "s1", "s3", time.Hour); !errors.Is(err, ErrReused) {
			t.Errorf("got %v, want ErrReused", err)
		}
	})
}

func TestRefreshTokensEndWithTheirLogin(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, user := b.open(t), unique("alice")
		for _, sid := range []string{"a", "b", "c"} {
			l := Login{SID: sid, Family: user + sid, Expires: time.Now().Add(time.Hour)}
			got[[]string](t)(s.AddLogin(t.Context(), user, "", l))
			must(t, s.AddRefresh(t.Context(), l.Family, "s1", UserSID{user, sid}, time.Hour))
		}
		must(t, s.RemoveLogin(t.Context(), user, "a", "b"))
		for sid, want := range map[string]error{"a": ErrNoFamily, "b": ErrNoFamily, "c": nil} {
			if err := s.RotateRefresh(t.Context(), user+sid, "s1", "s2", time.Hour); !errors.Is(err, want) {
				t.Errorf("a refresh token of %s: %v, want %v", sid, err, want)
			}
		}
	})
}

func TestOfManyRotationsWithOneSecretOneStays(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		stores, family := []*Store{b.open(t), b.open(t)}, unique("family")
		must(t, stores[0].AddRefresh(t.Context(), family, "s1", UserSID{"alice", "sid"}, time.Hour))
		const many = 20
		errs := make(chan error, many)
		for i := range many {
			go func() {
				errs <- stores[i%2].RotateRefresh(context.WithoutCancel(t.Context()), family, "s1", fmt.Sprint("next", i), time.Hour)
			}()
		}
		for range many {
			must(t, <-errs) // all within the grace
		}
		good := 0
		present := got[string](t)(stores[0].client.HGet(t.Context(), refreshKey(family), "current").Result())
		for i := range many {
			if fmt.Sprint("next", i) == present {
				good++
			}
		}
		if good != 1 {
			t.Errorf("%d of the secrets given out are the present one (%s)", good, present)
		}
	})
}
