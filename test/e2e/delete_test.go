package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestDeletedChatLeavesOnlyItsVolume, in which a chat of the same name finds
// what was said.
func TestDeletedChatLeavesOnlyItsVolume(t *testing.T) {
	c := local(t).chat(t)
	before := c.objects(t)
	c.apply(t, routed)
	c.waitReady(t, 3*readyWithin)
	p := c.plainClient(t, "somebody")
	p.registers()
	p.logsIn()
	p.connects()
	p.sends(`{"type":"message","message":"remember me"}`)
	p.receivesMessage("somebody", "remember me")
	if made := len(c.objects(t)) - len(before); made < 15 {
		t.Fatalf("a ChatCluster has only %d objects: this test does not see them", made)
	}

	cc, err := c.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), cc); err != nil {
		t.Fatal(err)
	}
	volume := "persistentvolumeclaims/data-" + c.name + "-redis-0"
	took := eventually(t, 3*time.Minute, "nothing but the volume to be left", func(context.Context) error {
		left := slices.DeleteFunc(c.objects(t), func(o string) bool { return slices.Contains(before, o) })
		if slices.Equal(left, []string{volume}) {
			return nil
		}
		return fmt.Errorf("left are %v", left)
	})
	t.Logf("nothing but the volume was left after %v", took.Round(time.Second))

	c.apply(t, routed)
	t.Logf("a chat of the same name is Ready after %v", c.waitReady(t, 3*readyWithin).Round(time.Second))
	again := c.plainClient(t, "somebody")
	again.logsIn() // with the account made before
}

// TestNamespaceIsDeletedWithoutTheOperator: nothing waits for it.
func TestNamespaceIsDeletedWithoutTheOperator(t *testing.T) {
	c := start(t, routed)
	c.scaleOperator(t, 0)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}
	if err := c.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, 2*time.Minute, "the namespace to be gone", func(ctx context.Context) error {
		err := c.Get(ctx, client.ObjectKeyFromObject(ns), ns)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is %s (%v): %+v", ns.Status.Phase, err, ns.Status.Conditions)
	})
	t.Logf("the namespace was gone after %v", took.Round(time.Second))
}

// scaleOperator changes how many operators run, until the test ends.
func (c *chat) scaleOperator(t *testing.T, replicas int32) {
	t.Helper()
	key := client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}
	var operator appsv1.Deployment
	if err := c.Get(t.Context(), key, &operator); err != nil {
		t.Fatal(err)
	}
	before := operator.Spec.Replicas
	scale := func(ctx context.Context, n *int32) error {
		patch := client.MergeFrom(operator.DeepCopy())
		operator.Spec.Replicas = n
		return c.Patch(ctx, &operator, patch)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := scale(ctx, before); err != nil {
			t.Errorf("bring the operator back: %v", err)
		}
	})
	if err := scale(t.Context(), ptr.To(replicas)); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the operator to stop", func(ctx context.Context) error {
		var pods corev1.PodList
		err := c.List(ctx, &pods, client.InNamespace(operatorNamespace))
		if err == nil && len(pods.Items) > int(replicas) {
			err = fmt.Errorf("%d pods are left", len(pods.Items))
		}
		return err
	})
}

// objects are all that is in the namespace, as resource/name. Events and
// metrics are not things that somebody has to clean up.
func (c *chat) objects(t *testing.T) []string {
	t.Helper()
	lists, err := c.kube.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatalf("ask what kinds there are: %v", err)
	}
	reader, err := metadata.NewForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "delete"}}, lists) {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range list.APIResources {
			if !kind.Namespaced || kind.Name == "events" {
				continue
			}
			found, err := reader.Resource(version.WithResource(kind.Name)).Namespace(c.namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatalf("list %s: %v", kind.Name, err)
			}
			for _, o := range found.Items {
				all = append(all, kind.Name+"/"+o.Name)
			}
		}
	}
	slices.Sort(all)
	return all
}
