//go:build linux

package cluster

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// daemons in the order in which they start.
var daemons = []string{"etcd", "kube-apiserver", "containerd", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"}

// Status writes where things are and how each part does; the error tells that
// not all is well.
func (c Cluster) Status(ctx context.Context, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	c.WriteAddresses(w)
	fmt.Fprintln(w)
	ill := 0
	for _, name := range daemons {
		if pid, ok := c.host.Running(name); ok {
			fmt.Fprintf(w, "%s\trunning, process %d\n", name, pid)
		} else {
			ill++
			fmt.Fprintf(w, "%s\tnot running\n", name)
		}
	}
	if ill == 0 {
		pods, err := c.kubectl(ctx, nil, "get", "deployments", "--namespace=kube-system", "--output=jsonpath="+deploymentColumns)
		for _, ns := range []string{"cert-manager", "local-router"} {
			if err == nil {
				var more string
				more, err = c.kubectl(ctx, nil, "get", "deployments", "--namespace="+ns, "--output=jsonpath="+deploymentColumns)
				pods += more
			}
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(pods) {
			name, ready, _ := strings.Cut(strings.TrimSpace(line), " ")
			if ready == "1" {
				fmt.Fprintf(w, "%s\tready\n", name)
			} else {
				ill++
				fmt.Fprintf(w, "%s\tnot ready\n", name)
			}
		}
	}
	if ill > 0 {
		return fmt.Errorf("%d parts of the cluster are not well", ill)
	}
	return nil
}

const deploymentColumns = `{range .items[*]}{.metadata.name} {.status.availableReplicas}{"\n"}{end}`

// WriteAddresses writes what a user needs to reach the cluster, in two columns.
func (c Cluster) WriteAddresses(w io.Writer) {
	fmt.Fprintf(w, "kubeconfig\t%s\n", c.Kubeconfig())
	fmt.Fprintf(w, "CA of public certificates\t%s\n", c.CA())
	fmt.Fprintf(w, "router and node address\t%s\n", NodeIP())
	fmt.Fprintf(w, "audit log\t%s\n", c.AuditLog())
	fmt.Fprintf(w, "logs\t%s\n", c.host.LogDir)
}
