//go:build linux

// Package netns makes the network in which the node lives: a namespace of its
// own and one pair of interfaces that joins it to the host. There is no NAT and
// no default route, so the host's own network stays as it is and nothing in the
// cluster reaches past the machine.
package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Network describes the namespace.
type Network struct {
	Name     string // of the namespace
	HostLink string // the interface on the host; at most 15 characters
	Host     netip.Prefix
	Node     netip.Prefix // the address inside, in the same prefix
	Routed   netip.Prefix // addresses inside that need a route before they are rewritten: the services
}

const (
	nodeLink  = "eth0"       // the interface inside the namespace
	directory = "/run/netns" // where iproute2 keeps namespaces
)

// Path is the namespace's file, which nsenter and others take.
func (n Network) Path() string { return filepath.Join(directory, n.Name) }

// Ensure makes what is missing; a half-made one is made anew.
func (n Network) Ensure(ctx context.Context) error {
	if n.whole(ctx) {
		return nil
	}
	if err := n.Remove(ctx); err != nil {
		return err
	}
	if err := n.check(ctx); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"netns", "add", n.Name},
		{"link", "add", n.HostLink, "type", "veth", "peer", "name", nodeLink, "netns", n.Name},
		{"addr", "add", n.Host.String(), "dev", n.HostLink},
		{"link", "set", n.HostLink, "up"},
		{"-n", n.Name, "addr", "add", n.Node.String(), "dev", nodeLink},
		{"-n", n.Name, "link", "set", "lo", "up"},
		{"-n", n.Name, "link", "set", nodeLink, "up"},
		{"-n", n.Name, "route", "add", n.Routed.String(), "dev", nodeLink},
	} {
		if _, err := ip(ctx, args...); err != nil {
			return err
		}
	}
	return n.sysctl(ctx, map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv4/ip_unprivileged_port_start": "0", // the router listens on 443 without being root
	})
}

// check refuses a network that the host already has something in.
func (n Network) check(ctx context.Context) error {
	out, err := ip(ctx, "-4", "route", "show", "table", "all", "root", n.Host.Masked().String())
	if err != nil {
		return err
	}
	if route := strings.TrimSpace(out); route != "" {
		return fmt.Errorf("this machine already has a route to %s, which the cluster would use: %s", n.Host.Masked(), route)
	}
	return nil
}

func (n Network) whole(ctx context.Context) bool {
	routes, err := ip(ctx, "-n", n.Name, "route")
	if err != nil || !strings.Contains(routes, n.Routed.String()) {
		return false
	}
	host, err := ip(ctx, "-4", "addr", "show", "dev", n.HostLink, "up")
	return err == nil && strings.Contains(host, n.Host.String())
}

func (n Network) sysctl(ctx context.Context, settings map[string]string) error {
	for key, value := range settings {
		cmd := exec.CommandContext(ctx, "nsenter", "--net="+n.Path(), "--", "tee", "/proc/sys/"+key)
		cmd.Stdin = strings.NewReader(value)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("set %s in namespace %s: %w: %s", key, n.Name, err, out)
		}
	}
	return nil
}

// Remove removes the namespace and with it both ends of the pair. What is not
// there is no error. The namespace's processes must have ended before.
func (n Network) Remove(ctx context.Context) error {
	if _, err := os.Stat("/sys/class/net/" + n.HostLink); err == nil {
		if _, err := ip(ctx, "link", "del", n.HostLink); err != nil {
			return err
		}
	}
	if _, err := os.Stat(n.Path()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// The file may be there without the namespace mounted on it, if making it
	// was cut off.
	if err := unmount(n.Path()); err != nil {
		return err
	}
	if err := os.Remove(n.Path()); err != nil {
		return err
	}
	// iproute2 mounts the directory on itself when it makes the first namespace.
	if others, err := os.ReadDir(directory); err != nil || len(others) > 0 {
		return err
	}
	if err := unmount(directory); err != nil {
		return err
	}
	return os.Remove(directory)
}

func unmount(path string) error {
	if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: nothing is mounted there
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// Inode identifies the namespace: a process is in it if its /proc/PID/ns/net has
// the same. ok is false if there is no such namespace.
func (n Network) Inode() (inode uint64, ok bool) {
	var st syscall.Stat_t
	if err := syscall.Stat(n.Path(), &st); err != nil {
		return 0, false
	}
	return st.Ino, true
}

func ip(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
