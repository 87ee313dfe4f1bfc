package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// elastic follows its load within seconds, where a real one takes its time.
const elastic = `
server:
  resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 256Mi}}
  drain: {window: 5s}
  autoscaling:
    minReplicas: 2
    maxReplicas: 4
    targetCPU: 40
    behavior:
      scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 1, periodSeconds: 10}]}
      scaleDown: {stabilizationWindowSeconds: 15, policies: [{type: Pods, value: 1, periodSeconds: 10}]}`

// maxIdleCPU is what little talk may take, in percent of the CPU request: below
// the target of elastic by enough that it brings no third chat pod.
const maxIdleCPU = 35

// TestAutoscalerFollowsTheConversation: as people talk more, chat pods are
// added; as they talk less, removed; and nobody misses a word.
func TestAutoscalerFollowsTheConversation(t *testing.T) {
	c := start(t, routed, unlimited, elastic)
	talk := c.converse(t, 40, 8)
	talk.everyoneHears(t, 30*time.Second)
	eventually(t, 4*time.Minute, "the autoscaler to find two chat pods enough for little talk", func(ctx context.Context) error {
		if err := c.autoscalerWants(ctx, 2); err != nil {
			return err
		}
		return c.serversAre(ctx, func(ready int32) bool { return ready == 2 })
	})

	talk.speed(160)
	up := eventually(t, 3*time.Minute, "the load to bring a third chat pod that takes clients", func(ctx context.Context) error {
		return c.serversAre(ctx, func(ready int32) bool { return ready > 2 })
	})
	t.Logf("under load the third chat pod takes clients after %v", up.Round(time.Second))
	// Each pod is to have clients, whichever leaves first: people come until it is so.
	eventually(t, 2*time.Minute, "people to come to every chat pod", func(ctx context.Context) error {
		spread, err := c.spread(ctx, "websocket")
		if err != nil {
			return err
		}
		t.Logf("the pods have the clients %v", spread)
		if len(spread) > 2 && fewest(spread) > 0 {
			return nil
		}
		if len(talk.members) < 120 {
			talk.add(t, 10)
		}
		return fmt.Errorf("they have the clients %v", spread)
	})

	talk.speed(8)
	down := eventually(t, 5*time.Minute, "the end of the load to bring the number back to 2", func(ctx context.Context) error {
		return c.serversAre(ctx, func(ready int32) bool { return ready == 2 })
	})
	t.Logf("two chat pods are left, and the others gone, %v after the load", down.Round(time.Second))
	talk.everyoneHears(t, time.Minute)
	talk.finish(t)
	if talk.breaks()[websocket.StatusServiceRestart] == 0 {
		t.Errorf("no client was on the pod that left (%v): this test has shown nothing", talk.breaks())
	}
	if spread, err := c.spread(t.Context(), "websocket"); err != nil || sum(spread) != len(talk.members) {
		t.Errorf("in the end the pods have the clients %v (%v); there are %d", spread, err, len(talk.members))
	}
}

// autoscalerWants says whether the autoscaler has measured and wants n chat pods.
func (c *chat) autoscalerWants(ctx context.Context, n int32) error {
	var hpa autoscalingv2.HorizontalPodAutoscaler
	if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: c.name + "-server"}, &hpa); err != nil {
		return err
	}
	for _, m := range hpa.Status.CurrentMetrics {
		if m.Resource == nil || m.Resource.Current.AverageUtilization == nil {
			continue
		}
		if used := *m.Resource.Current.AverageUtilization; hpa.Status.DesiredReplicas != n || used > maxIdleCPU {
			return fmt.Errorf("it measures %d%% and wants %d", used, hpa.Status.DesiredReplicas)
		}
		return nil
	}
	return errors.New("it has measured nothing yet")
}

// serversAre says whether there are enough chat pods, all ready and none on its
// way out.
func (c *chat) serversAre(ctx context.Context, enough func(ready int32) bool) error {
	cc, err := c.get(ctx)
	if err != nil {
		return err
	}
	pods, err := c.pods(ctx, "server")
	if err != nil {
		return err
	}
	if ready := cc.Status.ReadyReplicas; ready != cc.Status.Replicas || len(pods) != int(ready) || !enough(ready) {
		return fmt.Errorf("there are %d chat pods; %d are to stay and %d of them ready", len(pods), cc.Status.Replicas, ready)
	}
	return nil
}

// fewest is how many clients the pod with the fewest has.
func fewest(spread map[string]int) int {
	return slices.Min(slices.Collect(maps.Values(spread)))
}

func sum(spread map[string]int) int {
	n := 0
	for _, clients := range spread {
		n += clients
	}
	return n
}
