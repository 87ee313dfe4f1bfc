package controllers

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/chatcluster/chatcluster/controllers/resources"
)

// kindWatcher watches the kinds of children from the moment the API server knows them.
// cert-manager or the Gateway API may be installed long after the operator was started.
type kindWatcher struct {
	controller controller.Controller
	cache      cache.Cache
	mapper     meta.RESTMapper
	scheme     *runtime.Scheme

	mu sync.Mutex
	// watched is guarded by mu.
	watched map[schema.GroupVersionKind]bool
}

func newKindWatcher(c controller.Controller, objects cache.Cache, mapper meta.RESTMapper, scheme *runtime.Scheme) *kindWatcher {
	return &kindWatcher{controller: c, cache: objects, mapper: mapper, scheme: scheme, watched: map[schema.GroupVersionKind]bool{}}
}

// watch sees to it that the kind is watched, and tells whether the API server knows it.
func (k *kindWatcher) watch(gvk schema.GroupVersionKind) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.watched[gvk] {
		return true, nil
	}
	if _, err := k.mapper.RESTMapping(gvk.GroupKind(), gvk.Version); err != nil {
		if meta.IsNoMatchError(err) {
			return false, nil
		}
		return false, fmt.Errorf("asking the API server about %s: %w", gvk, err)
	}
	raw, err := k.scheme.New(gvk)
	if err != nil {
		return false, fmt.Errorf("making a %s: %w", gvk.Kind, err)
	}
	src := source.Kind(k.cache, raw.(client.Object), handler.EnqueueRequestsFromMapFunc(owningCluster))
	if err := k.controller.Watch(src); err != nil {
		return false, fmt.Errorf("watching %s: %w", gvk, err)
	}
	k.watched[gvk] = true
	return true, nil
}

// owningCluster goes by the label and not by the owner reference, which the Secrets that
// cert-manager makes do not have at first.
func owningCluster(_ context.Context, obj client.Object) []reconcile.Request {
	name := obj.GetLabels()[resources.LabelInstance]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}}}
}
