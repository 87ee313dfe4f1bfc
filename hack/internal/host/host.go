// Package host makes sure that this machine can run the local cluster, installs
// what is missing where it knows how, and else says what to do. It knows
// operating systems, nothing of the cluster.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// needed is the Debian package of each program that has to be there.
var needed = map[string]string{
	"runc":         "runc",
	"nft":          "nftables",
	"iptables":     "iptables",
	"conntrack":    "conntrack",
	"ip":           "iproute2",
	"nsenter":      "util-linux",
	"mount":        "mount",
	"redis-server": "redis-server",
	"redis-cli":    "redis-tools",
}

// instead ends every refusal.
const instead = `To use a cluster that you have instead: make install deploy KUBECONFIG=/path/to/kubeconfig`

// Prepare returns when the machine is fit.
func Prepare(ctx context.Context, say func(string)) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the local cluster runs on Linux only (this is %s): use a Linux machine or VM.\n%s", runtime.GOOS, instead)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the local cluster needs root, for namespaces and mounts: sudo env \"PATH=$PATH\" make up\n%s", instead)
	}
	// Debian keeps some of the programs where root's PATH may not point.
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if !slices.Contains(strings.Split(os.Getenv("PATH"), ":"), dir) {
			if err := os.Setenv("PATH", os.Getenv("PATH")+":"+dir); err != nil {
				return err
			}
		}
	}
	packages := missing(exec.LookPath)
	if len(packages) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("programs are missing and there is no apt-get to install them: install these packages, by whatever name your system has for them: %s\n%s",
			strings.Join(packages, ", "), instead)
	}
	say("installing " + strings.Join(packages, ", "))
	return install(ctx, packages)
}

// missing lists the packages of the programs that look does not find.
func missing(look func(string) (string, error)) []string {
	var packages []string
	for program, pkg := range needed {
		if _, err := look(program); err != nil {
			packages = append(packages, pkg)
		}
	}
	slices.Sort(packages)
	return packages
}

// install installs packages of which only the programs are wanted: no service
// starts, and none is left to start with the machine.
func install(ctx context.Context, packages []string) error {
	restore, err := forbidServices()
	if err != nil {
		return err
	}
	defer restore()
	install := append([]string{"install", "--yes", "--no-install-recommends"}, packages...)
	if err := aptGet(ctx, install...); err != nil {
		// Most likely the lists of packages are old, or there are none yet.
		if err := aptGet(ctx, "update"); err != nil {
			return err
		}
		if err := aptGet(ctx, install...); err != nil {
			return fmt.Errorf("%w\nInstall by hand: apt-get install %s\n%s", err, strings.Join(packages, " "), instead)
		}
	}
	if _, err := exec.LookPath("systemctl"); err == nil && slices.Contains(packages, "redis-server") {
		// It fails where systemd is installed but does not run; then nothing
		// would start the service either.
		_ = exec.CommandContext(ctx, "systemctl", "disable", "redis-server").Run()
	}
	return nil
}

// forbidServices makes packages that are being installed start no service.
func forbidServices() (restore func(), err error) {
	const policy = "/usr/sbin/policy-rc.d"
	const script = "#!/bin/sh\n# Written while packages are installed; may be deleted.\nexit 101\n"
	if data, err := os.ReadFile(policy); err == nil && string(data) != script {
		return func() {}, nil // the machine's owner has a policy
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.WriteFile(policy, []byte(script), 0o755); err != nil {
		return nil, err
	}
	return func() { os.Remove(policy) }, nil
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, strings.Join(lines[max(0, len(lines)-5):], "\n"))
	}
	return nil
}
