package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/chatcluster/chatcluster/hack/internal/progress"
)

// UserCache is the cache of the user who runs this, for the modules in hack.
func UserCache(hack string) (Cache, error) {
	dir := os.Getenv("XDG_CACHE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Cache{}, fmt.Errorf("find the cache directory: %w (or set XDG_CACHE_HOME)", err)
		}
		dir = filepath.Join(home, ".cache")
	}
	return Cache{Dir: filepath.Join(dir, "chatcluster", "bin"), Hack: hack}, nil
}

// Steps build the tools that are not in the cache, a step for those that can be
// built together; a step before them says how many are in it.
func (c Cache) Steps(tools []Tool) []progress.Step {
	missing := slices.DeleteFunc(slices.Clone(tools), c.has)
	steps := []progress.Step{{Name: "programs", Do: func(context.Context, func(string)) (string, error) {
		return fmt.Sprintf("%d of %d cached", len(tools)-len(missing), len(tools)), nil
	}}}
	for _, group := range groups(missing) {
		steps = append(steps, progress.Step{Name: names(group), Do: func(ctx context.Context, say func(string)) (string, error) {
			say("compiling")
			return "built", c.Build(ctx, group, func(packages int) {
				if packages%100 == 0 {
					say(fmt.Sprintf("compiling, %d packages done", packages))
				}
			})
		}})
	}
	return steps
}

// groups puts together what one run of the compiler can build: one module, the same
// tags, and no two versions of one thing.
func groups(tools []Tool) (groups [][]Tool) {
	for _, t := range tools {
		i := slices.IndexFunc(groups, func(g []Tool) bool {
			return !slices.ContainsFunc(g, func(o Tool) bool {
				return o.Module != t.Module || o.Tags != t.Tags || o.VersionVar == t.VersionVar && o.Version != t.Version && t.VersionVar != ""
			})
		})
		if i < 0 {
			groups = append(groups, []Tool{t})
			continue
		}
		groups[i] = append(groups[i], t)
	}
	return groups
}

func names(tools []Tool) string {
	if len(tools) == 1 {
		return tools[0].Name
	}
	return fmt.Sprintf("%s and %d more", tools[0].Name, len(tools)-1)
}

func (c Cache) has(t Tool) bool {
	path, err := c.Path(t)
	return err == nil && exists(path)
}

// Assets puts the tools of Envtest, once built, side by side, as tests with a
// real API server expect them, and returns the directory.
func (c Cache) Assets() (string, error) {
	server, err := c.Path(APIServer)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(c.Dir, "envtest-"+strings.TrimPrefix(filepath.Base(server), APIServer.Name+"-"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, t := range Envtest {
		path, err := c.Path(t)
		if err != nil {
			return "", err
		}
		if err := link(filepath.Join(path, t.Name), filepath.Join(dir, t.Name)); err != nil {
			return "", err
		}
	}
	// kubectl also where a Makefile finds it without knowing the version.
	return dir, link(filepath.Join(dir, Kubectl.Name), filepath.Join(c.Dir, Kubectl.Name))
}

// link makes path lead to target, whatever it led to before.
func link(target, path string) error {
	if have, err := os.Readlink(path); err == nil && have == target {
		return nil
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
