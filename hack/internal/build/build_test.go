package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const goMod = "module example.com/tools\n\ngo 1.26.0\n\nrequire example.com/dependency v1.2.3\n"

// testCache is a cache with one module of one program.
func testCache(t *testing.T) (Cache, Tool) {
	t.Helper()
	hack := t.TempDir()
	write(t, filepath.Join(hack, "m", "go.mod"), goMod)
	write(t, filepath.Join(hack, "m", "hello", "main.go"), "package main\n\nfunc main() { println(\"hello\") }\n")
	c := Cache{Dir: filepath.Join(hack, "cache"), Hack: hack}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return c, Tool{Name: "hello", Module: "m", Packages: []string{"./hello"}, Sources: []string{"hello"}}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func path(t *testing.T, c Cache, tool Tool) string {
	t.Helper()
	p, err := c.Path(tool)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSecondBuildIsCachedAndChangedSourceIsNot(t *testing.T) {
	t.Parallel()
	c, tool := testCache(t)
	// What the module requires is not there to be downloaded, and not used.
	write(t, filepath.Join(c.Hack, "m", "go.mod"), strings.Split(goMod, "require")[0])

	build := func() bool {
		t.Helper()
		cached := true
		for _, step := range c.Steps([]Tool{tool}) {
			if _, err := step.Do(t.Context(), func(string) { cached = false }); err != nil {
				t.Fatal(err)
			}
		}
		return cached
	}
	if build() {
		t.Error("the first build was in an empty cache")
	}
	first := path(t, c, tool)
	if info, err := os.Stat(filepath.Join(first, "hello")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("no program was built: %v, %v", info, err)
	}
	if !build() {
		t.Error("the second build was not cached")
	}
	write(t, filepath.Join(c.Hack, "m", "hello", "main.go"), "package main\n\nfunc main() { println(\"goodbye\") }\n")
	if build() {
		t.Error("a changed source gave the old program")
	}
	if _, err := os.Stat(first); err != nil {
		t.Error("the program of another branch is gone from the cache")
	}
}

func TestToolsThatGoTogetherAreBuiltTogether(t *testing.T) {
	t.Parallel()
	c, hello := testCache(t)
	write(t, filepath.Join(c.Hack, "m", "go.mod"), strings.Split(goMod, "require")[0])
	write(t, filepath.Join(c.Hack, "m", "server", "v3", "main.go"), "package main\n\nfunc main() {}\n")
	// No other run has compiled the like.
	write(t, filepath.Join(c.Hack, "m", "ctr", "main.go"), "package main\n\nfunc main() { println("+strconv.Quote(c.Hack)+") }\n")
	etcd := Tool{Name: "etcd", Module: "m", Packages: []string{"example.com/tools/server/v3"}}
	both := Tool{Name: "both", Module: "m", Packages: []string{"./ctr", "./hello"}, Tags: "x"}
	if g := groups([]Tool{hello, both, etcd}); len(g) != 2 || len(g[0]) != 2 || g[0][1].Name != "etcd" {
		t.Errorf("groups are %v", g)
	}
	packages := 0
	for _, group := range groups([]Tool{hello, both, etcd}) {
		if err := c.Build(t.Context(), group, func(n int) { packages = n }); err != nil {
			t.Fatal(err)
		}
	}
	if packages == 0 {
		t.Error("no package was reported")
	}
	for tool, programs := range map[*Tool][]string{&hello: {"hello"}, &etcd: {"etcd"}, &both: {"ctr", "hello"}} {
		for _, p := range programs {
			if _, err := os.Stat(filepath.Join(path(t, c, *tool), p)); err != nil {
				t.Error(err)
			}
		}
	}
	other := hello
	hello.VersionVar, hello.Version, other.VersionVar, other.Version = "x", "a", "x", "b"
	if g := groups([]Tool{hello, other}); len(g) != 2 {
		t.Error("one variable is to have two versions in one build")
	}
}

func TestKeyFollowsWhatDecidesOnTheProgram(t *testing.T) {
	t.Parallel()
	c, tool := testCache(t)
	key := path(t, c, tool)
	same := func(what string, want bool) {
		t.Helper()
		if got := path(t, c, tool) == key; got != want {
			t.Errorf("%s: same key = %v, want %v", what, got, want)
		}
	}
	write(t, filepath.Join(c.Hack, "m", "go.mod"), "// A comment.\n"+goMod)
	same("a comment in go.mod", true)
	write(t, filepath.Join(c.Hack, "m", "hello", "main_test.go"), "package main\n")
	same("a test", true)
	write(t, filepath.Join(c.Hack, "m", "go.mod"), strings.Replace(goMod, "v1.2.3", "v1.2.4", 1))
	same("another version of a dependency", false)
	write(t, filepath.Join(c.Hack, "m", "go.mod"), goMod+"\nreplace example.com/dependency => example.com/fork v1.0.0\n")
	same("a replaced dependency", false)
	write(t, filepath.Join(c.Hack, "m", "go.mod"), goMod)
	same("all as it was", true)
	tool.Tags = "x"
	same("a build tag", false)
}

func TestVersionComesFromGoMod(t *testing.T) {
	t.Parallel()
	c, tool := testCache(t)
	tool.Version = "example.com/dependency"
	if got := filepath.Base(path(t, c, tool)); !strings.HasPrefix(got, "hello-v1.2.3-") {
		t.Errorf("directory %s does not begin with name and version", got)
	}
	tool.Version = "example.com/other"
	if _, err := c.Path(tool); err == nil {
		t.Error("a module that is not required has a version")
	}
}

func TestFailedBuildLeavesNothingAndShowsTheCompilersWords(t *testing.T) {
	t.Parallel()
	c, tool := testCache(t)
	write(t, filepath.Join(c.Hack, "m", "hello", "main.go"), "package main\n\nfunc main() { undefinedThing() }\n")
	write(t, filepath.Join(c.Hack, "m", "go.mod"), strings.Split(goMod, "require")[0])
	err := c.Build(t.Context(), []Tool{tool}, func(int) {})
	if err == nil || !strings.Contains(err.Error(), "undefinedThing") {
		t.Errorf("error = %v", err)
	}
	if left, _ := os.ReadDir(c.Dir); len(left) != 0 {
		t.Errorf("left in the cache: %v", left)
	}
}

func TestLockRemovesWhatACutOffBuildLeftAndExcludesOthers(t *testing.T) {
	t.Parallel()
	c, _ := testCache(t)
	left := filepath.Join(c.Dir, tempPrefix+"etcd-123")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, err := c.Lock(t.Context(), func() { t.Error("waits for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("a half-built tool is left")
	}

	impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	told := 0
	if _, err := c.Lock(impatient, func() { told++ }); !errors.Is(err, context.DeadlineExceeded) || told != 1 {
		t.Errorf("a second run got %v and was told %d times to wait", err, told)
	}
	unlock()
	again, err := c.Lock(t.Context(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestLinkIsMovedToANewTarget(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kubectl")
	for _, target := range []string{"/old", "/new", "/new"} {
		if err := link(target, path); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(path); err != nil || got != target {
			t.Errorf("link leads to %q (%v), want %q", got, err, target)
		}
	}
}

// TestEveryToolHasAVersion reads the real go.mod files.
func TestEveryToolHasAVersion(t *testing.T) {
	t.Parallel()
	c := Cache{Dir: t.TempDir(), Hack: "../.."}
	seen := map[string]bool{}
	for _, tool := range All {
		dir := path(t, c, tool)
		if seen[dir] {
			t.Errorf("%s shares a directory with another tool", tool.Name)
		}
		seen[dir] = true
	}
}
