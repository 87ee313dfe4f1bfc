//go:build linux

package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/chatcluster/chatcluster/hack/internal/build"
)

// addonValues are the values in the manifests.
type addonValues struct {
	NodeIP, DNSService, DNSDomain, Volumes                   string
	CoreDNS, CertManager, MetricsServer, Router, Provisioner string // images
	PublicCACert, PublicCAKey                                string // base64
}

func (c Cluster) addonValues() (addonValues, error) {
	v := addonValues{NodeIP: NodeIP(), DNSService: dnsService, DNSDomain: dnsDomain, Volumes: state("volumes")}
	for t, image := range map[*build.Tool]*string{
		&build.CoreDNS: &v.CoreDNS, &build.CertManager: &v.CertManager, &build.MetricsServer: &v.MetricsServer,
		&build.Router: &v.Router, &build.Provisioner: &v.Provisioner,
	} {
		name, err := c.imageOf(*t)
		if err != nil {
			return v, err
		}
		*image = name
	}
	for file, value := range map[string]*string{"public-ca.crt": &v.PublicCACert, "public-ca.key": &v.PublicCAKey} {
		data, err := os.ReadFile(pkiFile(file))
		if err != nil {
			return v, err
		}
		*value = base64.StdEncoding.EncodeToString(data)
	}
	return v, nil
}

// installCRDs applies the definitions of cert-manager's and Gateway API's kinds.
func (c Cluster) installCRDs(ctx context.Context) error {
	var all []byte
	for _, t := range []build.Tool{build.CertManager, build.Router} {
		crds, err := c.manifestsOf(t)
		if err != nil {
			return err
		}
		all = append(all, crds...)
	}
	return c.apply(ctx, all)
}

// installAddons applies what runs as pods, and objects of the CRDs' kinds. It
// returns when the API has it all, not when it is ready.
func (c Cluster) installAddons(ctx context.Context) error {
	values, err := c.addonValues()
	if err != nil {
		return err
	}
	all, err := fill(values, "core.yaml", "metrics-server.yaml", "cert-manager.yaml", "router.yaml", "custom.yaml")
	if err != nil {
		return err
	}
	// The kinds that the CRDs bring are served a moment after those are applied.
	return c.await(ctx, "the API to serve the custom resources", []string{"kube-apiserver"}, func(ctx context.Context) error {
		return c.apply(ctx, all)
	})
}

// awaitAddons returns when all but metrics-server are available: that one is
// ready only after its second look at the pods, and nothing waits for it.
func (c Cluster) awaitAddons(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range []string{"kube-system/coredns", "kube-system/provisioner", "cert-manager/cert-manager", "local-router/router"} {
		namespace, name, _ := strings.Cut(d, "/")
		group.Go(func() error {
			_, err := c.kubectl(ctx, nil, "--namespace", namespace, "rollout", "status", "--timeout="+patience.String(), "deployment/"+name)
			if err != nil && ctx.Err() == nil {
				err = fmt.Errorf("%w\n%s", err, c.explain(ctx, namespace, name))
			}
			return err
		})
	}
	return group.Wait()
}

// explain shows why a deployment's pods do not get ready.
func (c Cluster) explain(ctx context.Context, namespace, name string) string {
	pods, _ := c.kubectl(ctx, nil, "--namespace", namespace, "get", "pods", "--output=wide")
	logs, _ := c.kubectl(ctx, nil, "--namespace", namespace, "logs", "deployment/"+name, "--tail=8")
	return pods + logs
}

// fill fills in manifests of ours.
func fill(values addonValues, names ...string) ([]byte, error) {
	var all bytes.Buffer
	for _, n := range names {
		data, err := renderPath("manifests/"+n, values)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&all, "---\n%s\n", data)
	}
	return all.Bytes(), nil
}

// manifestsOf reads those that came with a tool: its CRDs.
func (c Cluster) manifestsOf(t build.Tool) ([]byte, error) {
	dir, err := c.Cache.Path(t)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var all bytes.Buffer
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&all, "---\n%s\n", data)
	}
	return all.Bytes(), nil
}

func (c Cluster) apply(ctx context.Context, manifest []byte) error {
	_, err := c.kubectl(ctx, manifest, "apply", "--server-side", "--force-conflicts", "--field-manager=localcluster", "--filename=-")
	return err
}

// kubectl runs the kubectl that was built with the cluster.
func (c Cluster) kubectl(ctx context.Context, stdin []byte, args ...string) (string, error) {
	path, err := c.program(build.Kubectl, "kubectl")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{
		"--kubeconfig=" + pkiFile("admin.kubeconfig"), "--cache-dir=" + state("kubectl-cache"),
	}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
