// Command provisioner makes PersistentVolumes for the local cluster: a directory
// on the node for each claim. They are volumes of the kind "local", not
// "hostPath", because the kubelet then honours a pod's fsGroup as on any real
// storage; a pod that forgets it fails here as it would there.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	directory := flag.String("directory", "", "directory on the node, mounted at the same path here, in which volumes are made")
	health := flag.String("health-listen", ":8081", "address on which /readyz answers")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	if err := run(*directory, *health); err != nil {
		fmt.Fprintln(os.Stderr, "provisioner:", err)
		os.Exit(1)
	}
}

func run(directory, health string) error {
	if !filepath.IsAbs(directory) {
		return errors.New("--directory must be an absolute path")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		HealthProbeBindAddress: health,
		Metrics:                server.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	if err := manager.AddReadyzCheck("alive", healthz.Ping); err != nil {
		return err
	}
	if err := setup(manager, directory); err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
