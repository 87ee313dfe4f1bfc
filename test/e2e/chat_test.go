package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// What specs of the tests are made of.
const (
	// routed is reached through the local router: the web by an Ingress, lines by a TLSRoute.
	routed = `
tls: {issuerRef: {kind: ClusterIssuer, name: local-ca}}
routing:
  ingress: {className: local}
  gateway: {lineParentRefs: [{name: local, namespace: local-router, sectionName: line}]}`
	// demo has the accounts of the walkthroughs.
	demo = `server: {auth: {demoUsers: true}}`
	// unlimited does not take a test for an attack.
	unlimited = `server: {limits: {messagesPer10Seconds: 0, requestsPerHour: 0}}`
)

// readyWithin is what a ChatCluster may take from apply to Ready.
const readyWithin = time.Minute

// chat is a ChatCluster in a namespace of its own.
type chat struct {
	*cluster
	namespace string
	name      string
	host      string
	roots     *x509.CertPool // whom clients trust
	talks     int            // conversations there were
}

// start makes a chat and waits until it is Ready.
func start(t *testing.T, spec ...string) *chat {
	t.Helper()
	c := local(t).chat(t)
	c.apply(t, spec...)
	c.waitReady(t, 3*readyWithin)
	return c
}

// chat makes a namespace, which is gone after the test, and no ChatCluster yet.
// Only pods that meet the restricted Pod Security Standard are let into it.
func (c *cluster) chat(t *testing.T) *chat {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-",
		Labels:       map[string]string{namespaceLabel: "true", "pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Delete(ctx, ns); client.IgnoreNotFound(err) != nil {
			t.Errorf("delete namespace %s: %v", ns.Name, err)
		}
	})
	ch := &chat{cluster: c, namespace: ns.Name, name: "acme", host: ns.Name + ".example.com", roots: c.public}
	t.Cleanup(func() { ch.dumpIfFailed(t) })
	return ch
}

// apply applies a ChatCluster whose spec is the parts, merged, and this chat's host.
func (c *chat) apply(t *testing.T, spec ...string) {
	t.Helper()
	c.applyObject(t, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       "ChatCluster",
		"metadata":   map[string]any{"name": c.name},
		"spec":       merge(t, spec),
	}})
}

// applyObject applies a ChatCluster in this chat's namespace and for its host.
func (c *chat) applyObject(t *testing.T, u *unstructured.Unstructured) {
	t.Helper()
	u.SetNamespace(c.namespace)
	c.name = u.GetName()
	if err := unstructured.SetNestedField(u.Object, c.host, "spec", "host"); err != nil {
		t.Fatal(err)
	}
	err := c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("e2e"), client.ForceOwnership)
	if err != nil {
		t.Fatalf("apply the ChatCluster: %v", err)
	}
}

// merge merges YAML documents, the later over the earlier.
func merge(t *testing.T, parts []string) map[string]any {
	t.Helper()
	whole := []byte("{}")
	for _, part := range parts {
		patch, err := yaml.YAMLToJSON([]byte(part))
		if err != nil {
			t.Fatalf("a spec of this test: %v", err)
		}
		if whole, err = jsonpatch.MergePatch(whole, patch); err != nil {
			t.Fatalf("a spec of this test: %v", err)
		}
	}
	spec := map[string]any{}
	if err := yaml.Unmarshal(whole, &spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// waitReady waits until the operator says Ready about the spec as it is now.
func (c *chat) waitReady(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	return eventually(t, limit, "the ChatCluster to be Ready", func(ctx context.Context) error {
		cc, err := c.get(ctx)
		if err != nil {
			return err
		}
		ready := meta.FindStatusCondition(cc.Status.Conditions, v1alpha1.ConditionReady)
		switch {
		case ready == nil:
			return fmt.Errorf("there is no condition Ready yet")
		case ready.ObservedGeneration != cc.Generation:
			return fmt.Errorf("the operator has not seen generation %d", cc.Generation)
		case ready.Status != metav1.ConditionTrue:
			return fmt.Errorf("%s: %s", ready.Reason, ready.Message)
		}
		return nil
	})
}

func (c *chat) get(ctx context.Context) (*v1alpha1.ChatCluster, error) {
	var cc v1alpha1.ChatCluster
	err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: c.name}, &cc)
	return &cc, err
}

// tls verifies who answers for the host of this chat.
func (c *chat) tls() *tls.Config {
	return &tls.Config{ServerName: c.host, RootCAs: c.roots, MinVersion: tls.VersionTLS13}
}

// trustSecret makes clients trust the ca.crt of a Secret of this chat.
func (c *chat) trustSecret(t *testing.T, name string) {
	t.Helper()
	pool, err := c.secretCA(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	c.roots = pool
}

func (c *chat) secretCA(ctx context.Context, name string) (*x509.CertPool, error) {
	var secret corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, &secret); err != nil {
		return nil, err
	}
	pool, err := roots(secret.Data["ca.crt"])
	if err != nil {
		return nil, fmt.Errorf("ca.crt of Secret %s: %w", name, err)
	}
	return pool, nil
}

// pods are the pods of a component.
func (c *chat) pods(ctx context.Context, component string) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := c.List(ctx, &list, client.InNamespace(c.namespace), client.MatchingLabels{
		"app.kubernetes.io/instance": c.name, "app.kubernetes.io/component": component,
	})
	return list.Items, err
}

func (c *chat) mustPods(t *testing.T, component string) []corev1.Pod {
	t.Helper()
	pods, err := c.pods(t.Context(), component)
	if err != nil {
		t.Fatalf("list the pods: %v", err)
	}
	return pods
}

// connections are the clients on a chat pod that speak the protocol, line or websocket.
func (c *chat) connections(ctx context.Context, pod, protocol string) (int, error) {
	body, err := c.kube.CoreV1().RESTClient().Get().Namespace(c.namespace).
		Resource("pods").Name(pod + ":9090").SubResource("proxy").Suffix("metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("metrics of pod %s: %w", pod, err)
	}
	series := fmt.Sprintf("chatserver_connections{protocol=%q} ", protocol)
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), series); ok {
			return strconv.Atoi(value)
		}
	}
	return 0, fmt.Errorf("pod %s has no metric %s", pod, series)
}

// spread is how many clients each chat pod has.
func (c *chat) spread(ctx context.Context, protocol string) (map[string]int, error) {
	pods, err := c.pods(ctx, "server")
	if err != nil {
		return nil, err
	}
	count := make(map[string]int, len(pods))
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil {
			continue // its clients are leaving it
		}
		if count[pod.Name], err = c.connections(ctx, pod.Name, protocol); err != nil {
			return nil, err
		}
	}
	return count, nil
}
