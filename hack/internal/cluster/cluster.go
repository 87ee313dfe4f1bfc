//go:build linux

// Package cluster runs a real single-node Kubernetes on this machine out of
// what package build has compiled, and takes it away again.
//
// Everything of it is in one of six places, which is what makes it possible to
// remove all of it however a run ended: a network namespace, a cgroup, a state
// directory, a run directory, the directory for its users and the cache of
// binaries (the only one that stays).
package cluster

import (
	"net/netip"
	"os"
	"path/filepath"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/daemon"
	"github.com/chatcluster/chatcluster/hack/internal/netns"
)

const (
	stateDir = "/var/lib/chatcluster-local" // etcd, containerd, kubelet, volumes, logs
	runDir   = "/run/chatcluster-local"     // sockets, process records, containerd's mounts
	// cgroupName is the cgroup under which the kubelet puts all pods.
	cgroupName = "chatcluster-local"
	nodeName   = "local"

	podCIDR     = "10.231.64.0/22"
	serviceCIDR = "10.231.128.0/18"
	apiService  = "10.231.128.1"
	dnsService  = "10.231.128.10"
	dnsDomain   = "cluster.local"
	apiPort     = 6443
)

var network = netns.Network{
	Name:     "chatcluster",
	HostLink: "chatcluster0",
	Host:     netip.MustParsePrefix("10.231.0.1/30"),
	Node:     netip.MustParsePrefix("10.231.0.2/30"),
	Routed:   netip.MustParsePrefix(serviceCIDR),
}

// NodeIP is the node's address as the host and the cluster see it.
func NodeIP() string { return network.Node.Addr().String() }

// Cluster is the one local cluster of this machine.
type Cluster struct {
	Cache  build.Cache
	UserIn string // directory for what its users need: kubeconfig and CA
	host   daemon.Host
}

// New returns the cluster whose tools are in the cache.
func New(cache build.Cache) Cluster {
	return Cluster{
		Cache:  cache,
		UserIn: filepath.Join(filepath.Dir(cache.Dir), "local"),
		host: daemon.Host{
			NetNS:   network.Path(),
			LogDir:  state("logs"),
			PidDir:  filepath.Join(runDir, "daemons"),
			WorkDir: stateDir,
		},
	}
}

// Kubeconfig is the file with which the host's kubectl reaches the cluster.
func (c Cluster) Kubeconfig() string { return filepath.Join(c.UserIn, "kubeconfig") }

// CA is the file with the CA that signs the cluster's public certificates.
func (c Cluster) CA() string { return filepath.Join(c.UserIn, "ca.crt") }

// AuditLog is the file in which the API server notes every request.
func (c Cluster) AuditLog() string { return state("logs", "audit.log") }

// program is the path of a built tool, or of one file of it.
func (c Cluster) program(t build.Tool, file string) (string, error) {
	dir, err := c.Cache.Path(t)
	return filepath.Join(dir, file), err
}

func state(elements ...string) string {
	return filepath.Join(append([]string{stateDir}, elements...)...)
}

func pkiFile(name string) string { return state("pki", name) }

func containerdSocket() string { return filepath.Join(runDir, "containerd.sock") }

// writeFile writes a file whole or not at all, and its directory if need be.
func writeFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, data, mode); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
