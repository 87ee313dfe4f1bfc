//go:build linux

package cluster

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/image"
)

const (
	nonroot   = "65532:65532"
	redisUser = "999:999"
)

// podTools are the parts of the cluster that run in pods.
var podTools = []build.Tool{build.Pause, build.CoreDNS, build.CertManager, build.MetricsServer, build.Router, build.Provisioner}

// loadOwnImages puts the images of the cluster's own parts into containerd, and
// Redis's; one after another, because containerd takes one import at a time.
func (c Cluster) loadOwnImages(ctx context.Context) error {
	present, err := c.images(ctx)
	if err != nil {
		return err
	}
	for _, t := range podTools {
		if err := c.loadTool(ctx, t, present); err != nil {
			return err
		}
	}
	// One name for those who want a version, one for those who do not care.
	version, err := image.RedisVersion()
	if err != nil {
		return err
	}
	redis, err := image.Redis([]string{"chatcluster/redis:" + version, "chatcluster/redis:local"}, redisUser)
	if err != nil {
		return err
	}
	_, err = c.load(ctx, redis, present)
	return err
}

func (c Cluster) loadTool(ctx context.Context, t build.Tool, present map[string]string) error {
	name, err := c.imageOf(t)
	if err != nil {
		return err
	}
	full, err := fullName(name)
	if err != nil {
		return err
	}
	if present[full] != "" {
		return nil // the name has the digest of the tool's sources
	}
	program, err := c.program(t, t.Name)
	if err != nil {
		return err
	}
	img, err := image.Static(name, program, nonroot)
	if err != nil {
		return err
	}
	_, err = c.load(ctx, img, present)
	return err
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
	present, err := c.images(ctx)
	if err != nil {
		return name, false, err
	}
	loaded, err = c.load(ctx, img, present)
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

// images lists the cluster's images, with the digest of each.
func (c Cluster) images(ctx context.Context) (map[string]string, error) {
	table, err := c.ctr(ctx, "images", "ls")
	if err != nil {
		return nil, err
	}
	return parseImages(table), nil
}

// parseImages reads a table with the columns REF, TYPE and DIGEST.
func parseImages(table string) map[string]string {
	images := map[string]string{}
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 2 {
			images[f[0]] = f[2]
		}
	}
	return images
}

// fullName is the name by which the kubelet asks for an image: with a registry,
// even if there is none.
func fullName(name string) (string, error) {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", name, err)
	}
	return ref.String(), nil
}

// load imports an image unless it is present under all of its names.
func (c Cluster) load(ctx context.Context, img image.Image, present map[string]string) (loaded bool, err error) {
	digest, err := img.Digest()
	if err != nil {
		return false, err
	}
	for i, name := range img.Names {
		if img.Names[i], err = fullName(name); err != nil {
			return false, err
		}
		loaded = loaded || present[img.Names[i]] != digest.String()
	}
	if !loaded {
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
		return fmt.Errorf("import image %s: %w: %s", img.Names[0], err, said.String())
	}
	return nil
}
