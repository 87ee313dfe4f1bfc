// Command localcluster runs a real single-node Kubernetes on this machine, built
// from Go modules, with what ChatCluster needs in it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/progress"
)

type cli struct {
	clusterCommands
	Assets assetsCommand `cmd:"" help:"Build etcd, kube-apiserver and kubectl only, and print the directory they are in (for KUBEBUILDER_ASSETS)."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var args cli
	parsed := kong.Parse(&args, kong.Name("localcluster"), kong.UsageOnError(),
		kong.Description("A real single-node Kubernetes on this machine, for development and tests."),
		kong.BindTo(ctx, (*context.Context)(nil)))
	err := run(parsed)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted; run the same again to go on from here")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "localcluster:", err)
		os.Exit(1)
	}
}

func run(parsed *kong.Context) error {
	hack, err := sources()
	if err != nil {
		return err
	}
	cache, err := build.UserCache(hack)
	if err != nil {
		return err
	}
	return parsed.Run(cache)
}

// sources finds hack/, whose modules are to be built: it is the module in which
// this program is run, or a directory of it.
func sources() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("ask the go command for the module: %w (is Go installed?)", err)
	}
	dir := filepath.Dir(strings.TrimSpace(string(out)))
	for _, hack := range []string{dir, filepath.Join(dir, "hack")} {
		if _, err := os.Stat(filepath.Join(hack, "kubernetes", "go.mod")); err == nil {
			return hack, nil
		}
	}
	return "", errors.New("run this within the repository: its hack/ directory has the sources of the cluster")
}

type assetsCommand struct{}

func (assetsCommand) Run(ctx context.Context, cache build.Cache) error {
	err := exclusively(ctx, cache, func() error { return perform(ctx, cache.Steps(build.Envtest)) })
	if err != nil {
		return err
	}
	dir, err := cache.Assets()
	if err != nil {
		return err
	}
	_, err = fmt.Println(dir)
	return err
}

// exclusively does what two runs must not do at once: build, start, stop.
func exclusively(ctx context.Context, cache build.Cache, do func() error) error {
	unlock, err := cache.Lock(ctx, func() { fmt.Fprintln(os.Stderr, "waiting for another run of localcluster to end") })
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

func perform(ctx context.Context, steps []progress.Step) error {
	return progress.Run(ctx, os.Stderr, term.IsTerminal(int(os.Stderr.Fd())), steps)
}
