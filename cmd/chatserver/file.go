package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// file is what the file of --config says: its values as they are written there,
// by the names of flags.
type file struct {
	name  string
	lines map[string]yaml.Node
}

// readFile reads YAML, and so JSON.
func readFile(r io.Reader) (kong.Resolver, error) {
	f := file{name: "the configuration file", lines: map[string]yaml.Node{}}
	if named, ok := r.(interface{ Name() string }); ok {
		f.name = named.Name()
	}
	var lines map[string]yaml.Node
	if err := yaml.NewDecoder(r).Decode(&lines); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	for key, value := range lines {
		name := strings.ReplaceAll(key, "_", "-")
		if _, twice := f.lines[name]; twice {
			return nil, fmt.Errorf("%s sets %s twice, as %s too", f.name, name, strings.ReplaceAll(name, "-", "_"))
		}
		f.lines[name] = value
	}
	return f, nil
}

// Validate refuses lines that set nothing: they are likely misspelt.
func (f file) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, flag := range app.Flags {
		known[flag.Name] = !slices.Contains([]string{"help", "version", "config"}, flag.Name)
	}
	for key, value := range f.lines {
		if !known[key] {
			return fmt.Errorf("%s, line %d: %q is nothing that can be set here: see --help for what can", f.name, value.Line, key)
		}
	}
	return nil
}

// Resolve gives a flag's value, unless the environment has one. Flags given on
// the command line are not asked for.
func (f file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	node, ok := f.lines[flag.Name]
	if !ok || slices.ContainsFunc(flag.Envs, inEnvironment) {
		return nil, nil
	}
	value, err := valueOf(node, flag)
	if err == nil && value != nil {
		// Only to say where a wrong value is: kong parses it once more. Kong says too
		// of which flag it is, so the error is taken without that.
		scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
		err = errors.Unwrap(flag.Parse(scan, reflect.New(flag.Target.Type()).Elem()))
	}
	if err == nil && value != nil && flag.Enum != "" && !slices.Contains(flag.EnumSlice(), fmt.Sprint(value)) {
		err = fmt.Errorf("must be one of %s but got %q", flag.Enum, value)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, line %d: %w", f.name, node.Line, err)
	}
	return value, nil
}

func inEnvironment(name string) bool {
	_, ok := os.LookupEnv(name)
	return ok
}

// valueOf is a value as it would stand on the command line; nil if it is empty.
func valueOf(node yaml.Node, flag *kong.Flag) (any, error) {
	switch {
	case node.Tag == "!!null":
		return nil, nil
	case node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case node.Kind == yaml.SequenceNode && flag.IsSlice():
		items := make([]any, 0, len(node.Content))
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, errors.New("takes a list of plain values")
			}
			items = append(items, item.Value)
		}
		return items, nil
	case flag.IsSlice():
		return nil, errors.New("takes a list")
	}
	return nil, errors.New("takes one plain value")
}
