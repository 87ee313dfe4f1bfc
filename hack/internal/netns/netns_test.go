//go:build linux

package netns

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// testNetwork is one that is neither the cluster's nor anybody else's.
func testNetwork(t *testing.T) Network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("there is no ip command")
	}
	n := Network{
		Name: "chatcluster-test", HostLink: "chattest0",
		Host: netip.MustParsePrefix("10.231.255.1/30"), Node: netip.MustParsePrefix("10.231.255.2/30"),
		Routed: netip.MustParsePrefix("10.231.252.0/24"),
	}
	if out, err := exec.Command("ip", "netns", "add", n.Name).CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %v: %s", err, out)
	}
	return n
}

// remove ends a test's network.
func remove(t *testing.T, n Network) {
	t.Helper()
	if err := n.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestHalfMadeNetworkIsMadeWhole(t *testing.T) {
	n := testNetwork(t) // of which only the namespace is there
	defer remove(t, n)
	for range 2 { // the second time nothing is to be done
		if err := n.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("nsenter", "--net="+n.Path(), "--", "ip", "-4", "addr", "show", "dev", nodeLink).CombinedOutput()
	if err != nil || !strings.Contains(string(out), n.Node.String()) {
		t.Errorf("inside there is %s (%v), want address %s", out, err, n.Node)
	}
	if _, ok := n.Inode(); !ok {
		t.Error("the namespace has no identity")
	}
}

func TestRemovedNetworkLeavesNothing(t *testing.T) {
	n := testNetwork(t)
	defer remove(t, n)
	if err := n.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{n.Path(), "/sys/class/net/" + n.HostLink} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if _, ok := n.Inode(); ok {
		t.Error("it still has an identity")
	}
}

func TestNetworkInUseIsRefused(t *testing.T) {
	n := testNetwork(t)
	defer remove(t, n)
	if out, err := exec.Command("ip", "route", "add", "unreachable", "10.231.255.0/30").CombinedOutput(); err != nil {
		t.Skipf("no route can be added here: %v: %s", err, out)
	}
	defer exec.Command("ip", "route", "del", "unreachable", "10.231.255.0/30").Run()
	if err := n.Ensure(t.Context()); err == nil || !strings.Contains(err.Error(), "already has a route") {
		t.Errorf("error = %v", err)
	}
}
