// Package charts holds the Helm charts. Its tests see to it that the chart and the
// kustomization in config/ install the same thing.
package charts

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
)

const chart = "chatcluster-operator"

func TestChartAndKustomizeInstallTheSameCRD(t *testing.T) {
	t.Parallel()
	fromChart := one(t, template(t), "CustomResourceDefinition", "chatclusters.chatcluster.dev")
	if policy := fromChart.GetAnnotations()["helm.sh/resource-policy"]; policy != "keep" {
		t.Errorf("uninstalling the chart would delete every ChatCluster: its CRD's policy is %q", policy)
	}
	annotations := fromChart.GetAnnotations()
	delete(annotations, "helm.sh/resource-policy")
	fromChart.SetAnnotations(annotations)
	same(t, fromChart.Object, one(t, kustomize(t), "CustomResourceDefinition", "chatclusters.chatcluster.dev").Object)
}

func TestChartAndKustomizeGrantTheSameRights(t *testing.T) {
	t.Parallel()
	fromKustomize := kustomize(t)
	fromChart := template(t, "--set", "replicas=2")
	same(t, one(t, fromChart, "ClusterRole", "chatcluster-system-chatcluster-operator").Object["rules"],
		one(t, fromKustomize, "ClusterRole", "chatcluster-operator").Object["rules"])
	const election = "chatcluster-operator-leader-election"
	same(t, one(t, fromChart, "Role", election).Object["rules"], one(t, fromKustomize, "Role", election).Object["rules"])

	namespaced := template(t, "--set", "namespaces={a,b}")
	for _, obj := range namespaced {
		if strings.HasPrefix(obj.GetKind(), "ClusterRole") {
			t.Errorf("for namespaces a and b the chart makes the %s %s", obj.GetKind(), obj.GetName())
		}
	}
	same(t, one(t, namespaced, "Role", chart).Object["rules"], one(t, fromKustomize, "ClusterRole", chart).Object["rules"])
}

func TestNoRightIsAWildcard(t *testing.T) {
	t.Parallel()
	for _, obj := range append(kustomize(t), template(t, "--set", "replicas=2")...) {
		if !strings.HasSuffix(obj.GetKind(), "Role") {
			continue
		}
		rules, _, err := unstructured.NestedSlice(obj.Object, "rules")
		if err != nil || len(rules) == 0 {
			t.Fatalf("%s %s has rules %v, %v", obj.GetKind(), obj.GetName(), rules, err)
		}
		for _, rule := range rules {
			for field, values := range rule.(map[string]any) {
				if slices.Contains(values.([]any), any("*")) {
					t.Errorf("%s %s: %s holds *", obj.GetKind(), obj.GetName(), field)
				}
			}
		}
	}
}

func TestChartAndKustomizeRunTheSamePod(t *testing.T) {
	t.Parallel()
	spec := func(objects []unstructured.Unstructured) map[string]any {
		d := one(t, objects, "Deployment", chart)
		pod, _, err := unstructured.NestedMap(d.Object, "spec", "template", "spec")
		if err != nil {
			t.Fatal(err)
		}
		// What differs is the chart's own: a pull policy, and a flag for its value.
		container := pod["containers"].([]any)[0].(map[string]any)
		delete(container, "imagePullPolicy")
		container["args"] = slices.DeleteFunc(container["args"].([]any), func(arg any) bool {
			return strings.HasPrefix(arg.(string), "--concurrency=")
		})
		return pod
	}
	same(t, spec(template(t)), spec(kustomize(t)))
}

func TestASingleOperatorElectsNoLeader(t *testing.T) {
	t.Parallel()
	for replicas, want := range map[string]bool{"1": false, "2": true} {
		out := render(t, "--set", "replicas="+replicas)
		if got := bytes.Contains(out, []byte("--leader-elect")); got != want {
			t.Errorf("with %s replicas it is %v that a leader is elected", replicas, got)
		}
	}
}

func TestAMisspeltValueIsRefused(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"replica=2", "image.tagg=x", "namespaces=a", "redisImage="} {
		out, err := helm("template", chart, chart, "--set", value)
		if err == nil {
			t.Errorf("--set %s was taken:\n%s", value, out[:min(len(out), 300)])
		}
	}
}

func template(t *testing.T, args ...string) []unstructured.Unstructured {
	t.Helper()
	return parse(t, render(t, args...))
}

func render(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := helm(append([]string{"template", chart, chart, "--namespace", "chatcluster-system"}, args...)...)
	if err != nil {
		t.Fatalf("helm template %v: %v\n%s", args, err, out)
	}
	return out
}

func helm(args ...string) ([]byte, error) {
	cmd := exec.Command("go", append([]string{"run", "-modfile=../hack/kubernetes/go.mod", "helm.sh/helm/v4/cmd/helm"}, args...)...)
	// As everywhere else but under the race detector, or helm is compiled once more for this.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	return append(out, stderr.Bytes()...), err
}

func kustomize(t *testing.T) []unstructured.Unstructured {
	t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		t.Fatal("KUBEBUILDER_ASSETS must name the directory of kubectl; `make test` sets it")
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(assets, "kubectl"), "kustomize", "../config/default").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("kubectl kustomize: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	return parse(t, out)
}

func parse(t *testing.T, manifests []byte) []unstructured.Unstructured {
	t.Helper()
	var out []unstructured.Unstructured
	decoder := k8syaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		var obj unstructured.Unstructured
		err := decoder.Decode(&obj)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(obj.Object) > 0 {
			out = append(out, obj)
		}
	}
}

func one(t *testing.T, objects []unstructured.Unstructured, kind, name string) unstructured.Unstructured {
	t.Helper()
	names := map[string]bool{}
	for _, obj := range objects {
		if obj.GetKind() == kind && obj.GetName() == name {
			return obj
		}
		names[obj.GetKind()+" "+obj.GetName()] = true
	}
	t.Fatalf("there is no %s %s, only %q", kind, name, slices.Sorted(maps.Keys(names)))
	return unstructured.Unstructured{}
}

func same(t *testing.T, chart, kustomize any) {
	t.Helper()
	if !reflect.DeepEqual(chart, kustomize) {
		t.Errorf("they differ.\nchart:     %.2000v\nkustomize: %.2000v", chart, kustomize)
	}
}
