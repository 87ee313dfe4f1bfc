package build

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/modfile"
)

// A package that two programs share is compiled once if it, and all it imports,
// have one version in both. client-go alone takes minutes.
func TestModulesOfTheRepositoryAgreeOnVersions(t *testing.T) {
	t.Parallel()
	type requirement struct{ version, by string }
	first := make(map[string]requirement)
	for _, name := range []string{"kubernetes/go.mod", "go.mod", "tools/go.mod", "../go.mod"} {
		path := filepath.Join("../..", name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := modfile.Parse(path, data, nil)
		if err != nil {
			t.Fatal(err)
		}
		replaced := make(map[string]string)
		for _, r := range file.Replace {
			replaced[r.Old.Path] = r.New.Version
		}
		for _, r := range file.Require {
			module, version := r.Mod.Path, r.Mod.Version
			if v, is := replaced[module]; is {
				version = v
			}
			if other, known := first[module]; known && other.version != version {
				t.Errorf("hack/%s requires %s %s, and hack/%s %s: go get the newer of them in both", name, module, version, other.by, other.version)
			} else if !known {
				first[module] = requirement{version, name}
			}
		}
	}
	if len(first) == 0 {
		t.Error("no go.mod requires anything")
	}
}
