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
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/cluster"
	"github.com/chatcluster/chatcluster/hack/internal/progress"
)

type cli struct {
	Up         upCommand         `cmd:"" help:"Build what is not built, start what does not run, and wait until it is ready."`
	Down       downCommand       `cmd:"" help:"Stop the cluster and remove everything of it but the built binaries."`
	Status     statusCommand     `cmd:"" help:"Show where things are and how each part does."`
	Load       loadCommand       `cmd:"" help:"Put images of static Linux programs into the cluster."`
	Kubeconfig kubeconfigCommand `cmd:"" help:"Print the path of the kubeconfig."`
	Assets     assetsCommand     `cmd:"" help:"Build etcd, kube-apiserver and kubectl only, and print the directory they are in (for KUBEBUILDER_ASSETS)."`
	Build      buildCommand      `cmd:"" help:"Build all binaries and start nothing."`
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
	c, err := cluster.New(hack)
	if err != nil {
		return err
	}
	return parsed.Run(c)
}

// sources finds hack/, whose modules are to be built: it is the module in which
// this program is run.
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

type upCommand struct{}

func (upCommand) Run(ctx context.Context, c cluster.Cluster) error {
	return exclusively(ctx, c, func() error {
		start := time.Now()
		if err := perform(ctx, c.UpSteps()); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "\nThe cluster is up after %s.\n", progress.Elapsed(time.Since(start)))
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		c.WriteAddresses(w)
		return w.Flush()
	})
}

type downCommand struct{}

func (downCommand) Run(ctx context.Context, c cluster.Cluster) error {
	if os.Geteuid() != 0 {
		return errors.New("the local cluster runs as root: use sudo")
	}
	return exclusively(ctx, c, func() error { return perform(ctx, c.DownSteps()) })
}

type statusCommand struct{}

func (statusCommand) Run(ctx context.Context, c cluster.Cluster) error {
	return c.Status(ctx, os.Stdout)
}

type loadCommand struct {
	Images []string `arg:"" name:"[NAME=]PATH" help:"A static program, and the name of its image: chatcluster/ before and :dev after it are added if missing."`
}

func (l loadCommand) Run(ctx context.Context, c cluster.Cluster) error {
	for _, spec := range l.Images {
		start := time.Now()
		name, loaded, err := c.Load(ctx, spec)
		if err != nil {
			return err
		}
		result := "unchanged"
		if loaded {
			result = "loaded"
		}
		fmt.Fprintf(os.Stderr, "image %s  %s %s\n", name, result, progress.Elapsed(time.Since(start)))
	}
	return nil
}

type kubeconfigCommand struct{}

func (kubeconfigCommand) Run(c cluster.Cluster) error {
	_, err := fmt.Println(c.Kubeconfig())
	return err
}

type assetsCommand struct{}

func (assetsCommand) Run(ctx context.Context, c cluster.Cluster) error {
	if err := buildTools(ctx, c, build.Envtest); err != nil {
		return err
	}
	dir, err := c.Assets()
	if err != nil {
		return err
	}
	_, err = fmt.Println(dir)
	return err
}

type buildCommand struct{}

func (buildCommand) Run(ctx context.Context, c cluster.Cluster) error {
	return buildTools(ctx, c, build.All)
}

func buildTools(ctx context.Context, c cluster.Cluster, tools []build.Tool) error {
	return exclusively(ctx, c, func() error { return perform(ctx, c.BuildSteps(tools)) })
}

// exclusively does what two runs must not do at once: build, start, stop.
func exclusively(ctx context.Context, c cluster.Cluster, do func() error) error {
	unlock, err := c.Cache.Lock(ctx, func() { fmt.Fprintln(os.Stderr, "waiting for another run of localcluster to end") })
	if err != nil {
		return err
	}
	defer unlock()
	return do()
}

func perform(ctx context.Context, steps []cluster.Step) error {
	var names []string
	for _, s := range steps {
		names = append(names, s.Name)
	}
	p := progress.New(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())), names)
	for _, s := range steps {
		if err := p.Step(s.Name, func(say func(string)) (string, error) { return s.Do(ctx, say) }); err != nil {
			return err
		}
	}
	return nil
}
