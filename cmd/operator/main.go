// Command operator makes and tends ChatClusters. It only reads flags and wires; what an
// operator does is in package controllers.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/alecthomas/kong"
	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
	"github.com/chatcluster/chatcluster/controllers"
	"github.com/chatcluster/chatcluster/controllers/redis"
	"github.com/chatcluster/chatcluster/controllers/resources"
)

// version is set when a release is built.
var version = "dev"

type options struct {
	Namespaces  []string         `help:"Tend ChatClusters of these namespaces only. Default: all." env:"OPERATOR_NAMESPACES" sep:","`
	ServerImage string           `help:"Chat server image of clusters that name none." default:"chatcluster/chatserver:0.1.0" env:"OPERATOR_SERVER_IMAGE"`
	RedisImage  string           `help:"Redis image of clusters that name none." default:"redis:7.2" env:"OPERATOR_REDIS_IMAGE"`
	Namespace   string           `help:"Namespace that the operator runs in. Empty: outside of the cluster, where it cannot reach Redis to have it serve a renewed certificate." env:"POD_NAMESPACE"`
	Concurrency int              `help:"ChatClusters that are worked on at once." default:"4" env:"OPERATOR_CONCURRENCY"`
	LeaderElect bool             `help:"Let one of several operators work at a time. Needs --namespace." default:"false" env:"OPERATOR_LEADER_ELECT"`
	Metrics     string           `name:"metrics-listen" help:"Address of the metrics; 0 for none." default:":8080" env:"OPERATOR_METRICS_LISTEN"`
	Probes      string           `name:"probes-listen" help:"Address of /healthz and /readyz; 0 for none." default:":8081" env:"OPERATOR_PROBES_LISTEN"`
	Debug       bool             `help:"Log more." env:"OPERATOR_DEBUG"`
	Version     kong.VersionFlag `help:"Print the version and exit."`
}

func main() {
	var o options
	kong.Parse(&o,
		kong.Name("operator"),
		kong.Description("Makes and tends ChatClusters. It finds the Kubernetes API as kubectl does, or as a pod does."),
		kong.Vars{"version": version})
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "operator:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	level := slog.LevelInfo
	if o.Debug {
		level = slog.LevelDebug
	}
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the Kubernetes API (set KUBECONFIG, or run in a pod): %w", err)
	}
	// The API server shares itself out among its clients; a second limit here would
	// only slow down the start of many clusters.
	config.QPS = -1
	config.UserAgent = "chatcluster-operator/" + version

	mgr, err := ctrl.NewManager(config, managerOptions(o))
	if err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	if err := addController(mgr, o); err != nil {
		return err
	}
	for _, add := range []func(string, healthz.Checker) error{mgr.AddHealthzCheck, mgr.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return fmt.Errorf("setting up probes: %w", err)
		}
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}

func managerOptions(o options) manager.Options {
	// A clean stop hands over at once; a crash after the lease has run out.
	lease, renew, retry := 15*time.Second, 10*time.Second, 2*time.Second
	return manager.Options{
		Scheme:                        newScheme(),
		Cache:                         controllers.CacheOptions(o.Namespaces),
		Client:                        controllers.ClientOptions(),
		Metrics:                       metricsserver.Options{BindAddress: o.Metrics},
		HealthProbeBindAddress:        o.Probes,
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              "chatcluster-operator",
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &lease,
		RenewDeadline:                 &renew,
		RetryPeriod:                   &retry,
	}
}

func addController(mgr manager.Manager, o options) error {
	r := &controllers.Reconciler{
		Client: mgr.GetClient(),
		Live:   mgr.GetAPIReader(),
		Events: mgr.GetEventRecorder(controllers.FieldOwner),
		Settings: resources.Settings{
			ServerImage: o.ServerImage,
			RedisImage:  o.RedisImage,
			Namespace:   o.Namespace,
		},
		Concurrency: o.Concurrency,
	}
	if o.Namespace != "" {
		r.Redis = redis.NewReloader()
	}
	return r.SetupWithManager(mgr)
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, v1alpha1.AddToScheme, cmv1.AddToScheme, gatewayv1.Install,
	} {
		if err := add(scheme); err != nil {
			// Two kinds of one name: a mistake in this program.
			panic(err)
		}
	}
	return scheme
}
