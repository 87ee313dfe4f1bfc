package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// firstMessageWithin is what may pass from Ready to the first message from one
// pod to another.
const firstMessageWithin = 2 * time.Second

func TestSampleIsReadyInAMinute(t *testing.T) {
	c := local(t).chat(t)
	began := time.Now()
	c.applyObject(t, sample(t, "../../config/samples/local.yaml"))
	c.waitReady(t, 3*readyWithin)
	ready := time.Now()
	toReady := ready.Sub(began)
	alice, bob := c.twoPodsApart(t)
	alice.types("/join first")
	alice.reads("you are in first")
	bob.types("/join first")
	bob.reads("you are in first")
	alice.types("Is anybody there?")
	bob.reads("alice", "Is anybody there?")
	toMessage := time.Since(ready)
	t.Logf("from apply to Ready: %v (at most %v); from Ready to the first message across two pods: %v (at most %v)",
		toReady.Round(time.Millisecond), readyWithin, toMessage.Round(time.Millisecond), firstMessageWithin)
	if toReady > readyWithin || toMessage > firstMessageWithin {
		t.Error("that is too long")
	}
}

// TestHostAloneIsAChat: the smallest resource there is, and the one to try on
// any cluster, with a certificate authority of its own.
func TestHostAloneIsAChat(t *testing.T) {
	t.Parallel()
	for _, smallest := range []struct {
		name  string
		apply func(*testing.T, *chat)
	}{
		{"host alone", func(t *testing.T, c *chat) { c.apply(t, `{}`) }},
		{"portable sample", func(t *testing.T, c *chat) { c.applyObject(t, sample(t, "../../config/samples/chatcluster.yaml")) }},
	} {
		t.Run(smallest.name, func(t *testing.T) {
			c := local(t).chat(t)
			smallest.apply(t, c)
			t.Logf("Ready after %v", c.waitReady(t, 3*readyWithin).Round(time.Millisecond))
			c.trustSecret(t, c.name+"-tls")
			p := c.plainClient(t, "somebody")
			eventually(t, time.Minute, "the way in to be open", func(ctx context.Context) error { return p.isHealthy(ctx) })
			p.registers()
			p.logsIn()
			p.connects()
			p.sends(`{"type":"message","message":"Hello!"}`)
			p.receivesMessage("somebody", "Hello!")
		})
	}
}

// sample reads a sample that the repository ships.
func sample(t *testing.T, file string) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &u.Object); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", file, err))
	}
	return u
}
