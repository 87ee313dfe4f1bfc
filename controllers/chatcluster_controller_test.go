package controllers_test

import (
	"fmt"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

func TestAHostAloneBecomesReady(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")

	c := get(t, ns, "acme", &v1alpha1.ChatCluster{})
	if c.Status.URL != "https://chat.example.com" || c.Status.ReadyReplicas != 2 || c.Status.Version != settings.ServerImage {
		t.Errorf("status is %+v", c.Status)
	}
	if c.Status.Certificate == nil || c.Status.ObservedGeneration != c.Generation {
		t.Errorf("status is %+v", c.Status)
	}
}

// Every kind of object is touched by somebody else here, so that the operator has reason
// to look; the status of children changes too, which must not make it write either.
func TestSecondReconcileWritesNothing(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `{host: chat.example.com, routing: {ingress: {}, gateway: {parentRefs: [{name: g}], lineParentRefs: [{name: g}]}}}`)
	becomeReady(t, ns, "acme")
	op.settle(t)

	before := op.writes.count()
	for i := range 5 {
		c := &v1alpha1.ChatCluster{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "acme"}}
		touch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"touched":"%d"}}}`, i))
		if err := api.Patch(t.Context(), c, touch); err != nil {
			t.Fatal(err)
		}
		updateStatus(t, ns, "acme-server", &appsv1.Deployment{}, func(d *appsv1.Deployment) {
			d.Status.Conditions = append(slices.Clone(rolledOut), appsv1.DeploymentCondition{Type: "Touched", Status: "True", Message: fmt.Sprint(i)})
		})
	}
	op.settle(t)
	if writes := op.writes.since(before); len(writes) > 0 {
		t.Errorf("nothing had to be written, but these were: %q", writes)
	}
}

func TestARestartedOperatorChangesNothing(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")
	op.settle(t)
	before := versions(t, ns)
	op.stop()

	startOperator(t, restConfig, ns, settings).settle(t)
	for object, version := range versions(t, ns) {
		if before[object] != version {
			t.Errorf("%s was changed: version %s, then %s", object, before[object], version)
		}
	}
}

func TestOperatorUpgradeRollsNoPods(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")
	op.settle(t)
	server := get(t, ns, "acme-server", &appsv1.Deployment{}).Generation
	redis := get(t, ns, "acme-redis", &appsv1.StatefulSet{}).Generation
	op.stop()

	newer := settings
	newer.ServerImage, newer.RedisImage = "chatcluster/chatserver:2", "redis:2"
	startOperator(t, restConfig, ns, newer)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionProgressing, metav1.ConditionFalse, v1alpha1.ReasonUpdateAvailable)
	if now := get(t, ns, "acme-server", &appsv1.Deployment{}).Generation; now != server {
		t.Errorf("the chat servers went from generation %d to %d", server, now)
	}
	if now := get(t, ns, "acme-redis", &appsv1.StatefulSet{}).Generation; now != redis {
		t.Errorf("Redis went from generation %d to %d", redis, now)
	}

	patchSpec(t, ns, "acme", `{"server":{"image":"chatcluster/chatserver:2"}}`)
	waitFor(t, "the chat servers to get the image that is asked for", func() error {
		d := get(t, ns, "acme-server", &appsv1.Deployment{})
		if image := d.Spec.Template.Spec.Containers[0].Image; image != "chatcluster/chatserver:2" {
			return fmt.Errorf("the image is %s", image)
		}
		return nil
	})
}

func TestEveryRollHasANamedReason(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")

	patchSpec(t, ns, "acme", `{"server":{"image":"chatcluster/chatserver:2","history":{"count":7}}}`)
	waitFor(t, "the reason in the status", func() error {
		c := get(t, ns, "acme", &v1alpha1.ChatCluster{})
		if c.Status.LastRoll == nil || c.Status.LastRoll.Reason != "server.image, server.history" {
			return fmt.Errorf("last roll is %+v", c.Status.LastRoll)
		}
		return nil
	})
	waitForEvent(t, ns, v1alpha1.EventRolling, "Replacing the pods of chat servers, since this changed: server.image, server.history")
	waitForCondition(t, ns, "acme", v1alpha1.ConditionProgressing, metav1.ConditionTrue, v1alpha1.ReasonRolling)
}

func TestChangesByOthersAreTakenBack(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")
	op.settle(t)

	d := get(t, ns, "acme-server", &appsv1.Deployment{})
	d.Spec.Template.Spec.Containers[0].Image = "somebody/elses:image"
	if err := api.Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the image to be set back", func() error {
		if image := get(t, ns, "acme-server", &appsv1.Deployment{}).Spec.Template.Spec.Containers[0].Image; image != settings.ServerImage {
			return fmt.Errorf("the image is %s", image)
		}
		return nil
	})
	if err := api.Delete(t.Context(), get(t, ns, "acme-metrics", &corev1.Service{})); err != nil {
		t.Fatal(err)
	}
	waitForObject(t, ns, "acme-metrics", &corev1.Service{})
}

func TestHPAOwnsReplicas(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `{host: chat.example.com, server: {autoscaling: {minReplicas: 2, maxReplicas: 9}}}`)
	becomeReady(t, ns, "acme")
	waitForObject(t, ns, "acme-server", &autoscalingv2.HorizontalPodAutoscaler{})
	autoscale(t, ns, "acme", 7)
	op.settle(t)
	patchSpec(t, ns, "acme", `{"server":{"history":{"count":7}}}`)
	waitForEvent(t, ns, v1alpha1.EventRolling, "Replacing the pods of chat servers, since this changed: server.history")
	op.settle(t)
	if n := *get(t, ns, "acme-server", &appsv1.Deployment{}).Spec.Replicas; n != 7 {
		t.Errorf("the autoscaler asked for 7 chat servers, and there are %d", n)
	}
}

// Autoscaling is switched on and off at five chat servers, then at seven. At no moment
// may the Deployment ask for fewer.
func TestHandOverWithoutDip(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `{host: chat.example.com, server: {replicas: 5}}`)
	becomeReady(t, ns, "acme")
	seen := watchReplicas(t, ns, "acme-server")

	patchSpec(t, ns, "acme", `{"server":{"replicas":null,"autoscaling":{"minReplicas":2}}}`)
	waitForObject(t, ns, "acme-server", &autoscalingv2.HorizontalPodAutoscaler{})
	op.settle(t)
	autoscale(t, ns, "acme", 7)
	patchSpec(t, ns, "acme", `{"server":{"autoscaling":null}}`)
	waitForGone(t, ns, "acme-server", &autoscalingv2.HorizontalPodAutoscaler{})
	op.settle(t)

	patchSpec(t, ns, "acme", `{"server":{"replicas":8}}`)
	waitFor(t, "the number asked for", func() error {
		if n := *get(t, ns, "acme-server", &appsv1.Deployment{}).Spec.Replicas; n != 8 {
			return fmt.Errorf("%d are asked for", n)
		}
		return nil
	})
	want := []int32{5, 7, 8}
	waitFor(t, "the watch to see 5, 7 and 8 and nothing else", func() error {
		if got := seen(); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("it saw %v", got)
		}
		return nil
	})
}

func TestScaleSubresourceScalesTheChatServers(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")

	c := &v1alpha1.ChatCluster{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "acme"}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":4}}`))
	if err := api.SubResource("scale").Patch(t.Context(), c, patch, client.WithSubResourceBody(&autoscalingv1.Scale{})); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "four chat servers to be asked for", func() error {
		if n := *get(t, ns, "acme-server", &appsv1.Deployment{}).Spec.Replicas; n != 4 {
			return fmt.Errorf("%d are asked for", n)
		}
		return nil
	})
}

func TestPruneWhatTheSpecNoLongerAsksFor(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `{host: chat.example.com, server: {replicas: 2}, routing: {ingress: {}, gateway: {parentRefs: [{name: g}], lineParentRefs: [{name: g}]}}}`)
	becomeReady(t, ns, "acme")
	children := map[string]client.Object{
		"acme":           &networkingv1.Ingress{},
		"acme-line":      &gatewayv1.TLSRoute{},
		"acme-ca-bundle": &corev1.ConfigMap{},
		"acme-server":    &policyv1.PodDisruptionBudget{},
		"acme-redis":     &networkingv1.NetworkPolicy{},
	}
	for name, child := range children {
		waitForObject(t, ns, name, child)
	}
	patchSpec(t, ns, "acme", `{"server":{"replicas":1,"lineProtocol":{"enabled":false}},"networkPolicy":{"enabled":false},"routing":{"ingress":null,"gateway":{"parentRefs":[{"name":"g"}],"lineParentRefs":null}}}`)
	for _, name := range []string{"acme", "acme-line", "acme-server", "acme-redis"} {
		waitForGone(t, ns, name, children[name])
	}
	waitForGone(t, ns, "acme-line", &corev1.Service{})
	waitForObject(t, ns, "acme", &gatewayv1.HTTPRoute{})
}

func TestAForeignObjectOfTheSameNameIsLeftAlone(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	foreign := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "acme-server"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if err := api.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonNameTaken)
	now := get(t, ns, "acme-server", &corev1.Service{})
	if now.ResourceVersion != foreign.ResourceVersion {
		t.Errorf("it was changed: %+v", now)
	}
}

func TestReadyIsFalseWhenLastPodFails(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")

	setServers(t, ns, "acme", 1)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionDegraded, metav1.ConditionTrue, v1alpha1.ReasonServersMissing)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	setServers(t, ns, "acme", 0)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNoServers)
}

// Deleting is the garbage collector's work alone: no finalizer waits for the operator,
// and every child names its owner.
func TestDeletingNeedsNoOperator(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `{host: chat.example.com, server: {autoscaling: {}}, routing: {ingress: {}, gateway: {parentRefs: [{name: g}], lineParentRefs: [{name: g}]}}}`)
	becomeReady(t, ns, "acme")
	op.settle(t)
	op.stop()

	c := get(t, ns, "acme", &v1alpha1.ChatCluster{})
	children := objects(t, ns)
	if len(children) < 20 {
		t.Fatalf("only %d children were made", len(children))
	}
	for _, child := range children {
		owned := false
		for _, ref := range child.GetOwnerReferences() {
			owned = owned || ref.UID == c.UID
		}
		if !owned {
			t.Errorf("%T %s has no owner", child, child.GetName())
		}
		if len(child.GetFinalizers()) > 0 {
			t.Errorf("%T %s has finalizers %v", child, child.GetName(), child.GetFinalizers())
		}
	}
	if err := api.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	waitForGone(t, ns, "acme", &v1alpha1.ChatCluster{})
}

// In a namespace that is being deleted nothing can be made. That is no failure to be
// tried again.
func TestAnEndingNamespaceIsLeftInPeace(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")
	op.settle(t)
	// The namespace stays for ever: nobody here empties it.
	if err := api.Delete(t.Context(), get(t, "", ns, &corev1.Namespace{})); err != nil {
		t.Fatal(err)
	}
	before := op.writes.count()
	if err := api.Delete(t.Context(), get(t, ns, "acme-metrics", &corev1.Service{})); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the operator to try", func() error {
		if op.writes.count() == before {
			return fmt.Errorf("it wrote nothing")
		}
		return nil
	})
	op.settle(t)
	if writes := op.writes.since(before); len(writes) > 3 {
		t.Errorf("it went on trying: %q", writes)
	}
}

func TestPausedWritesNothing(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")
	patchSpec(t, ns, "acme", `{"paused":true}`)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionPaused, metav1.ConditionTrue, v1alpha1.ReasonPaused)
	op.settle(t)
	before := versions(t, ns)

	patchSpec(t, ns, "acme", `{"server":{"replicas":9,"image":"other:1"}}`)
	waitFor(t, "the change to be seen", func() error {
		c := get(t, ns, "acme", &v1alpha1.ChatCluster{})
		if c.Status.ObservedGeneration != c.Generation {
			return fmt.Errorf("generation %d is observed of %d", c.Status.ObservedGeneration, c.Generation)
		}
		return nil
	})
	for object, version := range versions(t, ns) {
		if before[object] != version {
			t.Errorf("%s was changed while paused", object)
		}
	}
	patchSpec(t, ns, "acme", `{"paused":false}`)
	waitFor(t, "nine chat servers to be asked for", func() error {
		if n := *get(t, ns, "acme-server", &appsv1.Deployment{}).Spec.Replicas; n != 9 {
			return fmt.Errorf("%d are asked for", n)
		}
		return nil
	})
}

func TestCredentialsAreMadeOnce(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")
	auth := get(t, ns, "acme-redis-auth", &corev1.Secret{}).Data
	tokens := get(t, ns, "acme-tokens", &corev1.Secret{}).Data
	op.stop()

	// Without its label the Secret is not in the cache: it seems to be missing.
	s := get(t, ns, "acme-redis-auth", &corev1.Secret{})
	s.Labels = nil
	if err := api.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	startOperator(t, restConfig, ns, settings).settle(t)
	waitFor(t, "the label to be back", func() error {
		if get(t, ns, "acme-redis-auth", &corev1.Secret{}).Labels == nil {
			return fmt.Errorf("no labels")
		}
		return nil
	})
	if now := get(t, ns, "acme-redis-auth", &corev1.Secret{}).Data; fmt.Sprint(now) != fmt.Sprint(auth) {
		t.Error("the passwords of Redis were made anew")
	}
	if now := get(t, ns, "acme-tokens", &corev1.Secret{}).Data; fmt.Sprint(now) != fmt.Sprint(tokens) {
		t.Error("the token keys were made anew")
	}
}

// A key that somebody adds to sign with next must stay; so tokens can be rotated.
func TestTokenKeysMayBeRotated(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	op := startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `host: chat.example.com`)
	becomeReady(t, ns, "acme")
	s := get(t, ns, "acme-tokens", &corev1.Secret{})
	s.Data["second"], s.Data["current"] = []byte("0123456789012345678901234567890123456789"), []byte("second")
	if err := api.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	op.settle(t)
	now := get(t, ns, "acme-tokens", &corev1.Secret{}).Data
	if string(now["current"]) != "second" || len(now) != 3 {
		t.Errorf("the keys are now %q", now)
	}
}

func TestUserSecretIsWaitedFor(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	startOperator(t, restConfig, ns, settings)
	create(t, ns, "acme", `{host: chat.example.com, server: {auth: {users: {secretRef: {name: people}}}}}`)
	for _, suffix := range []string{"-ca", "-redis", "-server", ""} {
		issue(t, ns, "acme"+suffix)
	}
	runRedis(t, ns, "acme")
	waitForCondition(t, ns, "acme", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonUsersMissing)
	if d := get(t, ns, "acme-server", &appsv1.Deployment{}); d.Name != "" {
		t.Error("the chat servers were made before their Secret was there")
	}
	people := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "people"},
		StringData: map[string]string{"users": "carol:correct horse"},
	}
	if err := api.Create(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	runServers(t, ns, "acme")
	waitForCondition(t, ns, "acme", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	if now := get(t, ns, "people", &corev1.Secret{}); now.ResourceVersion != people.ResourceVersion {
		t.Error("the user's Secret was changed")
	}

	people.StringData = map[string]string{"users": "carol:correct horse\nerin:battery staple"}
	if err := api.Update(t.Context(), people); err != nil {
		t.Fatal(err)
	}
	waitForEvent(t, ns, v1alpha1.EventRolling, "Replacing the pods of chat servers, since this changed: server.auth.users")
}

// autoscale plays the HPA controller: it asks for n chat servers by the scale subresource.
func autoscale(t *testing.T, namespace, name string, n int32) {
	t.Helper()
	waitFor(t, "the autoscaler's write", func() error {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-server"}}
		var scale autoscalingv1.Scale
		if err := api.SubResource("scale").Get(t.Context(), d, &scale); err != nil {
			return err
		}
		scale.Spec.Replicas = n
		return api.SubResource("scale").Update(t.Context(), d, client.WithSubResourceBody(&scale))
	})
}
