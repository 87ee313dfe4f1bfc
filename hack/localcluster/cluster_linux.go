package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/chatcluster/chatcluster/hack/internal/build"
	"github.com/chatcluster/chatcluster/hack/internal/cluster"
	"github.com/chatcluster/chatcluster/hack/internal/progress"
)

type clusterCommands struct {
	Build      buildCommand      `cmd:"" help:"Build what is not built, if the machine is fit to run it, and start nothing."`
	Up         upCommand         `cmd:"" help:"Build what is not built, start what does not run, and wait until it is ready."`
	Down       downCommand       `cmd:"" help:"Stop the cluster and remove everything of it but the built binaries."`
	Status     statusCommand     `cmd:"" help:"Show where things are and how each part does."`
	Load       loadCommand       `cmd:"" help:"Put images of static Linux programs into the cluster."`
	Kubeconfig kubeconfigCommand `cmd:"" help:"Print the path of the kubeconfig."`
}

type buildCommand struct{}

func (buildCommand) Run(ctx context.Context, cache build.Cache) error {
	return exclusively(ctx, cache, func() error { return perform(ctx, cluster.New(cache).BuildSteps()) })
}

type upCommand struct{}

func (upCommand) Run(ctx context.Context, cache build.Cache) error {
	c := cluster.New(cache)
	return exclusively(ctx, cache, func() error {
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

func (downCommand) Run(ctx context.Context, cache build.Cache) error {
	if os.Geteuid() != 0 {
		return errors.New("the local cluster runs as root: use sudo")
	}
	return exclusively(ctx, cache, func() error { return perform(ctx, cluster.New(cache).DownSteps()) })
}

type statusCommand struct{}

func (statusCommand) Run(ctx context.Context, cache build.Cache) error {
	return cluster.New(cache).Status(ctx, os.Stdout)
}

type loadCommand struct {
	Images []string `arg:"" name:"[NAME=]PATH" help:"A static program, and the name of its image: chatcluster/ before and :dev after it are added if missing."`
}

func (l loadCommand) Run(ctx context.Context, cache build.Cache) error {
	for _, spec := range l.Images {
		start := time.Now()
		name, loaded, err := cluster.New(cache).Load(ctx, spec)
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

func (kubeconfigCommand) Run(cache build.Cache) error {
	_, err := fmt.Println(cluster.New(cache).Kubeconfig())
	return err
}
