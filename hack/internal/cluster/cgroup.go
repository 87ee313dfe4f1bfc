//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// cgroupRoots are the directories of our cgroup: one in each mounted hierarchy
// of version 1, or the one of version 2.
func cgroupRoots() ([]string, error) {
	mounts, err := mountpoints(func(fstype string) bool { return fstype == "cgroup" || fstype == "cgroup2" })
	if err != nil {
		return nil, err
	}
	if len(mounts) == 0 {
		return nil, errors.New("no cgroup file system is mounted, so containers cannot run here")
	}
	var roots []string
	for _, m := range mounts {
		roots = append(roots, filepath.Join(m, cgroupName))
	}
	return roots, nil
}

// makeCgroups makes the cgroup that the kubelet expects to be there.
func makeCgroups() error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, r := range roots {
		if err := enableControllers(filepath.Dir(r)); err != nil {
			return err
		}
		if err := os.MkdirAll(r, 0o755); err != nil {
			return fmt.Errorf("make the pods' cgroup: %w", err)
		}
	}
	return nil
}

// enableControllers hands on, in a hierarchy of version 2, the controllers that
// the kubelet insists on having in its cgroup. It changes nothing for the
// cgroups that are there: it only lets them have what they may ask for.
func enableControllers(hierarchy string) error {
	available, err := os.ReadFile(filepath.Join(hierarchy, "cgroup.controllers"))
	if err != nil {
		return ignoreGone(err) // version 1
	}
	for _, c := range wantedControllers(string(available)) {
		if err := os.WriteFile(filepath.Join(hierarchy, "cgroup.subtree_control"), []byte("+"+c), 0o644); err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", c, err)
		}
	}
	return nil
}

func wantedControllers(available string) []string {
	var wanted []string
	for _, c := range strings.Fields(available) {
		if slices.Contains([]string{"cpu", "cpuset", "memory", "hugetlb", "pids"}, c) {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

// cgroupProcesses are the processes of all pods, whoever started them.
func cgroupProcesses() ([]int, error) {
	roots, err := cgroupRoots()
	if err != nil {
		return nil, nil // no cgroups, no pods
	}
	seen := map[int]bool{}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return ignoreGone(err)
			}
			data, err := os.ReadFile(path)
			for _, field := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
					seen[pid] = true
				}
			}
			return ignoreGone(err)
		})
		if err != nil {
			return nil, err
		}
	}
	pids := make([]int, 0, len(seen))
	for pid := range seen {
		pids = append(pids, pid)
	}
	return pids, nil
}

// removeCgroups removes the cgroup with all below it; its processes must have
// ended.
func removeCgroups() error {
	roots, err := cgroupRoots()
	if err != nil {
		return nil
	}
	var errs []error
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return ignoreGone(err)
		})
		errs = append(errs, err)
		for i := len(dirs) - 1; i >= 0; i-- { // innermost first; the files in them are the kernel's
			if err := os.Remove(dirs[i]); err != nil {
				errs = append(errs, ignoreGone(err))
			}
		}
	}
	return errors.Join(errs...)
}

// ignoreGone makes nothing of a thing that is not there (any more). ENODEV is
// what a cgroup's files say when it has just been removed.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}
