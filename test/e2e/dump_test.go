package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// dumpIfFailed writes to the test's log what a person would ask for first.
func (c *chat) dumpIfFailed(t *testing.T) {
	if !t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if cc, err := c.get(ctx); err != nil {
		t.Logf("ChatCluster: %v", err)
	} else {
		cc.ManagedFields = nil
		text, _ := yaml.Marshal(cc)
		t.Logf("ChatCluster:\n%s", text)
	}
	t.Logf("events:\n%s", c.events(ctx))
	c.dumpPods(ctx, t, c.namespace, 40)
	c.dumpPods(ctx, t, operatorNamespace, 60)
}

func (c *chat) events(ctx context.Context) string {
	var list corev1.EventList
	if err := c.List(ctx, &list, client.InNamespace(c.namespace)); err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, e := range list.Items {
		fmt.Fprintf(&text, "  %s %s/%s: %s: %s\n", e.Type, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
	}
	return text.String()
}

// dumpPods shows each pod's state and the end of its logs, and of those of the
// container before if it restarted.
func (c *cluster) dumpPods(ctx context.Context, t *testing.T, namespace string, lines int64) {
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		t.Logf("pods of %s: %v", namespace, err)
		return
	}
	for _, pod := range list.Items {
		t.Logf("pod %s/%s is %s", namespace, pod.Name, pod.Status.Phase)
		for _, s := range pod.Status.ContainerStatuses {
			t.Logf("container %s: ready %v, restarts %d, state %+v\n%s", s.Name, s.Ready, s.RestartCount, s.State, c.logs(ctx, pod, s.Name, lines, false))
			if s.RestartCount > 0 {
				t.Logf("before its last restart:\n%s", c.logs(ctx, pod, s.Name, lines, true))
			}
		}
	}
}

func (c *cluster) logs(ctx context.Context, pod corev1.Pod, container string, lines int64, previous bool) string {
	text, err := c.kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
		Container: container, TailLines: ptr.To(lines), Previous: previous,
	}).DoRaw(ctx)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
