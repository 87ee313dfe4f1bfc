// Package controllers is the operator: it makes the children of each ChatCluster what
// package resources says they should be, and tells in the status how far that has come.
// It knows Kubernetes and Redis' certificate; of chatting it knows nothing.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
	"github.com/chatcluster/chatcluster/controllers/redis"
	"github.com/chatcluster/chatcluster/controllers/resources"
	"github.com/chatcluster/chatcluster/controllers/status"
)

// FieldOwner is the one field manager that the operator writes as, for ever: another
// name would leave fields behind that nobody takes away.
const FieldOwner = "chatcluster-operator"

// Rights of the operator. The rules of config/rbac and of the chart are generated from
// these lines.
//
// +kubebuilder:rbac:groups=chatcluster.dev,resources=chatclusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=chatcluster.dev,resources=chatclusters/status,verbs=get;patch
// +kubebuilder:rbac:groups="",resources=configmaps;secrets;serviceaccounts;services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=apps,resources=deployments/scale,verbs=get;patch
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses;networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates;issuers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes;tlsroutes;backendtlspolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconciler makes ChatClusters real.
type Reconciler struct {
	// Client reads from a cache that holds the operator's own objects only (see
	// CacheOptions), and sees its own writes (see ClientOptions).
	Client client.Client
	// Live reads past the cache.
	Live client.Reader
	// Events records why pods are replaced.
	Events events.EventRecorder
	// Settings are the same for all clusters.
	Settings resources.Settings
	// Redis makes Redis serve renewed certificates. Nil: the operator runs where it
	// cannot reach Redis.
	Redis redis.CertificateReloader
	// Concurrency is how many clusters are worked on at once.
	Concurrency int

	kinds   *kindWatcher
	secrets *secretWatcher
	applier *applier
}

// missingKindInterval is how often to look for a kind that is not installed: it cannot be
// watched for without rights over all CRDs.
const missingKindInterval = 15 * time.Second

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	metadataClient, err := metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("making a client for metadata: %w", err)
	}
	secrets := newSecretWatcher(metadataClient)
	c, err := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.ChatCluster{}).
		Named("chatcluster").
		WithOptions(controller.Options{
			MaxConcurrentReconciles: max(1, r.Concurrency),
			// A cache that cannot be filled, as for a kind that is forbidden, must not hold a worker for ever.
			ReconciliationTimeout: time.Minute,
		}).
		WatchesRawSource(source.Channel(secrets.changed, &handler.EnqueueRequestForObject{})).
		Build(r)
	if err != nil {
		return fmt.Errorf("building the controller: %w", err)
	}
	if err := mgr.Add(secrets); err != nil {
		return fmt.Errorf("adding the watches of users' Secrets: %w", err)
	}
	r.secrets = secrets
	r.applier = newApplier(r.Client, r.Live)
	r.kinds = newKindWatcher(c, mgr.GetCache(), mgr.GetRESTMapper(), mgr.GetScheme())
	return nil
}

// Reconcile brings one ChatCluster closer to its spec. It may be called at any time and
// any number of times; when there is nothing to do it writes nothing.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var cluster v1alpha1.ChatCluster
	if err := r.Client.Get(ctx, req.NamespacedName, &cluster); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(ctx, req)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading ChatCluster %s: %w", req.NamespacedName, err)
	}
	if !cluster.DeletionTimestamp.IsZero() {
		// The children go with it; making them again would only be in the way.
		return ctrl.Result{}, nil
	}
	pass := &pass{Reconciler: r, cluster: &cluster}
	err := pass.run(ctx)
	return ctrl.Result{RequeueAfter: pass.requeueAfter}, err
}

func (r *Reconciler) forget(ctx context.Context, req reconcile.Request) {
	r.applier.forget(req.NamespacedName)
	r.secrets.follow(ctx, req.NamespacedName, "")
	forgetMetrics(req.NamespacedName)
	if r.Redis != nil {
		r.Redis.Forget(req.String())
	}
}

// pass is one run over one ChatCluster.
type pass struct {
	*Reconciler
	cluster *v1alpha1.ChatCluster

	observed    observation
	credentials resources.Credentials
	// usersHash is of the accounts that the spec refers to; "" for none.
	usersHash string
	// findings are what the steps learned that no child tells.
	findings status.Findings
	// requeueAfter is when to look again, unless something happens before. 0: not needed.
	requeueAfter time.Duration
}

// run does the steps in order and tells the outcome in the status, whatever it was.
func (p *pass) run(ctx context.Context) error {
	if err := p.observe(ctx); err != nil {
		return err
	}
	failed := p.act(ctx)
	if errors.Is(failed, errNamespaceEnding) {
		return nil
	}
	if failed != nil {
		p.findings.Failure = lasting(failed)
		p.findings.NameTaken = errors.Is(failed, errNameTaken)
	}
	// The children just written are looked at again: a status made from what was there
	// before would be wrong until the next pass.
	if err := p.observe(ctx); err != nil {
		return errors.Join(failed, err)
	}
	return errors.Join(failed, p.writeStatus(ctx))
}

// act changes what has to be changed.
func (p *pass) act(ctx context.Context) error {
	if p.cluster.Spec.Paused {
		return nil
	}
	if p.findings.Invalid = v1alpha1.Validate(p.cluster); len(p.findings.Invalid) > 0 {
		return nil
	}
	for _, step := range []func(context.Context) error{
		p.checkUsersSecret,
		p.ensureCredentials,
		p.applyChildren,
		p.applyScale,
		p.reloadRedisCertificate,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// dialledFrom is the near end of a connection, as errors of package net tell it.
var dialledFrom = regexp.MustCompile(`\S+->`)

// lasting is the text of an error for the status. It is without the port that a failed
// connection came from, which is another at each try: the status would change each time,
// and each change would bring on the next try at once.
func lasting(err error) string {
	return dialledFrom.ReplaceAllString(err.Error(), "")
}

// lookAgain asks for another pass after d at the latest.
func (p *pass) lookAgain(d time.Duration) {
	if p.requeueAfter == 0 || d < p.requeueAfter {
		p.requeueAfter = d
	}
}

// writeStatus patches the status if it changed. The operator writes nothing else of a
// ChatCluster: its spec belongs to its user.
func (p *pass) writeStatus(ctx context.Context) error {
	next := status.Of(p.cluster, p.observed.status(p.input()), p.findings)
	ready := status.IsReady(next)
	readyGauge.WithLabelValues(p.cluster.Namespace, p.cluster.Name).Set(boolValue(ready))
	if equality.Semantic.DeepEqual(p.cluster.Status, next) {
		return nil
	}
	before := p.cluster.DeepCopy()
	p.cluster.Status = next
	err := p.Client.Status().Patch(ctx, p.cluster, client.MergeFrom(before), client.FieldOwner(FieldOwner))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the status of ChatCluster %s/%s: %w", before.Namespace, before.Name, err)
	}
	return nil
}
