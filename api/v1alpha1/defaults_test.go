package v1alpha1

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// kubectl explain prints descriptions and no defaults, so each description names its own.
func TestKubectlExplainShowsEveryDefault(t *testing.T) {
	raw, err := os.ReadFile("../../config/crd/bases/chatcluster.dev_chatclusters.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		t.Fatal(err)
	}
	spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	if n := checkDefaults(t, "spec", spec); n < 20 {
		t.Errorf("only %d defaults were found", n)
	}
}

func checkDefaults(t *testing.T, path string, s apiextensionsv1.JSONSchemaProps) int {
	t.Helper()
	found := 0
	if want := described(t, s.Default); want != "" {
		found++
		// Descriptions are wrapped.
		if said := strings.Join(strings.Fields(s.Description), " "); !strings.Contains(said, "Default: "+want+".") {
			t.Errorf("%s has the default %s, and its description says: %s", path, want, said)
		}
	}
	for name, property := range s.Properties {
		found += checkDefaults(t, path+"."+name, property)
	}
	return found
}

// described is how a description names a default; "" for objects, whose fields name theirs.
func described(t *testing.T, value *apiextensionsv1.JSON) string {
	t.Helper()
	if value == nil {
		return ""
	}
	var v any
	if err := json.Unmarshal(value.Raw, &v); err != nil {
		t.Fatal(err)
	}
	switch v := v.(type) {
	case map[string]any:
		return ""
	case []any:
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ", "), "[]")
	default:
		return fmt.Sprint(v)
	}
}
