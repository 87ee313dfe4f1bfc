// Package image makes container images of one layer out of files on this
// machine, and writes them as archives that containerd imports. It needs no
// registry and no Dockerfile, and must not know what the programs do.
package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is an image with the names under which pods ask for it.
type Image struct {
	Names []string
	v1.Image
}

// Static makes an image of one statically linked program, which runs as user.
func Static(name, program, user string) (Image, error) {
	if err := checkStatic(program); err != nil {
		return Image{}, err
	}
	target := "/" + filepath.Base(program)
	return assemble([]string{name}, v1.Config{Entrypoint: []string{target}, User: user}, map[string]string{target: program}, nil)
}

// Redis makes an image of the machine's redis-server and redis-cli with the
// libraries that they are linked to, and no shell.
func Redis(names []string, user string) (Image, error) {
	files := map[string]string{}
	for _, program := range []string{"redis-server", "redis-cli"} {
		path, err := exec.LookPath(program)
		if err != nil {
			return Image{}, err
		}
		files["/usr/local/bin/"+program] = path
		libraries, err := linked(path)
		if err != nil {
			return Image{}, err
		}
		for _, l := range libraries {
			files[l] = l
		}
	}
	return assemble(names, v1.Config{
		Cmd: []string{"redis-server"}, User: user, WorkingDir: "/data",
		Env: []string{"PATH=/usr/local/bin"},
	}, files, []string{"/data"})
}

// RedisVersion is the version of the machine's redis-server.
func RedisVersion() (string, error) {
	out, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask redis-server for its version: %w", err)
	}
	return parseRedisVersion(string(out))
}

// parseRedisVersion reads "Redis server v=7.0.15 sha=... ...".
func parseRedisVersion(line string) (string, error) {
	for _, field := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(field, "v="); ok {
			return v, nil
		}
	}
	return "", fmt.Errorf("no version in %q", line)
}

// checkStatic refuses a program that needs a loader, because the image has none.
func checkStatic(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("%s is not a Linux program: %w", program, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not statically linked: build it with CGO_ENABLED=0", program)
		}
	}
	return nil
}

// linked lists the libraries, and the loader, that ldd finds for a program.
func linked(program string) ([]string, error) {
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", program, err)
	}
	return parseLdd(string(out))
}

// parseLdd reads lines such as
//
//	libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f...)
//	/lib64/ld-linux-x86-64.so.2 (0x00007f...)
//	linux-vdso.so.1 (0x00007f...)
//
// of which the last is no file.
func parseLdd(out string) ([]string, error) {
	var paths []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("a library is missing: %s", strings.TrimSpace(line))
		}
		for _, field := range strings.Fields(line) {
			if strings.HasPrefix(field, "/") {
				paths = append(paths, field)
			}
		}
	}
	return paths, nil
}

// assemble makes the image: files is path in the image to path here; the
// directories are made empty and writable for all.
func assemble(names []string, config v1.Config, files map[string]string, directories []string) (Image, error) {
	layer, err := archive(files, directories)
	if err != nil {
		return Image{}, fmt.Errorf("make image %s: %w", names[0], err)
	}
	// Not compressed: it goes no further than this machine's disk.
	img, err := mutate.AppendLayers(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1),
		static.NewLayer(layer, types.OCIUncompressedLayer))
	if err != nil {
		return Image{}, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return Image{}, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	img, err = mutate.ConfigFile(img, file)
	return Image{Names: names, Image: img}, err
}

// archive writes the layer. It holds no times and is sorted, so that the same
// files give the same digest.
func archive(files map[string]string, directories []string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, d := range directories {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(d, "/") + "/", Mode: 0o1777}); err != nil {
			return nil, err
		}
	}
	for _, target := range slices.Sorted(maps.Keys(files)) {
		if err := addFile(w, &buf, target, files[target]); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}

func addFile(w *tar.Writer, buf *bytes.Buffer, target, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const blocks = 4 << 10              // headers and padding
	buf.Grow(int(info.Size()) + blocks) // programs are large: growing on the way would copy them several times
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(target, "/"), Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// nameAnnotation is where containerd looks for the name of an imported image.
const nameAnnotation = "io.containerd.image.name"

// Write writes the image as an archive in the OCI image layout. (The other
// format, docker's, would make containerd write a manifest of its own, with a
// digest that cannot be known before.)
func (i Image) Write(out io.Writer) error {
	manifest, err := i.RawManifest()
	if err != nil {
		return err
	}
	digest, err := i.Digest()
	if err != nil {
		return err
	}
	config, err := i.RawConfigFile()
	if err != nil {
		return err
	}
	configName, err := i.ConfigName()
	if err != nil {
		return err
	}
	var named []v1.Descriptor
	for _, name := range i.Names {
		named = append(named, v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Digest: digest, Size: int64(len(manifest)),
			Annotations: map[string]string{nameAnnotation: name},
			Platform:    &v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
		})
	}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: named})
	if err != nil {
		return err
	}

	w := tar.NewWriter(out)
	write := func(name string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	if err := write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := write("index.json", index); err != nil {
		return err
	}
	if err := write(blob(digest), manifest); err != nil {
		return err
	}
	if err := write(blob(configName), config); err != nil {
		return err
	}
	layers, err := i.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		if err := writeLayer(w, l); err != nil {
			return err
		}
	}
	return w.Close()
}

func writeLayer(w *tar.Writer, l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	data, err := l.Compressed()
	if err != nil {
		return err
	}
	defer data.Close()
	if err := w.WriteHeader(&tar.Header{Name: blob(digest), Mode: 0o644, Size: size}); err != nil {
		return err
	}
	_, err = io.Copy(w, data)
	return err
}

// blob is the path of a blob in the layout.
func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }
