// Package build compiles the local cluster's programs from the Go modules under
// hack/ and keeps them in a cache, by version. It must not know how they are run.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tool is a program, or several that belong together, built from one module.
type Tool struct {
	Name     string   // also the file's name, where there is one package
	Module   string   // directory under hack/
	Packages []string // several: each file is named as its package's last element
	Version  string   // path of the module that gives the tool its version; empty: made here
	// VersionVar is the string variable that a linker flag sets to the version.
	VersionVar string
	Tags       string
	// Sources are the directories under Module, if the source is ours: a change
	// in them makes a new build.
	Sources []string
	// Manifests is a directory of YAML files inside the version's module that
	// goes with the tool, for example its CRDs.
	Manifests string
}

// Cache is where built tools are kept: a directory a tool and version, which
// appears whole or not at all.
type Cache struct {
	Dir  string // for example ~/.cache/chatcluster/bin
	Hack string // the hack/ directory with the modules' sources
}

// Path is the directory of a tool's files; they are there after Build.
func (c Cache) Path(t Tool) (string, error) {
	key, err := c.key(t)
	return filepath.Join(c.Dir, key), err
}

// Build builds the tool unless it is in the cache already. compiling is called
// before what may take minutes.
func (c Cache) Build(ctx context.Context, t Tool, compiling func()) (cached bool, err error) {
	dir, err := c.Path(t)
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", t.Name, err)
	}
	if exists(dir) {
		return true, nil
	}
	compiling()
	temp, err := os.MkdirTemp(c.Dir, tempPrefix+t.Name+"-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	if err := c.compile(ctx, t, temp); err != nil {
		return false, fmt.Errorf("build %s: %w", t.Name, err)
	}
	if err := c.copyManifests(ctx, t, temp); err != nil {
		return false, fmt.Errorf("copy the manifests of %s: %w", t.Name, err)
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return false, err
	}
	return false, os.Rename(temp, dir)
}

func (c Cache) compile(ctx context.Context, t Tool, dir string) error {
	args := []string{"build", "-buildvcs=false"}
	ldflags := "-s -w"
	if t.VersionVar != "" {
		v, err := c.version(t)
		if err != nil {
			return err
		}
		ldflags += fmt.Sprintf(" -X %s=%s", t.VersionVar, v)
	}
	args = append(args, "-ldflags", ldflags)
	if t.Tags != "" {
		args = append(args, "-tags", t.Tags)
	}
	out := dir + "/"
	if len(t.Packages) == 1 {
		out = filepath.Join(dir, t.Name)
	}
	_, err := c.run(ctx, t, append(append(args, "-o", out), t.Packages...)...)
	return err
}

func (c Cache) copyManifests(ctx context.Context, t Tool, dir string) error {
	if t.Manifests == "" {
		return nil
	}
	module, err := c.run(ctx, t, "list", "-m", "-f", "{{.Dir}}", t.Version)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(module), t.Manifests, "*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no YAML file in %s of %s", t.Manifests, t.Version)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// run runs the go command in the tool's module.
func (c Cache) run(ctx context.Context, t Tool, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(c.Hack, t.Module)
	// A workspace or flags of the caller's would build something else.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS="+goflags)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", args[0], cmd.Dir, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// goflags are the Makefile's, so that what several of our programs are made of
// is compiled once. Without debugging information it takes an eighth less.
const goflags = "-trimpath -gcflags=all=-dwarf=false"

const tempPrefix = ".building-"

// Lock makes this the only run that builds, so that two do not compile the same
// thing side by side; waiting is called if another run has to be waited for.
// What a cut-off run left half-built is removed.
func (c Cache) Lock(ctx context.Context, waiting func()) (unlock func(), err error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err = LockFile(ctx, filepath.Join(c.Dir, ".lock"), waiting)
	if err != nil {
		return nil, err
	}
	left, _ := filepath.Glob(filepath.Join(c.Dir, tempPrefix+"*"))
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			unlock()
			return nil, err
		}
	}
	return unlock, nil
}

// LockFile takes the lock that the file stands for. The kernel gives it back
// however the process ends.
func LockFile(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	told := false
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			waiting()
			told = true
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// copyInto feeds the files under dir, names and contents, to w; for the key.
func copyInto(w io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s %d\n%s", rel, len(data), data)
		return err
	})
}
