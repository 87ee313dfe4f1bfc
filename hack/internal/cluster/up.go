//go:build linux

package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/host"
	"github.com/chatcluster/chatcluster/hack/internal/progress"
)

// BuildSteps build what a cluster is made of, once the machine is known to be
// fit to run it.
func (c Cluster) BuildSteps() []progress.Step {
	machine := progress.Step{Name: "machine", Do: func(ctx context.Context, say func(string)) (string, error) {
		return "fit", host.Prepare(ctx, say)
	}}
	return append([]progress.Step{machine}, c.Cache.Steps(build.All)...)
}

// UpSteps bring the cluster up. They are safe to repeat, after whatever ended
// an earlier run.
func (c Cluster) UpSteps() []progress.Step {
	return append(c.BuildSteps(),
		progress.Step{Name: "network", Do: plain(c.prepare)},
		progress.Step{Name: "control plane and node", Do: plain(c.start)},
		progress.Step{Name: "add-ons ready", Do: plain(c.awaitAddons)},
	)
}

func plain(do func(context.Context) error) func(context.Context, func(string)) (string, error) {
	return func(ctx context.Context, _ func(string)) (string, error) { return "done", do(ctx) }
}

// prepare clears away a cluster that cannot be gone on with, and makes what
// daemons need before they start.
func (c Cluster) prepare(ctx context.Context) error {
	identity, err := c.identity()
	if err != nil {
		return err
	}
	if !c.sameCluster(identity) {
		if err := c.Remove(ctx); err != nil {
			return fmt.Errorf("clear away an earlier cluster: %w", err)
		}
	}
	for _, dir := range []string{stateDir, runDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	if err := network.Ensure(ctx); err != nil {
		return fmt.Errorf("make the node's network: %w", err)
	}
	if err := c.credentials(); err != nil {
		return err
	}
	if _, err := c.Cache.Assets(); err != nil {
		return err
	}
	return c.publish()
}

// start starts everything, each part as soon as those that it needs are there.
func (c Cluster) start(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	runtime, images := make(chan struct{}), make(chan struct{})
	group.Go(func() error {
		if err := c.startContainerd(gctx); err != nil {
			return err
		}
		close(runtime)
		if err := c.loadOwnImages(gctx); err != nil {
			return err
		}
		close(images)
		return nil
	})
	group.Go(func() error {
		return inOrder(gctx,
			c.startAPI,
			c.startControllers,
			after(runtime, c.startNode),
			c.installCRDs,
			// A pod that wants an image which is not there fails: nobody could
			// pull it, and the kubelet would be slow to look again.
			after(images, c.installAddons),
		)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	identity, err := c.identity()
	if err != nil {
		return err
	}
	return writeFile(identityFile(), []byte(identity), 0o644)
}

func inOrder(ctx context.Context, parts ...func(context.Context) error) error {
	for _, start := range parts {
		if err := start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// after makes something wait until the other thing is there.
func after(there <-chan struct{}, start func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-there:
			return start(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// identityFile is written when a cluster has come up whole.
func identityFile() string { return state("identity") }

// identity is what a running cluster cannot be changed to: the version of
// Kubernetes, the shape of its configuration, the boot of the machine. A cluster
// of another identity is cleared away, which takes seconds, rather than mended,
// which is never quite tested.
func (c Cluster) identity() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	digest.Write(boot)
	fmt.Fprintln(digest, network, podCIDR, serviceCIDR, stateDir, runDir)
	for _, t := range []build.Tool{build.Etcd, build.APIServer, build.Kubelet, build.Containerd, build.CNI, build.Pause} {
		dir, err := c.Cache.Path(t)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(digest, dir)
	}
	files, err := embedded.ReadDir("files")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		data, err := embedded.ReadFile("files/" + f.Name())
		if err != nil {
			return "", err
		}
		digest.Write(data)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// sameCluster tells whether the cluster on this machine came up whole and is of
// that identity: then only what is missing of it has to be started.
func (c Cluster) sameCluster(identity string) bool {
	data, err := os.ReadFile(identityFile())
	return err == nil && string(data) == identity
}

// snapshotterInUse is what containerd's configuration says.
func snapshotterInUse() string {
	data, err := os.ReadFile(state("containerd.toml"))
	if err == nil && strings.Contains(string(data), `snapshotter = "native"`) {
		return "native"
	}
	return "overlayfs"
}
