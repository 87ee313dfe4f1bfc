package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestRollingChangeLosesNothing replaces every chat pod while people talk.
func TestRollingChangeLosesNothing(t *testing.T) {
	c := start(t, routed, unlimited)
	before := make(map[string]bool)
	for _, pod := range c.mustPods(t, "server") {
		before[pod.Name] = true
	}
	talk := c.converse(t, 20, 40)
	talk.everyoneHears(t, 30*time.Second)

	c.apply(t, routed, unlimited, `server: {resources: {requests: {cpu: 100m, memory: 100Mi}, limits: {memory: 500Mi}}}`)
	took := eventually(t, 5*time.Minute, "every chat pod to be replaced and gone", func(ctx context.Context) error {
		pods, err := c.pods(ctx, "server")
		if err != nil {
			return err
		}
		for _, pod := range pods {
			if before[pod.Name] {
				return fmt.Errorf("pod %s is still there", pod.Name)
			}
		}
		return nil
	})
	c.waitServers(t, len(before))
	c.waitReady(t, time.Minute)
	t.Logf("every chat pod was replaced, and the old ones gone, after %v", took.Round(time.Second))
	talk.everyoneHears(t, time.Minute)
	pause(t, 5*time.Second)
	talk.finish(t)

	for code, n := range talk.breaks() {
		if code != websocket.StatusServiceRestart {
			t.Errorf("%d connections ended with code %d: a pod that leaves closes with 1012", n, code)
		}
	}
	if talk.breaks()[websocket.StatusServiceRestart] < len(talk.members) {
		t.Errorf("%v: not every client was asked to connect again", talk.breaks())
	}
	cc, err := c.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cc.Status.LastRoll == nil || cc.Status.LastRoll.Reason != "server.resources" {
		t.Errorf("status.lastRoll is %+v; the reason is server.resources", cc.Status.LastRoll)
	}
	if events := c.events(t.Context()); !strings.Contains(events, "server.resources") {
		t.Errorf("no event tells why the pods were replaced:\n%s", events)
	}
}
