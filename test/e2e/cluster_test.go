package e2e

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// What hack/e2e.sh tells the tests.
const (
	envKubeconfig = "E2E_KUBECONFIG" // of the local cluster; the public CA's ca.crt lies beside it
	envAuditLog   = "E2E_AUDIT_LOG"  // of its API server
	envIdle       = "E2E_IDLE"       // how long TestIdleOperatorWritesNothing watches; optional
)

// Where the operator is.
const (
	operatorNamespace = "chatcluster-system"
	operatorName      = "chatcluster-operator"
)

// namespaceLabel marks the namespaces of the tests.
const namespaceLabel = "e2e.chatcluster.dev/test"

// cluster is the Kubernetes under test.
type cluster struct {
	client.Client
	kube   kubernetes.Interface
	config *rest.Config
	router string         // address
	public *x509.CertPool // of ClusterIssuer local-ca
}

// local gives the local cluster, or skips the test where there is none.
func local(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv(envKubeconfig) == "" {
		t.Skip("needs the local cluster with the operator in it: run make e2e")
	}
	c, err := connect()
	if err != nil {
		t.Fatalf("connect to the local cluster: %v", err)
	}
	return c
}

var connect = sync.OnceValues(func() (*cluster, error) {
	kubeconfig := os.Getenv(envKubeconfig)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.WarningHandler = rest.NoWarnings{} // the tests look at every kind, deprecated ones too
	config.QPS = -1                           // tests that poll shall not wait for themselves
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, cmapi.AddToScheme, gatewayv1.Install,
	} {
		utilruntime.Must(add(scheme))
	}
	c := &cluster{config: config}
	if c.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.public, err = readRoots(filepath.Join(filepath.Dir(kubeconfig), "ca.crt")); err != nil {
		return nil, err
	}
	c.router, err = routerAddress(c)
	return c, err
})

// routerAddress is what the local Gateway says its address is.
func routerAddress(c client.Client) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var gateway gatewayv1.Gateway
	if err := c.Get(ctx, client.ObjectKey{Namespace: "local-router", Name: "local"}, &gateway); err != nil {
		return "", err
	}
	if len(gateway.Status.Addresses) == 0 {
		return "", errors.New("Gateway local-router/local has no address: does the router run?")
	}
	return gateway.Status.Addresses[0].Value, nil
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return roots(pem)
}

func roots(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in what should be a CA's")
	}
	return pool, nil
}

// dial connects to the router, whatever name the address has: names of tests
// are in no DNS.
func (c *cluster) dial(ctx context.Context, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(c.router, port))
}

// eventually asks until the answer is no error, and returns how long that took.
// When the limit is over the test fails with the last answer.
func eventually(t *testing.T, limit time.Duration, what string, ask func(context.Context) error) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return time.Since(began)
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for %s; the last answer: %v", limit, what, last)
		case <-ticker.C:
		}
	}
}

func TestMain(m *testing.M) {
	if err := clearLeftovers(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := allNamespacesGone(); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		code = 1
	}
	os.Exit(code)
}

// clearLeftovers deletes the namespaces of a run that was cut off.
func clearLeftovers() error {
	if os.Getenv(envKubeconfig) == "" {
		return nil
	}
	c, err := connect()
	if err != nil {
		return nil //nolint:nilerr // every test says so
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var list corev1.NamespaceList
	if err := c.List(ctx, &list, client.HasLabels{namespaceLabel}); err != nil {
		return fmt.Errorf("list the namespaces of earlier runs: %w", err)
	}
	for i := range list.Items {
		if err := client.IgnoreNotFound(c.Delete(ctx, &list.Items[i])); err != nil {
			return fmt.Errorf("delete what an earlier run left: %w", err)
		}
	}
	return nil
}

// allNamespacesGone waits for the namespaces that the tests deleted: one that
// hangs is a defect of the operator's.
func allNamespacesGone() error {
	if os.Getenv(envKubeconfig) == "" {
		return nil
	}
	c, err := connect()
	if err != nil {
		return nil // every test has said so
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		var list corev1.NamespaceList
		err := c.List(ctx, &list, client.HasLabels{namespaceLabel})
		if err == nil && len(list.Items) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("namespaces of the tests are not gone after 2 minutes: %d (%w)", len(list.Items), err)
		case <-time.After(time.Second):
		}
	}
}
