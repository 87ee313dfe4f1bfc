package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// file is what the file of --config says, by the names of flags.
type file map[string]any

// readFile reads YAML, and so JSON.
func readFile(r io.Reader) (kong.Resolver, error) {
	var lines map[string]any
	if err := yaml.NewDecoder(r).Decode(&lines); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	f := make(file, len(lines))
	for key, value := range lines {
		f[strings.ReplaceAll(key, "_", "-")] = value
	}
	return f, nil
}

// Validate refuses lines that set nothing: they are likely misspelt.
func (f file) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, flag := range app.Flags {
		known[flag.Name] = true
	}
	for key := range f {
		if !known[key] {
			return fmt.Errorf("the configuration file sets %q, which is no flag: see --help", key)
		}
	}
	return nil
}

// Resolve gives a flag's value, unless the environment has one. Flags given on
// the command line are not asked for.
func (f file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if slices.ContainsFunc(flag.Envs, func(name string) bool { return os.Getenv(name) != "" }) {
		return nil, nil
	}
	return f[flag.Name], nil
}
