//go:build linux

package cluster

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/chatcluster/chatcluster/hack/internal/pki"
)

func TestParseLoad(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string][2]string{
		"chatcluster/operator:dev=bin/operator": {"chatcluster/operator:dev", "bin/operator"},
		"operator=bin/x":                        {"chatcluster/operator:dev", "bin/x"},
		"other/tool=bin/x":                      {"other/tool:dev", "bin/x"},
		"bin/chatserver":                        {"chatcluster/chatserver:dev", "bin/chatserver"},
		"chatserver:1.2=out/a=b":                {"chatcluster/chatserver:1.2", "out/a=b"},
	} {
		if name, path := parseLoad(spec); name != want[0] || path != want[1] {
			t.Errorf("parseLoad(%q) = %q, %q; want %q", spec, name, path, want)
		}
	}
}

func TestParseImages(t *testing.T) {
	t.Parallel()
	got := parseImages("REF TYPE DIGEST SIZE PLATFORMS LABELS\nexample/a:1 application/vnd.oci.image.manifest.v1+json sha256:aa 8.1 MiB linux/amd64 x\n")
	if got["example/a:1"] != "sha256:aa" {
		t.Errorf("parseImages = %v", got)
	}
}

func TestParseMountsReadsTypesAndEscapes(t *testing.T) {
	t.Parallel()
	table := `cgroup2 /sys/fs/cgroup cgroup2 rw 0 0
tmpfs /var/lib/x/a\040b tmpfs rw 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
`
	all := parseMounts(table, func(string) bool { return true })
	if want := []string{"/sys/fs/cgroup", "/var/lib/x/a b", "/sys/fs/cgroup/pids"}; !slices.Equal(all, want) {
		t.Errorf("mounts = %q, want %q", all, want)
	}
	one := parseMounts(table, func(fstype string) bool { return fstype == "cgroup" })
	if want := []string{"/sys/fs/cgroup/pids"}; !slices.Equal(one, want) {
		t.Errorf("cgroup mounts = %q, want %q", one, want)
	}
}

func TestOnlyTheKubeletsControllersAreEnabled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := enableControllers(dir); err != nil {
		t.Errorf("version 1 has no controllers to enable, but: %v", err)
	}
	if got, want := wantedControllers("cpuset cpu io memory pids rdma\n"), []string{"cpuset", "cpu", "memory", "pids"}; !slices.Equal(got, want) {
		t.Errorf("wanted %q, want %q", got, want)
	}
}

func TestUnderComparesWholeNames(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{"/run/x": true, "/run/x/y": true, "/run/xy": false, "/run": false} {
		if got := under(path, []string{"/run/x"}); got != want {
			t.Errorf("under(%q) = %v, want %v", path, got, want)
		}
	}
}

// documents parses a file of YAML documents and returns the kind of each.
func documents(t *testing.T, name string, data []byte) (kinds []string) {
	t.Helper()
	for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var object struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &object); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if object.APIVersion == "" || object.Kind == "" {
			t.Errorf("%s has a document without apiVersion or kind:\n%s", name, doc)
		}
		kinds = append(kinds, object.Kind)
	}
	return kinds
}

func TestManifestsAreFilledInAndParse(t *testing.T) {
	t.Parallel()
	files, err := embedded.ReadDir("manifests")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, f := range files {
		data, err := renderPath("manifests/"+f.Name(), addonValues{
			NodeIP: NodeIP(), DNSService: dnsService, DNSDomain: dnsDomain, Volumes: state("volumes"),
			CoreDNS: "local/coredns:1", CertManager: "local/cert-manager:1", MetricsServer: "local/metrics-server:1",
			Router: "local/router:1", Provisioner: "local/provisioner:1",
			PublicCACert: "AAAA", PublicCAKey: "AAAA",
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range documents(t, f.Name(), data) {
			all[kind] = true
		}
	}
	for _, kind := range []string{"StorageClass", "IngressClass", "GatewayClass", "Gateway", "ClusterIssuer", "APIService"} {
		if !all[kind] {
			t.Errorf("no manifest has a %s", kind)
		}
	}
}

func TestCredentialsAreMadeOnceAndWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := makeCredentials(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"} {
		data, err := os.ReadFile(filepath.Join(dir, name+".kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		documents(t, name, data)
		if info, err := os.Stat(filepath.Join(dir, name+".kubeconfig")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s.kubeconfig can be read by others", name)
		}
	}
}

func TestKubeconfigIsReadableByItsUser(t *testing.T) {
	t.Parallel()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Client("someone")
	if err != nil {
		t.Fatal(err)
	}
	if text := string(kubeconfig(ca, client)); !strings.Contains(text, "https://"+NodeIP()+":6443") {
		t.Errorf("no server in:\n%s", text)
	}
}

func TestStatusOfNoClusterSaysThatNothingRuns(t *testing.T) {
	t.Parallel()
	c := Cluster{UserIn: t.TempDir()}
	c.host.PidDir = t.TempDir()
	var out bytes.Buffer
	err := c.Status(t.Context(), &out)
	if err == nil || errors.Is(err, io.EOF) || !strings.Contains(out.String(), "kube-apiserver") || !strings.Contains(out.String(), "not running") {
		t.Errorf("error %v, output:\n%s", err, out.String())
	}
}
