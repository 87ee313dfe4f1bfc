package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// staticProgram builds one.
func staticProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "hello")
	cmd := exec.Command("go", "build", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// unpack reads an archive into memory.
func unpack(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStaticImageHasTheProgramAndNothingElse(t *testing.T) {
	t.Parallel()
	program := staticProgram(t)
	img, err := Static("example/hello:1", program, "65532:65532")
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/hello"}) || config.OS != "linux" {
		t.Errorf("config = %+v", config)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if files := unpack(t, data); len(files) != 1 || !bytes.Equal(files["hello"], want) {
		t.Errorf("the layer has %d files, or not the program", len(files))
	}
}

func TestSameProgramGivesTheSameDigest(t *testing.T) {
	t.Parallel()
	program := staticProgram(t)
	digest := func() string {
		img, err := Static("example/hello:1", program, "65532")
		if err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	first := digest()
	if again := digest(); again != first {
		t.Errorf("digest %s, then %s", first, again)
	}
	if err := os.WriteFile(program, append(read(t, program), 0), 0o755); err != nil {
		t.Fatal(err)
	}
	if changed := digest(); changed == first {
		t.Error("another program has the same digest")
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDynamicProgramIsRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	_, err := Static("example/sh:1", "/bin/sh", "65532")
	if err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("error = %v", err)
	}
	if _, err := Static("example/text:1", "image_test.go", "65532"); err == nil {
		t.Error("a text file became an image")
	}
}

func TestArchiveIsAnImageLayout(t *testing.T) {
	t.Parallel()
	img, err := Static("example/hello:1", staticProgram(t), "65532")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := img.Write(&out); err != nil {
		t.Fatal(err)
	}
	files := unpack(t, out.Bytes())
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	m := index.Manifests[0]
	if m.Digest != digest.String() || m.Annotations[nameAnnotation] != "example/hello:1" {
		t.Errorf("index = %+v", index)
	}
	blobs := 0
	for name := range files {
		if strings.HasPrefix(name, "blobs/sha256/") {
			blobs++
		}
	}
	if blobs != 3 { // manifest, configuration, layer
		t.Errorf("%d blobs, want 3", blobs)
	}
}

func TestParseLdd(t *testing.T) {
	t.Parallel()
	got, err := parseLdd("\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f1)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n")
	if want := []string{"/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("parseLdd = %q, %v; want %q", got, err, want)
	}
	if _, err := parseLdd("\tliblua.so => not found\n"); err == nil {
		t.Error("a missing library is no error")
	}
}

func TestParseRedisVersion(t *testing.T) {
	t.Parallel()
	got, err := parseRedisVersion("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1\n")
	if err != nil || got != "7.0.15" {
		t.Errorf("parseRedisVersion = %q, %v", got, err)
	}
	if _, err := parseRedisVersion("something else"); err == nil {
		t.Error("no version is no error")
	}
}
