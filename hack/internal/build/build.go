// Package build compiles the local cluster's programs from the Go modules under
// hack/ and keeps them in a cache, by version. It must not know how they are run.
package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// Build builds tools that go together, in one run of the compiler: it has work for
// every core from the first package to the last link. compiled is told how many
// packages are done.
func (c Cache) Build(ctx context.Context, tools []Tool, compiled func(packages int)) error {
	for _, t := range tools { // what is wrong is said before the minutes that compiling takes
		if _, err := c.Path(t); err != nil {
			return fmt.Errorf("look for %s: %w", t.Name, err)
		}
	}
	temp, err := os.MkdirTemp(c.Dir, tempPrefix+tools[0].Name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := c.compile(ctx, tools, temp, compiled); err != nil {
		return fmt.Errorf("build %s: %w", names(tools), err)
	}
	for _, t := range tools {
		if err := c.keep(ctx, t, temp); err != nil {
			return fmt.Errorf("keep %s: %w", t.Name, err)
		}
	}
	return nil
}

func (c Cache) compile(ctx context.Context, tools []Tool, dir string, compiled func(int)) error {
	ldflags := "-s -w"
	var packages []string
	for _, t := range tools {
		packages = append(packages, t.Packages...)
		if t.VersionVar == "" {
			continue
		}
		v, err := c.version(t)
		if err != nil {
			return err
		}
		ldflags += fmt.Sprintf(" -X %s=%s", t.VersionVar, v)
	}
	args := []string{"build", "-v", "-buildvcs=false", "-ldflags", ldflags, "-tags", tools[0].Tags, "-o", dir + "/"}
	done := 0
	_, err := c.run(ctx, tools[0], func(string) { done++; compiled(done) }, append(args, packages...)...)
	return err
}

// keep moves what was built of the tool from dir to where Path says, whole or not at all.
func (c Cache) keep(ctx context.Context, t Tool, dir string) error {
	whole := filepath.Join(dir, "."+t.Name)
	if err := os.Mkdir(whole, 0o755); err != nil {
		return err
	}
	for _, p := range t.Packages {
		name := programName(p)
		if len(t.Packages) == 1 {
			name = t.Name
		}
		if err := os.Rename(filepath.Join(dir, programName(p)), filepath.Join(whole, name)); err != nil {
			return err
		}
	}
	if err := c.copyManifests(ctx, t, whole); err != nil {
		return fmt.Errorf("copy its manifests: %w", err)
	}
	path, err := c.Path(t)
	if err != nil {
		return err
	}
	return os.Rename(whole, path)
}

// programName is how the go command names the program of a package.
func programName(pkg string) string {
	name := filepath.Base(pkg)
	if major.MatchString(name) {
		return filepath.Base(filepath.Dir(pkg))
	}
	return name
}

var major = regexp.MustCompile(`^v[0-9]+$`)

func (c Cache) copyManifests(ctx context.Context, t Tool, dir string) error {
	if t.Manifests == "" {
		return nil
	}
	module, err := c.run(ctx, t, nil, "list", "-m", "-f", "{{.Dir}}", t.Version)
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

// run runs the go command in the tool's module. done, if any, is told each package that
// go build -v has compiled.
func (c Cache) run(ctx context.Context, t Tool, done func(pkg string), args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(c.Hack, t.Module)
	// A workspace or flags of the caller's would build something else.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS="+goflags)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var stdout, complaints strings.Builder
	cmd.Stdout = &stdout
	cmd.Stderr = &lineWriter{tell: func(line string) {
		switch {
		case strings.HasPrefix(line, "go: downloading "):
		case done != nil && !strings.ContainsAny(line, " \t"):
			done(line)
		default:
			fmt.Fprintln(&complaints, line)
		}
	}}
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", args[0], cmd.Dir, err, strings.TrimSpace(complaints.String()))
	}
	return stdout.String(), nil
}

// lineWriter tells what is written to it line by line.
type lineWriter struct {
	tell func(line string)
	rest []byte // of a line that has not ended
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, ended := bytes.Cut(w.rest, []byte("\n"))
		if !ended {
			return len(p), nil
		}
		w.tell(string(line))
		w.rest = rest
	}
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
