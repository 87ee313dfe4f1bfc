package controllers_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/chatcluster/chatcluster/controllers/resources"
)

// objects are all objects of the kinds of children in a namespace that are not the API
// server's own.
func objects(t *testing.T, namespace string) []client.Object {
	t.Helper()
	var out []client.Object
	seen := map[string]bool{}
	for _, child := range resources.Children {
		if seen[child.Kind.String()] {
			continue
		}
		seen[child.Kind.String()] = true
		listKind := child.Kind
		listKind.Kind += "List"
		raw, err := scheme.New(listKind)
		if err != nil {
			t.Fatal(err)
		}
		list := raw.(client.ObjectList)
		if err := api.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		out = append(out, items(t, list)...)
	}
	return out
}

func items(t *testing.T, list client.ObjectList) []client.Object {
	t.Helper()
	var out []client.Object
	raw, err := meta.ExtractList(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range raw {
		obj := item.(client.Object)
		if obj.GetLabels()[resources.LabelManagedBy] == resources.ManagedBy {
			out = append(out, obj)
		}
	}
	return out
}

// versions are the resource versions of all children.
func versions(t *testing.T, namespace string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, obj := range objects(t, namespace) {
		out[fmt.Sprintf("%T %s", obj, obj.GetName())] = obj.GetResourceVersion()
	}
	return out
}

// watchReplicas follows the number of replicas that a Deployment asks for. The function
// it returns tells which numbers there were, in order.
func watchReplicas(t *testing.T, namespace, name string) func() []int32 {
	t.Helper()
	c, err := client.NewWithWatch(restConfig, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Watch(t.Context(), &appsv1.DeploymentList{}, client.InNamespace(namespace), client.MatchingFields{"metadata.name": name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	var mu sync.Mutex
	var seen []int32
	go func() {
		for event := range w.ResultChan() {
			d, ok := event.Object.(*appsv1.Deployment)
			if !ok {
				continue
			}
			mu.Lock()
			if n := *d.Spec.Replicas; len(seen) == 0 || seen[len(seen)-1] != n {
				seen = append(seen, n)
			}
			mu.Unlock()
		}
	}()
	return func() []int32 {
		mu.Lock()
		defer mu.Unlock()
		return append([]int32(nil), seen...)
	}
}

func waitForEvent(t *testing.T, namespace, reason, note string) {
	t.Helper()
	waitFor(t, "the event "+reason, func() error {
		var events eventsv1.EventList
		if err := api.List(t.Context(), &events, client.InNamespace(namespace)); err != nil {
			return err
		}
		var notes []string
		for _, e := range events.Items {
			if e.Reason == reason && strings.Contains(e.Note, note) {
				return nil
			}
			notes = append(notes, e.Reason+": "+e.Note)
		}
		return fmt.Errorf("there are %q", notes)
	})
}
