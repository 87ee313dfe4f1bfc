package controllers_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// badSpecs are resources that cannot work, and the sentence that each must be refused with.
var badSpecs = map[string]struct{ name, spec, sentence string }{
	"a name that no Service can have":     {"1acme", `host: chat.example.com`, "metadata.name must start with a letter"},
	"a name too long for its children":    {strings.Repeat("a", 41), `host: chat.example.com`, "at most 40 characters"},
	"a URL for a host":                    {"acme", `host: https://chat.example.com`, "host must be a DNS name such as chat.example.com"},
	"a host with a port":                  {"acme", `host: chat.example.com:443`, "host must be a DNS name"},
	"a wildcard host":                     {"acme", `host: "*.example.com"`, "without scheme, port, path or wildcard"},
	"replicas and autoscaling":            {"acme", `{host: h.example, server: {replicas: 2, autoscaling: {}}}`, "set server.replicas or server.autoscaling, not both"},
	"autoscaling upside down":             {"acme", `{host: h.example, server: {autoscaling: {minReplicas: 5, maxReplicas: 3}}}`, "lower minReplicas or raise maxReplicas"},
	"autoscaling without a CPU request":   {"acme", `{host: h.example, server: {autoscaling: {}, resources: {requests: {memory: 64Mi}}}}`, "set server.resources.requests.cpu"},
	"a request above its limit":           {"acme", `{host: h.example, server: {resources: {requests: {memory: 1Gi}, limits: {memory: 512Mi}}}}`, "server.resources.requests must not be above limits"},
	"a Redis request above its limit":     {"acme", `{host: h.example, redis: {resources: {requests: {cpu: 2}, limits: {cpu: 500m}}}}`, "redis.resources.requests must not be above limits"},
	"a token that never ends":             {"acme", `{host: h.example, server: {auth: {accessTokenTTL: 9000h}}}`, "auth.accessTokenTTL must be from 1m to 24h"},
	"a session that ends at once":         {"acme", `{host: h.example, server: {auth: {refreshTokenTTL: 1m}}}`, "auth.refreshTokenTTL must be from 1h to 8760h"},
	"sessions counted but not allowed":    {"acme", `{host: h.example, server: {auth: {maxSessionsPerUser: 3}}}`, "set auth.duplicateLogin to Allow"},
	"a level that is none":                {"acme", `{host: h.example, server: {logLevel: Loud}}`, "logLevel"},
	"a duration in days":                  {"acme", `{host: h.example, server: {history: {age: 7d}}}`, "history.age must be at least 1m, written in hours, minutes and seconds"},
	"a drain of an hour":                  {"acme", `{host: h.example, server: {drain: {window: 1h}}}`, "drain.window must be from 1s to 10m"},
	"an origin with a path":               {"acme", `{host: h.example, server: {allowedOrigins: ["https://www.example.com/"]}}`, "no path and no trailing slash"},
	"an address for a network":            {"acme", `{host: h.example, server: {trustedProxies: [192.0.2.7]}}`, "one address is written 192.0.2.7/32"},
	"a volume too small for Redis":        {"acme", `{host: h.example, redis: {storage: {size: 1Mi}}}`, "redis.storage.size must be at least 64Mi"},
	"certificates shorter than an hour":   {"acme", `{host: h.example, tls: {duration: 10m, renewBefore: 5m}}`, "tls.duration must be at least 1h"},
	"a renewal before the issue":          {"acme", `{host: h.example, tls: {duration: 24h, renewBefore: 24h}}`, "lower renewBefore or raise duration"},
	"routing that leads nowhere":          {"acme", `{host: h.example, routing: {}}`, "routing needs ingress or gateway"},
	"a gateway without a parent":          {"acme", `{host: h.example, routing: {gateway: {}}}`, "name the Gateway to attach to"},
	"a route for a protocol that is off":  {"acme", `{host: h.example, server: {lineProtocol: {enabled: false}}, routing: {gateway: {lineParentRefs: [{name: g}]}}}`, "set server.lineProtocol.enabled to true or remove lineParentRefs"},
	"labels that the operator selects by": {"acme", `{host: h.example, server: {podTemplate: {labels: {app.kubernetes.io/name: x}}}}`, "choose another prefix"},
}

// refusedByTypes are bad specs that the schema's types refuse, so that the operator
// could not even decode them.
var refusedByTypes = map[string]bool{"a duration in days": true}

func TestBadSpecsAreRefusedWithASentence(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	for what, bad := range badSpecs {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			err := api.Create(t.Context(), chatClusterFrom(t, ns, bad.name, bad.spec))
			if err == nil {
				t.Fatal("the API server took it")
			}
			if !strings.Contains(err.Error(), bad.sentence) {
				t.Errorf("refused with %q, which does not say %q", err, bad.sentence)
			}
		})
	}
}

// The operator may meet a spec that an older CRD let through: it knows the rules itself.
func TestOperatorRefusesTheSameSpecs(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	good := chatClusterFrom(t, ns, "good", `host: chat.example.com`)
	if err := api.Create(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for what, bad := range badSpecs {
		if refusedByTypes[what] {
			continue
		}
		t.Run(what, func(t *testing.T) {
			var c v1alpha1.ChatCluster
			merged := mergeSpec(good, chatClusterFrom(t, ns, bad.name, bad.spec))
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(merged.Object, &c); err != nil {
				t.Fatal(err)
			}
			if said := strings.Join(v1alpha1.Validate(&c), "\n"); !strings.Contains(said, bad.sentence) {
				t.Errorf("said %q, which does not say %q", said, bad.sentence)
			}
		})
	}
}

func TestStorageIsFixedOnceCreated(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	c := chatClusterFrom(t, ns, "acme", `{host: h.example, redis: {storage: {size: 1Gi}}}`)
	if err := api.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedField(c.Object, "2Gi", "spec", "redis", "storage", "size"); err != nil {
		t.Fatal(err)
	}
	err := api.Update(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "fixed when the cluster is created") {
		t.Errorf("changing the size was answered with %v", err)
	}
}

func chatClusterFrom(t *testing.T, namespace, name, spec string) *unstructured.Unstructured {
	t.Helper()
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(spec), &fields); err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": fields}}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("ChatCluster"))
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// mergeSpec lays over's spec over a copy of base, whose defaults the API server filled in.
func mergeSpec(base, over *unstructured.Unstructured) *unstructured.Unstructured {
	merged := base.DeepCopy()
	merged.SetName(over.GetName())
	merge(merged.Object["spec"].(map[string]any), over.Object["spec"].(map[string]any))
	return merged
}

func merge(into, from map[string]any) {
	for key, value := range from {
		sub, isMap := value.(map[string]any)
		existing, hasMap := into[key].(map[string]any)
		if isMap && hasMap && key != "resources" {
			merge(existing, sub)
			continue
		}
		into[key] = value
	}
}

func TestSamplesAreTaken(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	for _, file := range []string{"chatcluster.yaml", "local.yaml"} {
		raw, err := os.ReadFile(filepath.Join("..", "config", "samples", file))
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(raw, u); err != nil {
			t.Fatal(err)
		}
		u.SetNamespace(ns)
		strict := client.FieldValidation(metav1.FieldValidationStrict)
		if err := api.Create(t.Context(), u, client.DryRunAll, strict); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
