package build

const (
	kubernetes = "k8s.io/kubernetes"
	gitVersion = "k8s.io/component-base/version.gitVersion"
	containerd = "github.com/containerd/containerd/v2"
	cni        = "github.com/containernetworking/plugins"
)

func kube(name string) Tool {
	return Tool{Name: name, Module: "kubernetes", Packages: []string{kubernetes + "/cmd/" + name},
		Version: kubernetes, VersionVar: gitVersion}
}

// The parts of the local cluster. kube-apiserver is by far the longest to
// compile, and what it compiles the others then find done.
var (
	APIServer         = kube("kube-apiserver")
	ControllerManager = kube("kube-controller-manager")
	Scheduler         = kube("kube-scheduler")
	Kubelet           = kube("kubelet")
	Proxy             = kube("kube-proxy")
	Kubectl           = kube("kubectl")

	Etcd = Tool{Name: "etcd", Module: "kubernetes", Packages: []string{"go.etcd.io/etcd/server/v3"},
		Version: "go.etcd.io/etcd/server/v3"}
	MetricsServer = Tool{Name: "metrics-server", Module: "kubernetes",
		Packages: []string{"sigs.k8s.io/metrics-server/cmd/metrics-server"}, Version: "sigs.k8s.io/metrics-server",
		VersionVar: gitVersion}
	CoreDNS = Tool{Name: "coredns", Module: "kubernetes", Packages: []string{"./coredns"},
		Version: "github.com/coredns/coredns", Sources: []string{"coredns"}}
	CertManager = Tool{Name: "cert-manager", Module: "kubernetes", Packages: []string{"./cert-manager"},
		Version: "github.com/cert-manager/cert-manager", Sources: []string{"cert-manager"}, Manifests: "deploy/crds"}
	Pause = Tool{Name: "pause", Module: "kubernetes", Packages: []string{"./pause"}, Sources: []string{"pause"}}

	Containerd = Tool{Name: "containerd", Module: "kubernetes", Version: containerd,
		Packages: []string{containerd + "/cmd/containerd", containerd + "/cmd/containerd-shim-runc-v2", containerd + "/cmd/ctr"},
		Tags:     "no_btrfs,no_devmapper,no_zfs", VersionVar: containerd + "/version.Version"}
	CNI = Tool{Name: "cni", Module: "kubernetes", Version: cni,
		Packages: []string{cni + "/plugins/main/ptp", cni + "/plugins/ipam/host-local", cni + "/plugins/meta/portmap"}}

	Router = Tool{Name: "router", Module: ".", Packages: []string{"./router"}, Sources: []string{"router"},
		Version: "sigs.k8s.io/gateway-api", Manifests: "config/crd/standard"}
	Provisioner = Tool{Name: "provisioner", Module: ".", Packages: []string{"./provisioner"}, Sources: []string{"provisioner"}}
)

// All are the tools of a whole cluster, in the order in which to build them.
var All = []Tool{APIServer, Etcd, ControllerManager, Scheduler, Kubelet, Proxy, Kubectl, MetricsServer,
	CoreDNS, CertManager, Pause, Containerd, CNI, Router, Provisioner}

// Envtest are the tools that a test needs which talks to a real API server but
// runs no pods.
var Envtest = []Tool{APIServer, Etcd, Kubectl}
