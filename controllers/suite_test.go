package controllers_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// One real API server serves every test of this package; each test has a namespace of
// its own. Nothing else of Kubernetes runs: where a test needs what a controller of
// Kubernetes, cert-manager or a router would write, it plays that part itself, and says so.
var (
	restConfig *rest.Config
	scheme     = runtime.NewScheme()
	// api reads and writes past every cache.
	api client.Client
)

func TestMain(m *testing.M) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		fmt.Fprintln(os.Stderr, "KUBEBUILDER_ASSETS must name the directory of etcd and kube-apiserver; `make test` sets it")
		os.Exit(1)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctrl.SetLogger(logr.Discard())
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, cmv1.AddToScheme, gatewayv1.Install,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	server := &envtest.Environment{
		Scheme: scheme,
		CRDDirectoryPaths: []string{
			filepath.Join("..", "config", "crd", "bases"),
			filepath.Join(moduleDir("github.com/cert-manager/cert-manager"), "deploy", "crds"),
			filepath.Join(moduleDir("sigs.k8s.io/gateway-api"), "config", "crd", "standard"),
		},
		ErrorIfCRDPathMissing: true,
	}
	var err error
	if restConfig, err = server.Start(); err != nil {
		panic(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the API server:", err)
		}
	}()
	restConfig.QPS = -1
	if api, err = client.New(restConfig, client.Options{Scheme: scheme}); err != nil {
		panic(err)
	}
	return m.Run()
}

// moduleDir is where the sources of a module that go.mod requires are; CRDs of others
// are read from there, so that they are always those of the version in use.
func moduleDir(path string) string {
	out, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	if err != nil {
		panic(fmt.Sprintf("finding module %s: %v", path, err))
	}
	return strings.TrimSpace(string(out))
}
