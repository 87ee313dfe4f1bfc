//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/chatcluster/chatcluster/hack/internal/daemon"
	"github.com/chatcluster/chatcluster/hack/internal/progress"
)

// DownSteps take the cluster away, whatever is left of it.
func (c Cluster) DownSteps() []progress.Step {
	return []progress.Step{
		{Name: "stop", Do: plain(c.stop)},
		{Name: "remove", Do: plain(c.clear)},
		{Name: "check", Do: plain(c.checkGone)},
	}
}

// Remove does all of DownSteps.
func (c Cluster) Remove(ctx context.Context) error {
	for _, s := range c.DownSteps() {
		if _, err := s.Do(ctx, func(string) {}); err != nil {
			return err
		}
	}
	return nil
}

// stop ends all processes: first those that would start others again, the API
// server before etcd, and then whatever else is in a pod or in the namespace.
func (c Cluster) stop(ctx context.Context) error {
	const grace = 5 * time.Second
	for _, name := range []string{"kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager"} {
		if err := c.host.Stop(ctx, name, grace); err != nil {
			return err
		}
	}
	// The volumes and pods go with the cluster, so nothing in them needs time
	// to finish.
	if err := endAll(ctx, cgroupProcesses, 0); err != nil {
		return fmt.Errorf("end the pods: %w", err)
	}
	for _, name := range []string{"kube-apiserver", "etcd", "containerd"} {
		if err := c.host.Stop(ctx, name, grace); err != nil {
			return err
		}
	}
	// containerd's shims, and daemons of a run that was cut off before it could
	// note what it had started.
	if err := endAll(ctx, processesInNamespace, grace); err != nil {
		return fmt.Errorf("end what runs in namespace %s: %w", network.Name, err)
	}
	return nil
}

// clear removes everything that is not a process.
func (c Cluster) clear(ctx context.Context) error {
	if err := unmountUnder(stateDir, runDir); err != nil {
		return err
	}
	if err := network.Remove(ctx); err != nil {
		return err
	}
	if err := removeCgroups(); err != nil {
		return fmt.Errorf("remove the pods' cgroup: %w", err)
	}
	if err := removeStrays(); err != nil {
		return err
	}
	for _, dir := range []string{stateDir, runDir, c.UserIn} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// checkGone makes sure that nothing is left.
func (c Cluster) checkGone(context.Context) error {
	var left []string
	note := func(format string, args ...any) { left = append(left, fmt.Sprintf(format, args...)) }

	if pids, err := cgroupProcesses(); err != nil || len(pids) > 0 {
		note("processes of pods: %v %v", pids, errOrNothing(err))
	}
	if pids, err := processesInNamespace(); err != nil || len(pids) > 0 {
		note("processes in the namespace: %v %v", pids, errOrNothing(err))
	}
	points, err := mountpoints(func(string) bool { return true })
	if err != nil {
		return err
	}
	for _, p := range points {
		if under(p, []string{stateDir, runDir, network.Path()}) {
			note("mount %s", p)
		}
	}
	paths := []string{stateDir, runDir, network.Path(), "/sys/class/net/" + network.HostLink}
	if roots, err := cgroupRoots(); err == nil {
		paths = append(paths, roots...)
	}
	strays, err := findStrays()
	if err != nil {
		return err
	}
	for _, p := range append(paths, strays...) {
		if _, err := os.Lstat(p); err == nil {
			note("%s", p)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("the cluster is stopped, but something is left of it:\n  %s", strings.Join(left, "\n  "))
	}
	return nil
}

func errOrNothing(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// endAll ends the processes that list names until there are none; new ones may
// come up while old ones go.
func endAll(ctx context.Context, list func() ([]int, error), grace time.Duration) error {
	for range 10 {
		pids, err := list()
		if err != nil || len(pids) == 0 {
			return err
		}
		var errs []error
		for _, pid := range pids {
			p, err := daemon.Find(pid)
			if err != nil {
				continue // it has ended meanwhile
			}
			if grace == 0 {
				err = p.Kill()
			} else {
				err = p.End(ctx, grace)
			}
			errs = append(errs, err)
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	pids, err := list()
	if err == nil && len(pids) > 0 {
		err = fmt.Errorf("processes %v do not end", pids)
	}
	return err
}

// processesInNamespace are the processes whose network namespace is the node's.
func processesInNamespace() ([]int, error) {
	inode, ok := network.Inode()
	if !ok {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var st syscall.Stat_t
		if syscall.Stat(filepath.Join("/proc", e.Name(), "ns/net"), &st) == nil && st.Ino == inode {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
