//go:build !linux

package main

import (
	"context"

	"github.com/chatcluster/chatcluster/hack/internal/host"
)

// clusterCommands are there on every system, to say why they do nothing on this
// one.
type clusterCommands struct {
	Build      refusal `cmd:"" help:"Needs Linux."`
	Up         refusal `cmd:"" help:"Needs Linux."`
	Down       refusal `cmd:"" help:"Needs Linux."`
	Status     refusal `cmd:"" help:"Needs Linux."`
	Load       refusal `cmd:"" help:"Needs Linux."`
	Kubeconfig refusal `cmd:"" help:"Needs Linux."`
}

type refusal struct {
	Images []string `arg:"" optional:"" hidden:""`
}

func (refusal) Run(ctx context.Context) error { return host.Prepare(ctx, func(string) {}) }
