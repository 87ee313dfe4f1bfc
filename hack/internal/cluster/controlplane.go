//go:build linux

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/daemon"
)

const etcdURL = "http://127.0.0.1:2379" // in the node's namespace, where only the node's own processes are

// startAPI starts etcd and the API server and returns when it is ready.
func (c Cluster) startAPI(ctx context.Context) error {
	policy, err := render("audit-policy.yaml", nil)
	if err != nil {
		return err
	}
	if err := writeFile(state("audit-policy.yaml"), policy, 0o644); err != nil {
		return err
	}
	for _, d := range []func() (daemon.Daemon, error){c.etcd, c.apiServer} {
		if err := c.ensure(ctx, d); err != nil {
			return err
		}
	}
	client, err := apiClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return c.await(ctx, "the API server to be ready", []string{"etcd", "kube-apiserver"}, func(ctx context.Context) error {
		return getOK(ctx, client, fmt.Sprintf("https://%s:%d/readyz", NodeIP(), apiPort))
	})
}

// startControllers starts what acts on the API's objects.
func (c Cluster) startControllers(ctx context.Context) error {
	for _, d := range []func() (daemon.Daemon, error){c.controllerManager, c.scheduler} {
		if err := c.ensure(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (c Cluster) etcd() (daemon.Daemon, error) {
	path, err := c.program(build.Etcd, "etcd")
	return daemon.Daemon{Name: "etcd", Path: path, Args: []string{
		"--name=" + nodeName,
		"--data-dir=" + state("etcd"),
		"--listen-client-urls=" + etcdURL,
		"--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=" + nodeName + "=http://127.0.0.1:2380",
		// The cluster does not outlive a crash of the machine, so its data need not.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}}, err
}

func (c Cluster) apiServer() (daemon.Daemon, error) {
	path, err := c.program(build.APIServer, "kube-apiserver")
	return daemon.Daemon{Name: "kube-apiserver", Path: path, Args: []string{
		"--etcd-servers=" + etcdURL,
		"--advertise-address=" + NodeIP(),
		"--bind-address=0.0.0.0",
		fmt.Sprintf("--secure-port=%d", apiPort),
		"--tls-cert-file=" + pkiFile("kube-apiserver.crt"),
		"--tls-private-key-file=" + pkiFile("kube-apiserver.key"),
		"--client-ca-file=" + pkiFile("ca.crt"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + serviceCIDR,
		"--service-account-issuer=https://kubernetes.default.svc." + dnsDomain,
		"--service-account-key-file=" + pkiFile("accounts.pub"),
		"--service-account-signing-key-file=" + pkiFile("accounts.key"),
		"--kubelet-certificate-authority=" + pkiFile("ca.crt"),
		"--kubelet-client-certificate=" + pkiFile("kubelet-client.crt"),
		"--kubelet-client-key=" + pkiFile("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		// Aggregation, for metrics.k8s.io.
		"--requestheader-client-ca-file=" + pkiFile("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pkiFile("front-proxy.crt"),
		"--proxy-client-key-file=" + pkiFile("front-proxy.key"),
		"--enable-aggregator-routing=true",
		"--audit-policy-file=" + state("audit-policy.yaml"),
		"--audit-log-path=" + c.AuditLog(),
		"--audit-log-maxsize=200", // MiB
		"--audit-log-maxbackup=1",
		"--profiling=false",
	}}, err
}

func (c Cluster) controllerManager() (daemon.Daemon, error) {
	path, err := c.program(build.ControllerManager, "kube-controller-manager")
	config := pkiFile("kube-controller-manager.kubeconfig")
	return daemon.Daemon{Name: "kube-controller-manager", Path: path, Args: []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + pkiFile("accounts.key"),
		"--root-ca-file=" + pkiFile("ca.crt"),
		"--service-cluster-ip-range=" + serviceCIDR,
		"--allocate-node-cidrs=false",
		// Autoscaling that a test can wait for; the defaults are 15 s, 5 min
		// and 30 s.
		"--horizontal-pod-autoscaler-sync-period=5s",
		"--horizontal-pod-autoscaler-cpu-initialization-period=20s",
		"--horizontal-pod-autoscaler-initial-readiness-delay=10s",
	}}, err
}

func (c Cluster) scheduler() (daemon.Daemon, error) {
	path, err := c.program(build.Scheduler, "kube-scheduler")
	config := pkiFile("kube-scheduler.kubeconfig")
	return daemon.Daemon{Name: "kube-scheduler", Path: path, Args: []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
	}}, err
}

// ensure runs a daemon.
func (c Cluster) ensure(ctx context.Context, describe func() (daemon.Daemon, error)) error {
	d, err := describe()
	if err != nil {
		return err
	}
	return c.host.Ensure(ctx, d)
}

// patience bounds every wait for a part to be ready; on a slow machine with
// other work each takes a few seconds.
const patience = 3 * time.Minute

// await asks until the answer is no error. It gives up early if one of the
// daemons it depends on has ended, and then shows what that one said last.
func (c Cluster) await(ctx context.Context, what string, daemons []string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("gave up after %v", patience))
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		for _, name := range daemons {
			if _, ok := c.host.Running(name); !ok {
				return fmt.Errorf("%s has ended; the last lines of %s:\n%s", name, c.host.LogFile(name), c.host.Tail(name, 8))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last answer: %w)", what, context.Cause(ctx), err)
		case <-t.C:
		}
	}
}

// apiClient is an HTTP client with the administrator's rights.
func apiClient() (*http.Client, error) {
	ca, err := os.ReadFile(pkiFile("ca.crt"))
	if err != nil {
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(pkiFile("kubelet-client.crt"), pkiFile("kubelet-client.key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}},
	}, nil
}

func getOK(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %.400s", url, resp.Status, body)
	}
	return err
}
