package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/mod/modfile"
)

// key names a build for certain: what people look for first (tool and version),
// then a digest of all that goes into it. The module's go.mod lists the version
// of every dependency, so it stands for them.
func (c Cache) key(t Tool) (string, error) {
	mod, err := os.ReadFile(filepath.Join(c.Hack, t.Module, "go.mod"))
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	fmt.Fprintln(digest, runtime.Version(), runtime.GOOS, runtime.GOARCH, goflags, t)
	if err := writeRequirements(digest, mod); err != nil {
		return "", err
	}
	for _, s := range t.Sources {
		if err := copyInto(digest, filepath.Join(c.Hack, t.Module, s)); err != nil {
			return "", err
		}
	}
	version, err := c.version(t)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s-%s-%s", t.Name, version, hex.EncodeToString(digest.Sum(nil)[:5])), nil
}

// writeRequirements writes what of a go.mod decides on the source: neither
// comments nor the list of tools.
func writeRequirements(w io.Writer, data []byte) error {
	f, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		return err
	}
	for _, r := range f.Require {
		fmt.Fprintln(w, r.Mod)
	}
	for _, r := range f.Replace {
		fmt.Fprintln(w, r.Old, r.New)
	}
	return nil
}

// version is the version of the tool as its module's go.mod requires it, or
// "local" for one whose source is here.
func (c Cache) version(t Tool) (string, error) {
	if t.Version == "" {
		return "local", nil
	}
	path := filepath.Join(c.Hack, t.Module, "go.mod")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	f, err := modfile.ParseLax(path, data, nil)
	if err != nil {
		return "", err
	}
	for _, r := range f.Require {
		if r.Mod.Path == t.Version {
			return r.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", path, t.Version)
}
