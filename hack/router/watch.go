package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/chatcluster/chatcluster/hack/router/proxy"
	"github.com/chatcluster/chatcluster/hack/router/table"
)

// watcher makes a new table whenever an object changes that matters.
type watcher struct {
	options options
	proxy   *proxy.Proxy
	cache   cache.Cache
	client  client.Client
	log     *slog.Logger
	changed chan struct{} // holds one note: many changes make one table
	built   atomic.Bool
}

// watched are the kinds that matter.
var watched = []client.Object{
	&networkingv1.IngressClass{}, &networkingv1.Ingress{},
	&gatewayv1.GatewayClass{}, &gatewayv1.Gateway{}, &gatewayv1.HTTPRoute{}, &gatewayv1.TLSRoute{},
	&gatewayv1.BackendTLSPolicy{}, &gatewayv1beta1.ReferenceGrant{},
	&corev1.Service{}, &corev1.Secret{}, &corev1.ConfigMap{}, &corev1.Namespace{},
}

func newWatcher(o options, p *proxy.Proxy, log *slog.Logger) (*watcher, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, networkingv1.AddToScheme, gatewayv1.Install, gatewayv1beta1.Install} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	rest, err := config.GetConfig()
	if err != nil {
		return nil, err
	}
	objects, err := cache.New(rest, cache.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	writer, err := client.New(rest, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	return &watcher{options: o, proxy: p, cache: objects, client: writer, log: log, changed: make(chan struct{}, 1)}, nil
}

func (w *watcher) ready() bool { return w.built.Load() }

func (w *watcher) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- w.cache.Start(ctx) }()
	for _, kind := range watched {
		informer, err := w.informer(ctx, kind)
		if err != nil {
			return err
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { w.note() },
			UpdateFunc: func(any, any) { w.note() },
			DeleteFunc: func(any) { w.note() },
		}); err != nil {
			return err
		}
	}
	w.note()
	for {
		select {
		case err := <-failed:
			return err
		case <-w.changed:
			if err := w.rebuild(ctx); err != nil && ctx.Err() == nil {
				w.log.Warn("routes are not up to date; trying again", "error", err)
				time.AfterFunc(time.Second, w.note)
			}
		}
	}
}

// informer returns a kind's informer, synced. It waits for a kind that is not
// served yet, because its CRD may be on its way.
func (w *watcher) informer(ctx context.Context, kind client.Object) (cache.Informer, error) {
	for {
		informer, err := w.cache.GetInformer(ctx, kind)
		if !meta.IsNoMatchError(err) {
			return informer, err
		}
		w.log.Info("waiting for a kind to be served", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (w *watcher) note() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watcher) rebuild(ctx context.Context) error {
	objects, err := w.read(ctx)
	if err != nil {
		return err
	}
	t, changed := table.Build(objects, w.options.address, w.options.ports)
	w.proxy.Use(t)
	w.built.Store(true)
	var errs []error
	for _, o := range changed {
		err := w.client.Status().Update(ctx, o)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue // it has changed meanwhile; the news of that is on its way here
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (w *watcher) read(ctx context.Context) (table.Objects, error) {
	var (
		o               table.Objects
		ingressClasses  networkingv1.IngressClassList
		ingresses       networkingv1.IngressList
		gatewayClasses  gatewayv1.GatewayClassList
		gateways        gatewayv1.GatewayList
		httpRoutes      gatewayv1.HTTPRouteList
		tlsRoutes       gatewayv1.TLSRouteList
		policies        gatewayv1.BackendTLSPolicyList
		referenceGrants gatewayv1beta1.ReferenceGrantList
		services        corev1.ServiceList
		secrets         corev1.SecretList
		configMaps      corev1.ConfigMapList
		namespaces      corev1.NamespaceList
	)
	for _, list := range []client.ObjectList{
		&ingressClasses, &ingresses, &gatewayClasses, &gateways, &httpRoutes, &tlsRoutes, &policies,
		&referenceGrants, &services, &secrets, &configMaps, &namespaces,
	} {
		if err := w.cache.List(ctx, list); err != nil {
			return o, err
		}
	}
	o.IngressClasses, o.Ingresses = ingressClasses.Items, ingresses.Items
	o.GatewayClasses, o.Gateways = gatewayClasses.Items, gateways.Items
	o.HTTPRoutes, o.TLSRoutes = httpRoutes.Items, tlsRoutes.Items
	o.Policies, o.ReferenceGrants = policies.Items, referenceGrants.Items
	o.Services, o.Secrets, o.ConfigMaps = services.Items, secrets.Items, configMaps.Items
	o.Namespaces = namespaces.Items
	return o, nil
}
