package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// liveServers is what a server passes to Acquire.
func liveServers(t *testing.T, s *Store) []string {
	t.Helper()
	live, _, err := s.Servers(t.Context())
	must(t, err)
	return live
}

func TestPolicyOfASecondLogin(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		one, two := b.open(t), b.open(t)
		for _, c := range []struct {
			policy   Policy
			err      error
			replaced []string
		}{
			{Reject, ErrOnline, nil},
			{Replace, nil, []string{"first"}},
			{Allow, nil, nil},
			{AllowMost(1), ErrOnline, nil},
			{AllowMost(2), nil, nil},
		} {
			user := unique("alice")
			got[Acquired](t)(one.Acquire(t.Context(), user, "first", c.policy, nil))
			a, err := two.Acquire(t.Context(), user, "second", c.policy, nil)
			if !errors.Is(err, c.err) || !slices.Equal(a.Replaced, c.replaced) {
				t.Errorf("policy %+v: %+v, %v", c.policy, a, err)
			}
			if held := got[bool](t)(one.client.SIsMember(t.Context(), heldKey(two.Name()), sessionMarker(user, "second")).Result()); held != (err == nil) {
				t.Errorf("policy %+v: the newcomer's marker is there: %t", c.policy, held)
			}
		}
	})
}

func TestSessionsOfAUserAreCountedOnAllServersAndACrashGivesThemBack(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		one, two, user, three := b.open(t), b.open(t), unique("alice"), AllowMost(3)
		got[Acquired](t)(one.Acquire(t.Context(), user, "a", three, nil))
		got[Acquired](t)(one.Acquire(t.Context(), user, "b", three, nil))
		got[Acquired](t)(two.Acquire(t.Context(), user, "b", three, nil)) // one session, wherever it is held
		got[Acquired](t)(two.Acquire(t.Context(), user, "c", three, nil))
		if _, err := two.Acquire(t.Context(), user, "d", three, nil); !errors.Is(err, ErrOnline) {
			t.Errorf("a fourth session: %v", err)
		}
		got[Acquired](t)(two.Acquire(t.Context(), user, "a", three, nil)) // it is online already
		must(t, two.Release(t.Context(), user, "a"))
		crash(t, one)
		got[Acquired](t)(two.Acquire(t.Context(), user, "d", three, liveServers(t, two))) // a went with the server
		if _, err := two.Acquire(t.Context(), user, "e", three, nil); !errors.Is(err, ErrOnline) {
			t.Errorf("beside b, c and d: %v", err)
		}
	})
}

func TestSameSessionIsNeverRefused(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		one, two, user := b.open(t), b.open(t), unique("alice")
		for _, s := range []*Store{one, one, two, one} { // reconnects, here and there
			got[Acquired](t)(s.Acquire(t.Context(), user, "sid", Reject, nil))
		}
		must(t, one.Release(t.Context(), user, "sid"))
		if _, err := one.Acquire(t.Context(), user, "other", Reject, nil); !errors.Is(err, ErrOnline) {
			t.Errorf("the session is held by one server still, but another got in: %v", err)
		}
		must(t, two.Release(t.Context(), user, "sid"))
		got[Acquired](t)(one.Acquire(t.Context(), user, "other", Reject, nil))
	})
}

func TestSessionTellsOfItsUserAndEndsWithTheLastHold(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		one, two, user := b.open(t), b.open(t), unique("alice")
		must(t, one.SetRoom(t.Context(), user, "lobby"))
		if n := got[int64](t)(one.client.Exists(t.Context(), sessionKey(user)).Result()); n != 0 {
			t.Error("a user who is offline got a session by a room")
		}
		got[Acquired](t)(one.Acquire(t.Context(), user, "a", Allow, nil))
		got[Acquired](t)(two.Acquire(t.Context(), user, "b", Allow, nil))
		must(t, one.SetRoom(t.Context(), user, "lobby"))
		must(t, two.Release(t.Context(), user, "b"))
		session := got[map[string]string](t)(one.client.HGetAll(t.Context(), sessionKey(user)).Result())
		if session["status"] != "online" || session["room"] != "lobby" || session["server"] != one.Name() || session["since"] == "" {
			t.Errorf("session is %v", session)
		}
		must(t, one.Release(t.Context(), user, "a"))
		must(t, one.Release(t.Context(), user, "a")) // idempotent
		if n := got[int64](t)(one.client.Exists(t.Context(), sessionKey(user), sessionHeldKey(user)).Result()); n != 0 {
			t.Error("the session outlives its last hold")
		}
	})
}

func TestCrashedServerRefusesNobody(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		dead, s, user := b.open(t), b.open(t), unique("alice")
		got[Acquired](t)(dead.Acquire(t.Context(), user, "old", Reject, nil))
		stale := liveServers(t, s)
		crash(t, dead)
		if _, err := s.Acquire(t.Context(), user, "new", Reject, stale); !errors.Is(err, ErrOnline) {
			t.Fatalf("while the server counts as live: %v", err)
		}
		got[Acquired](t)(s.Acquire(t.Context(), user, "new", Reject, liveServers(t, s))) // before any sweep
	})
}

func TestStaleListOfServersDropsNoLiveHold(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s := b.open(t)
		stale := []string{s.Name()}
		young, user := b.open(t), unique("alice")
		got[Acquired](t)(young.Acquire(t.Context(), user, "a", Reject, nil))
		if _, err := s.Acquire(t.Context(), user, "b", Reject, stale); !errors.Is(err, ErrOnline) {
			t.Errorf("a server that is not on the list lost its session: %v", err)
		}
	})
}

func TestUserIsInARoomUntilTheLastServerLetsGo(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		one, two, room := b.open(t), b.open(t), unique("room")
		for i, step := range []struct {
			do   func(context.Context, string, string) (bool, error)
			want bool
		}{
			{one.Enter, true}, {one.Enter, false}, {two.Enter, false},
			{one.Exit, false}, {one.Exit, false}, {two.Exit, true}, {two.Exit, false}, {two.Enter, true},
		} {
			if changed := got[bool](t)(step.do(t.Context(), room, "alice")); changed != step.want {
				t.Errorf("step %d returned %t", i, changed)
			}
		}
		users, total, err := one.Members(t.Context(), room, 0)
		must(t, err)
		if !slices.Equal(users, []string{"alice"}) || total != 1 {
			t.Errorf("members are %v, %d", users, total)
		}
	})
}

func TestMembersAreSortedAndLimited(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		for i := range 20 {
			got[bool](t)(s.Enter(t.Context(), room, fmt.Sprint("user", 99-i)))
		}
		for limit, want := range map[int]int{0: 20, 5: 5, 20: 20, 30: 20} {
			users, total, err := s.Members(t.Context(), room, limit)
			must(t, err)
			if len(slices.Compact(users)) != want || total != 20 || !slices.IsSorted(users) {
				t.Errorf("limit %d: %v of %d", limit, users, total)
			}
		}
	})
}

func TestRoomsCountsUsersAndForgetsEmptyRooms(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s := b.open(t)
		big, small, empty, direct := unique("big"), unique("small"), unique("empty"), "@"+unique("alice")+":bob"
		for room, users := range map[string][]string{big: {"a", "b", "c"}, small: {"a"}, empty: {"a"}, direct: {"a", "b"}} {
			for _, u := range users {
				got[bool](t)(s.Enter(t.Context(), room, u))
			}
		}
		got[bool](t)(s.Exit(t.Context(), empty, "a"))
		rooms := got[[]RoomInfo](t)(s.Rooms(t.Context()))
		count := map[string]int{}
		for _, r := range rooms {
			count[r.Name] = r.Users
		}
		if count[big] != 3 || count[small] != 1 || count[empty] != 0 || count[direct] != 0 {
			t.Errorf("rooms are %v", rooms)
		}
		if !slices.IsSortedFunc(rooms, func(a, b RoomInfo) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) }) {
			t.Errorf("rooms are not sorted: %v", rooms)
		}
		if err := s.client.ZScore(t.Context(), roomsKey, empty).Err(); err == nil {
			t.Error("the index still has the empty room")
		}
		got[bool](t)(s.Enter(t.Context(), empty, "b"))
		if !slices.ContainsFunc(got[[]RoomInfo](t)(s.Rooms(t.Context())), func(r RoomInfo) bool { return r.Name == empty && r.Users == 1 }) {
			t.Error("the room is not back")
		}
	})
}

func TestRoomEnteredWhileItWasFoundEmptyIsNotForgotten(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		got[bool](t)(s.Enter(t.Context(), room, "alice"))
		score := got[float64](t)(s.client.ZScore(t.Context(), roomsKey, room).Result())
		got[bool](t)(s.Enter(t.Context(), room, "bob"))
		must(t, s.forgetRooms(t.Context(), []any{room, score}))
		must(t, s.client.ZScore(t.Context(), roomsKey, room).Err())
	})
}

// populate has s hold n users: each a session, all in one room, and each in one of their own.
func populate(t *testing.T, s *Store, room string, n int) (users []string) {
	t.Helper()
	for range n {
		user := unique("user")
		got[Acquired](t)(s.Acquire(t.Context(), user, "sid", Reject, nil))
		got[bool](t)(s.Enter(t.Context(), room, user))
		got[bool](t)(s.Enter(t.Context(), "home_"+user, user))
		users = append(users, user)
	}
	return users
}

func TestSweepRestoresWhatACrashLeft(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		const users = 120 // more markers than one round takes
		dead, s, room := b.open(t), b.open(t), unique("room")
		held := populate(t, dead, room, users)
		both := held[0] // also held by the survivor
		got[Acquired](t)(s.Acquire(t.Context(), both, "sid", Reject, nil))
		got[bool](t)(s.Enter(t.Context(), room, both))

		if swept := got[Swept](t)(s.Sweep(t.Context(), dead.Name())); swept.Users != 0 || len(swept.Rooms) != 0 {
			t.Fatalf("a server that lives was swept: %+v", swept)
		}
		crash(t, dead)
		if _, d, err := s.Servers(t.Context()); err != nil || !slices.Contains(d, dead.Name()) {
			t.Fatalf("dead servers are %v, %v", d, err)
		}
		swept := got[Swept](t)(s.Sweep(t.Context(), dead.Name()))
		if swept.Users != users-1 || len(swept.Rooms) != users+1 || !slices.IsSorted(swept.Rooms) {
			t.Errorf("swept %d users and %d rooms, want %d and %d", swept.Users, len(swept.Rooms), users-1, users+1)
		}
		if again := got[Swept](t)(s.Sweep(t.Context(), dead.Name())); again.Users != 0 || len(again.Rooms) != 0 {
			t.Errorf("a second sweep found %+v", again)
		}
		left, _, err := s.Members(t.Context(), room, 0)
		must(t, err)
		if !slices.Equal(left, []string{both}) {
			t.Errorf("in the room are %v, want only %s", left, both)
		}
		assertSwept(t, s, dead.Name(), held[1:])
	})
}

func assertSwept(t *testing.T, s *Store, server string, users []string) {
	t.Helper()
	live, dead, err := s.Servers(t.Context())
	must(t, err)
	if slices.Contains(dead, server) || slices.Contains(live, server) {
		t.Error("the server is still listed")
	}
	for _, user := range users {
		for _, key := range []string{sessionKey(user), sessionHeldKey(user), roomKey("home_" + user), presenceKey("home_" + user), heldKey(server)} {
			if n := got[int64](t)(s.client.Exists(t.Context(), key).Result()); n != 0 {
				t.Fatalf("%s is left", key)
			}
		}
	}
}

func TestSurvivorsThatRaceSweepEachThingOnce(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		const users = 100
		dead, room := b.open(t), unique("room")
		held := populate(t, dead, room, users)
		crash(t, dead)
		survivors := []*Store{b.open(t), b.open(t), b.open(t)}
		var mu sync.Mutex
		var total Swept
		homes := map[string]int{}
		var wg sync.WaitGroup
		for _, s := range survivors {
			wg.Go(func() {
				swept, err := s.Sweep(t.Context(), dead.Name())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				total.Users += swept.Users
				for _, r := range swept.Rooms {
					homes[r]++
				}
			})
		}
		wg.Wait()
		if total.Users != users {
			t.Errorf("together they swept %d users, want %d", total.Users, users)
		}
		for _, user := range held {
			if homes["home_"+user] != 1 {
				t.Errorf("the room of %s was told %d times", user, homes["home_"+user])
			}
		}
		assertSwept(t, survivors[0], dead.Name(), held)
	})
}

func TestSweepThatWasCutOffIsCompletedByTheNext(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		dead, s, room := b.open(t), b.open(t), unique("room")
		held := populate(t, dead, room, 20)
		crash(t, dead)
		// The sweeper died between removing things and removing their markers.
		_, err := s.sweepCalls(t.Context(), dead.Name(), []string{roomMarker(room, held[0]), sessionMarker(held[0], "sid")}, map[string]bool{})
		must(t, err)
		got[Swept](t)(s.Sweep(t.Context(), dead.Name()))
		assertSwept(t, s, dead.Name(), held)
	})
}

func TestLapsedServerLearnsItAndStartsANewLife(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, other, user, room := b.open(t), b.open(t), unique("alice"), unique("room")
		must(t, s.Heartbeat(t.Context(), time.Minute))
		got[bool](t)(s.Enter(t.Context(), room, user))
		before := s.Name()
		crash(t, s)
		if _, err := s.Enter(t.Context(), room, "bob"); !errors.Is(err, ErrLapsed) {
			t.Errorf("Enter while lapsed: %v", err)
		}
		if _, err := s.Acquire(t.Context(), user, "sid", Reject, nil); !errors.Is(err, ErrLapsed) {
			t.Errorf("Acquire while lapsed: %v", err)
		}
		if err := s.Heartbeat(t.Context(), time.Minute); !errors.Is(err, ErrLapsed) {
			t.Fatalf("Heartbeat after the lapse: %v", err)
		}
		if s.Name() == before {
			t.Error("the new life has the old name: a sweep under way would hit it")
		}
		must(t, s.Heartbeat(t.Context(), time.Minute))
		// The caller holds on to what it has, under the new name, while a slow survivor sweeps
		// the old one.
		if first := got[bool](t)(s.Enter(t.Context(), room, user)); first {
			t.Error("the user counted as absent before the sweep")
		}
		got[Swept](t)(other.Sweep(t.Context(), before))
		users, _, err := other.Members(t.Context(), room, 0)
		must(t, err)
		if !slices.Equal(users, []string{user}) {
			t.Errorf("after the sweep of the old life the room has %v", users)
		}
	})
}

func TestRenewedServerLosesOnlyWhatItDoesNotHold(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		s, room := b.open(t), unique("room")
		held := populate(t, s, room, 2)
		before := s.Name()
		must(t, s.Renew(t.Context(), time.Minute))
		got[Acquired](t)(s.Acquire(t.Context(), held[0], "sid", Reject, nil))
		if got[bool](t)(s.Enter(t.Context(), room, held[0])) || got[bool](t)(s.Enter(t.Context(), "home_"+held[0], held[0])) {
			t.Error("a user who stayed was seen to go")
		}
		swept := got[Swept](t)(s.Sweep(t.Context(), before))
		if swept.Users != 1 || len(swept.Rooms) != 2 {
			t.Errorf("swept %+v, want the user who is gone", swept)
		}
		assertSwept(t, s, before, held[1:])
		users, _, err := s.Members(t.Context(), room, 0)
		must(t, err)
		if !slices.Equal(users, held[:1]) {
			t.Errorf("the room has %v", users)
		}
		must(t, s.Heartbeat(t.Context(), time.Minute))
	})
}

func TestHeartbeatRunsOutByItself(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		if b.embedded {
			t.Skip("miniredis has no clock of its own")
		}
		s, other := b.open(t), b.open(t)
		must(t, s.Heartbeat(t.Context(), 200*time.Millisecond))
		await(t, "the heartbeat to run out", func(ctx context.Context) bool {
			_, dead, err := other.Servers(ctx)
			return err == nil && slices.Contains(dead, s.Name())
		})
	})
}

func TestNextProcessWithTheSameIDSweepsTheFormer(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		id, room := unique("pod.with.dots"), unique("room")
		same := func(o *Options) { o.ServerID = id }
		longer := b.open(t, func(o *Options) { o.ServerID = id + ".longer" })
		former := b.open(t, same)
		held := populate(t, former, room, 3) // and then it is killed, and its container restarts
		s := b.open(t, same)
		if in := s.Inherited(); in.Users != 3 || len(in.Rooms) != 4 {
			t.Errorf("inherited %+v", in)
		}
		got[Acquired](t)(s.Acquire(t.Context(), held[0], "another login", Reject, nil))
		if live := liveServers(t, s); slices.Contains(live, former.Name()) || !slices.Contains(live, longer.Name()) {
			t.Errorf("live are %v", live)
		}
	})
}

func TestGoodbyeLeavesNothingButWhatIsHeld(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		tidy, hasty, s := b.open(t), b.open(t), b.open(t)
		got[bool](t)(hasty.Enter(t.Context(), unique("room"), "alice"))
		must(t, tidy.Goodbye(t.Context()))
		must(t, hasty.Goodbye(t.Context()))
		live, dead, err := s.Servers(t.Context())
		must(t, err)
		all := slices.Concat(live, dead)
		if slices.Contains(all, tidy.Name()) || !slices.Contains(dead, hasty.Name()) {
			t.Errorf("live %v, dead %v; %s held something", live, dead, hasty.Name())
		}
		if err := tidy.Heartbeat(t.Context(), time.Minute); !errors.Is(err, ErrClosed) {
			t.Errorf("a heartbeat after goodbye: %v", err)
		}
	})
}

func TestToolWithoutAnIDIsNoServer(t *testing.T) {
	onEach(t, func(t *testing.T, b *backend) {
		tool := b.open(t, func(o *Options) { o.ServerID = "" })
		if live := liveServers(t, tool); slices.Contains(live, tool.Name()) {
			t.Error("the tool is listed as a server")
		}
		if _, err := tool.Enter(t.Context(), "lobby", "alice"); !errors.Is(err, ErrLapsed) {
			t.Errorf("the tool entered a room: %v", err)
		}
	})
}
