package cluster

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"golang.org/x/sync/errgroup"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/image"
)

const (
	nonroot   = "65532:65532"
	redisUser = "999:999"
	// pauseImage holds pods' namespaces open; containerd's configuration names it.
	pauseImage = "local/pause:1"
)

// podTools are the parts of the cluster that run as pods.
var podTools = []build.Tool{build.CoreDNS, build.CertManager, build.MetricsServer, build.Router, build.Provisioner}

// loadOwnImages puts the images of the cluster's own parts into containerd, and
// Redis's.
func (c Cluster) loadOwnImages(ctx context.Context) error {
	pause, err := c.program(build.Pause, "pause")
	if err != nil {
		return err
	}
	programs := map[string]string{pauseImage: pause}
	for _, t := range podTools {
		name, err := c.imageOf(t)
		if err != nil {
			return err
		}
		if programs[name], err = c.program(t, t.Name); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // each holds an image in memory
	for name, program := range programs {
		group.Go(func() error {
			img, err := image.Static(name, program, nonroot)
			if err != nil {
				return err
			}
			_, err = c.load(ctx, img)
			return err
		})
	}
	group.Go(func() error { return c.loadRedis(ctx) })
	return group.Wait()
}

// loadRedis makes images of the machine's Redis: one named by its version, and
// one named "local" for those who do not care which it is.
func (c Cluster) loadRedis(ctx context.Context) error {
	version, err := image.RedisVersion()
	if err != nil {
		return err
	}
	for _, tag := range []string{version, "local"} {
		img, err := image.Redis("chatcluster/redis:"+tag, redisUser)
		if err != nil {
			return err
		}
		if _, err := c.load(ctx, img); err != nil {
			return err
		}
	}
	return nil
}

// imageOf names the image of one of the cluster's parts. The tag has the digest
// of its sources, so that a change rolls its pod.
func (c Cluster) imageOf(t build.Tool) (string, error) {
	dir, err := c.Cache.Path(t)
	return "local/" + t.Name + ":" + strings.TrimPrefix(filepath.Base(dir), t.Name+"-"), err
}

// Load puts an image of a static program into the cluster. spec is
// [NAME=]PATH; a NAME without a tag gets the tag "dev", one without a
// repository is in "chatcluster/". loaded is false if the cluster had the very
// same image already.
func (c Cluster) Load(ctx context.Context, spec string) (name string, loaded bool, err error) {
	name, path := parseLoad(spec)
	img, err := image.Static(name, path, nonroot)
	if err != nil {
		return name, false, err
	}
	loaded, err = c.load(ctx, img)
	return name, loaded, err
}

func parseLoad(spec string) (name, path string) {
	name, path, ok := strings.Cut(spec, "=")
	if !ok {
		name, path = filepath.Base(spec), spec
	}
	if !strings.Contains(name, "/") {
		name = "chatcluster/" + name
	}
	if !strings.Contains(name, ":") {
		name += ":dev"
	}
	return name, path
}

func (c Cluster) load(ctx context.Context, img image.Image) (loaded bool, err error) {
	// The kubelet asks for images by their full names, registry and all.
	ref, err := reference.ParseDockerRef(img.Name)
	if err != nil {
		return false, fmt.Errorf("image name %q: %w", img.Name, err)
	}
	img.Name = ref.String()
	digest, err := img.Digest()
	if err != nil {
		return false, err
	}
	present, err := c.ctr(ctx, "images", "ls", "name=="+img.Name)
	if err != nil {
		return false, err
	}
	if strings.Contains(present, digest.String()) {
		return false, nil
	}
	return true, c.importImage(ctx, img)
}

func (c Cluster) importImage(ctx context.Context, img image.Image) error {
	path, err := c.program(build.Containerd, "ctr")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, "--address", containerdSocket(), "--namespace", "k8s.io",
		"images", "import", "--local", "--snapshotter", snapshotterInUse(), "-")
	in, out := io.Pipe()
	cmd.Stdin = in
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	go func() { out.CloseWithError(img.Write(out)) }() // ends when ctr closes its end or has read all
	err = cmd.Run()
	in.Close()
	if err != nil {
		return fmt.Errorf("import image %s: %w: %s", img.Name, err, said.String())
	}
	return nil
}
