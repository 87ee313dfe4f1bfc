//go:build linux

package cluster

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Some files are written outside of our directories, because the programs that
// write them have no setting for where.
const (
	containerLogs = "/var/log/containers"             // the kubelet: links to pods' logs
	cniResults    = "/var/lib/cni/results"            // containerd: what CNI plugins answered
	devicePlugins = "/var/lib/kubelet/device-plugins" // the kubelet: a socket

	// cniNetwork begins the names of our files among the CNI results.
	cniNetwork = "chatcluster-local"
)

// findStrays lists those files, and no one else's.
func findStrays() ([]string, error) {
	var strays []string
	links, err := os.ReadDir(containerLogs)
	if ignoreGone(err) != nil {
		return nil, err
	}
	for _, l := range links {
		link := filepath.Join(containerLogs, l.Name())
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, stateDir+"/") {
			strays = append(strays, link)
		}
	}
	results, err := filepath.Glob(filepath.Join(cniResults, cniNetwork+"-*"))
	if err != nil {
		return nil, err
	}
	strays = append(strays, results...)
	socket := filepath.Join(devicePlugins, "kubelet.sock")
	if _, err := os.Stat(socket); err == nil {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close() // another kubelet's
		} else {
			strays = append(strays, socket)
		}
	}
	return strays, nil
}

// removeStrays removes them, and the directories if nothing else is in them.
func removeStrays() error {
	strays, err := findStrays()
	if err != nil {
		return err
	}
	for _, s := range strays {
		if err := os.Remove(s); ignoreGone(err) != nil {
			return err
		}
	}
	for _, dir := range []string{containerLogs, cniResults, filepath.Dir(cniResults), devicePlugins, filepath.Dir(devicePlugins)} {
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
	return nil
}
