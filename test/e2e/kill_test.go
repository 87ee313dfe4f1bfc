package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestKilledPodLosesNothing ends pods without warning while 50 people talk.
func TestKilledPodLosesNothing(t *testing.T) {
	c := start(t, routed, unlimited)
	for _, end := range []struct {
		name, component, process string // no process: the pod is deleted
	}{
		{"chat pod deleted without grace", "server", ""},
		{"chat server killed", "server", "chatserver"},
		{"Redis killed", "redis", "redis-server"},
	} {
		t.Run(end.name, func(t *testing.T) {
			talk := c.converse(t, 50, 100)
			talk.everyoneHears(t, 30*time.Second)
			pause(t, 5*time.Second) // of talk, which the end of the pod interrupts
			pod := c.mustPods(t, end.component)[0]
			if end.component == "server" {
				pod = c.busiest(t)
			}
			if end.process == "" {
				c.deleteNow(t, pod)
			} else {
				c.killProcess(t, pod, end.process)
			}
			pause(t, 15*time.Second)
			talk.everyoneHears(t, time.Minute)
			talk.finish(t)
			if end.component == "server" && len(talk.breaks()) == 0 {
				t.Error("no connection ended: the pod was not killed")
			}
			talk.close()
			c.waitReady(t, 2*time.Minute)
			c.waitServers(t, 2)
		})
	}
}

// pause lets the conversation go on for a while.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}

// busiest is the chat pod with the most clients.
func (c *chat) busiest(t *testing.T) (pod corev1.Pod) {
	t.Helper()
	clients := 0
	for _, p := range c.mustPods(t, "server") {
		n, err := c.connections(t.Context(), p.Name, "websocket")
		if err != nil {
			t.Fatal(err)
		}
		if n > clients {
			pod, clients = p, n
		}
	}
	if clients == 0 {
		t.Fatal("no chat pod has a client")
	}
	t.Logf("pod %s has %d clients", pod.Name, clients)
	return pod
}

// waitServers waits until exactly n chat pods are there and take clients.
func (c *chat) waitServers(t *testing.T, n int) time.Duration {
	t.Helper()
	return eventually(t, 3*time.Minute, fmt.Sprintf("%d chat pods", n), func(ctx context.Context) error {
		cc, err := c.get(ctx)
		if err != nil {
			return err
		}
		if int(cc.Status.Replicas) != n || int(cc.Status.ReadyReplicas) != n {
			return fmt.Errorf("there are %d, %d of them ready", cc.Status.Replicas, cc.Status.ReadyReplicas)
		}
		return nil
	})
}

func (c *chat) deleteNow(t *testing.T, pod corev1.Pod) {
	t.Helper()
	if err := c.Delete(t.Context(), &pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatalf("delete pod %s: %v", pod.Name, err)
	}
}

// killProcess kills a process of the pod as the kernel does when memory is
// short: it gets no say. The pod's processes are this machine's, in a cgroup
// that has the pod's uid in its name.
func (c *chat) killProcess(t *testing.T, pod corev1.Pod, process string) {
	t.Helper()
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range groups {
		group, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(group, []byte("pod"+string(pod.UID))) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(filepath.Dir(file), "comm"))
		if err != nil || strings.TrimSpace(string(name)) != process {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s of pod %s: %v", process, pod.Name, err)
		}
		return
	}
	t.Fatalf("found no %s of pod %s", process, pod.Name)
}
