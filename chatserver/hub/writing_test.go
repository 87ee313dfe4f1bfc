package hub_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/hub"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// The tests of this file are about how frames reach connections: joined into few
// writes, in order, and with no regard for members that do not read.

func TestMessagesOfABusyRoomShareWrites(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one")
	listener := one.enters(t, "listener", "Lobby")
	var people []*person
	for i := range 8 {
		people = append(people, one.enters(t, fmt.Sprintf("user%d", i), "Lobby"))
	}
	const each = 150
	began := time.Now()
	var wg sync.WaitGroup
	for i, p := range people {
		wg.Go(func() {
			for n := range each {
				p.says(t, "Lobby", "text", fmt.Sprintf("%d-%d", i, n))
			}
		})
	}
	wg.Wait()
	listener.expectOffsets(t, "Lobby", 1, uint64(each*len(people)))
	allowed := hub.BurstsAtOnce + int(time.Since(began)/hub.BurstEvery) + 20 // and what it was told before
	if writes := listener.tr.writeCount(); writes > allowed {
		t.Errorf("%d messages took %d writes to a member, want at most %d", each*len(people), writes, allowed)
	}
}

func TestAMemberThatDoesNotReadHoldsUpACatchUpOnce(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	long := func(c *hub.Config, _ *store.Options) { c.MaxMessageBytes, c.QueueBytes = 64<<10, 1<<20 }
	one, two := start(t, r, "one", long), start(t, r, "two", long)
	alice, bob, carol := two.enters(t, "alice", "Lobby"), one.enters(t, "bob", "Lobby"), one.enters(t, "carol", "Lobby")
	t.Cleanup(carol.tr.block())
	const before, missed = 10, 600
	for n := range before { // more than half of what carol's queue takes
		alice.says(t, "Lobby", strings.Repeat("x", 60<<10), fmt.Sprint(n))
	}
	bob.expectOffsets(t, "Lobby", 1, before)
	one.Deafen("Lobby")
	for n := range missed {
		alice.says(t, "Lobby", "missed", fmt.Sprint("missed ", n))
	}
	began := time.Now()
	<-one.CatchUp("Lobby")
	bob.expectOffsets(t, "Lobby", 1, before+missed)
	if took := time.Since(began); took > 3*hub.MemberTime {
		t.Errorf("catching up took %s; a member that does not read may hold it up for %s", took, hub.MemberTime)
	}
	if !carol.tr.open() {
		t.Error("carol was cut off, and so held nothing up")
	}
}

func TestAConnectionThatTakesLittleAtATimeGetsEverythingInOrder(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	one := start(t, r, "one")
	alice := one.enters(t, "alice", "Lobby")
	tr := &dribble{recorder: recorder{changed: make(chan struct{}, 1)}}
	c, err := one.Attach(t.Context(), one.account(t, "bob"), tr, hub.AttachOptions{Full: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Detach(protocol.CloseNormal) })
	bob := &person{c, &tr.recorder}
	bob.Handle(t.Context(), protocol.Request{Type: protocol.TypeJoin, Room: "Lobby"})
	for n := range 300 {
		alice.says(t, "Lobby", strings.Repeat("x", 1+n), fmt.Sprint(n))
		bob.Handle(t.Context(), protocol.Request{Type: protocol.TypePing, ID: fmt.Sprint(n)})
	}
	bob.expectOffsets(t, "Lobby", 1, 300)
	bob.expect(t, "the last pong", func(e protocol.Event) bool { return e.Type == protocol.TypePong && e.ID == "299" })
	if n := bob.count(kind(protocol.TypePong)); n != 300 {
		t.Errorf("%d answers to 300 pings", n)
	}
}
