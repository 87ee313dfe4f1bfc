//go:build linux

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/daemon"
)

// nodeFiles are the values in the node's configuration files.
type nodeFiles struct {
	State, Run, PKI, Socket, Snapshotter, PauseImage string
	CNIPlugins, CNINetwork, Shim, PodCIDR            string
	Cgroup, DNSService, DNSDomain                    string
}

// startContainerd starts the container runtime and returns when it answers.
func (c Cluster) startContainerd(ctx context.Context) error {
	if err := c.configureNode(); err != nil {
		return err
	}
	if err := c.ensure(ctx, c.containerd); err != nil {
		return err
	}
	return c.await(ctx, "containerd to answer", []string{"containerd"}, func(ctx context.Context) error {
		_, err := c.ctr(ctx, "version")
		return err
	})
}

// startNode starts what makes this machine a node.
func (c Cluster) startNode(ctx context.Context) error {
	for _, d := range []func() (daemon.Daemon, error){c.kubelet, c.proxy} {
		if err := c.ensure(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (c Cluster) configureNode() error {
	plugins, err := c.program(build.CNI, "")
	if err != nil {
		return err
	}
	shim, err := c.program(build.Containerd, "containerd-shim-runc-v2")
	if err != nil {
		return err
	}
	pause, err := c.imageOf(build.Pause)
	if err != nil {
		return err
	}
	values := nodeFiles{
		State: stateDir, Run: runDir, PKI: state("pki"), Socket: containerdSocket(),
		Snapshotter: snapshotter(), PauseImage: pause,
		CNIPlugins: plugins, CNINetwork: cniNetwork, Shim: shim, PodCIDR: podCIDR,
		Cgroup: cgroupName, DNSService: dnsService, DNSDomain: dnsDomain,
	}
	for source, target := range map[string]string{
		"containerd.toml": state("containerd.toml"),
		"cni.conflist":    state("cni", "10-pods.conflist"),
		"kubelet.yaml":    state("kubelet.yaml"),
	} {
		data, err := render(source, values)
		if err != nil {
			return err
		}
		if err := writeFile(target, data, 0o644); err != nil {
			return err
		}
	}
	// Pods that do not use the cluster's DNS have none: nothing outside the
	// machine can be reached from here.
	if err := writeFile(state("resolv.conf"), nil, 0o644); err != nil {
		return err
	}
	if err := os.MkdirAll(state("volumes"), 0o755); err != nil {
		return err
	}
	return makeCgroups()
}

func (c Cluster) containerd() (daemon.Daemon, error) {
	path, err := c.program(build.Containerd, "containerd")
	return daemon.Daemon{Name: "containerd", Path: path, Args: []string{
		"--config", state("containerd.toml"), "--log-level", "warn",
	}}, err
}

func (c Cluster) kubelet() (daemon.Daemon, error) {
	path, err := c.program(build.Kubelet, "kubelet")
	return daemon.Daemon{Name: "kubelet", Path: path, Args: []string{
		"--config=" + state("kubelet.yaml"),
		"--kubeconfig=" + pkiFile("kubelet.kubeconfig"),
		"--hostname-override=" + nodeName,
		"--node-ip=" + NodeIP(),
		"--root-dir=" + state("kubelet"),
		"--cert-dir=" + state("kubelet", "pki"),
	}}, err
}

func (c Cluster) proxy() (daemon.Daemon, error) {
	path, err := c.program(build.Proxy, "kube-proxy")
	return daemon.Daemon{Name: "kube-proxy", Path: path, Args: []string{
		"--kubeconfig=" + pkiFile("kube-proxy.kubeconfig"),
		"--hostname-override=" + nodeName,
		"--proxy-mode=nftables",
		"--cluster-cidr=" + podCIDR,
		"--conntrack-max-per-core=0", // a setting of the whole machine, which is not ours
		"--conntrack-tcp-timeout-established=0",
		"--conntrack-tcp-timeout-close-wait=0",
	}}, err
}

// ctr runs containerd's client in the namespace that the kubelet's images are in.
func (c Cluster) ctr(ctx context.Context, args ...string) (string, error) {
	path, err := c.program(build.Containerd, "ctr")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"--address", containerdSocket(), "--namespace", "k8s.io"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", args[0], err, out)
	}
	return string(out), nil
}

// snapshotter is overlayfs where the state directory's file system can carry
// it; else images are copied, which is slower and takes more room.
func snapshotter() string {
	dir := state("overlay-trial")
	defer os.RemoveAll(dir)
	options := ""
	for _, part := range []string{"lower", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, part), 0o755); err != nil {
			return "native"
		}
		options += fmt.Sprintf(",%sdir=%s", part, filepath.Join(dir, part))
	}
	target := filepath.Join(dir, "merged")
	if err := os.MkdirAll(target, 0o755); err != nil {
		return "native"
	}
	if err := syscall.Mount("overlay", target, "overlay", 0, options[1:]); err != nil {
		return "native"
	}
	if err := syscall.Unmount(target, 0); err != nil {
		return "native"
	}
	return "overlayfs"
}
