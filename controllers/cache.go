package controllers

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
	"github.com/chatcluster/chatcluster/controllers/resources"
)

// CacheOptions bound the operator's memory by its own objects, whatever else the cluster
// holds: of every kind but ChatCluster only objects with the operator's label are kept.
// No namespaces: all of them.
func CacheOptions(namespaces []string) cache.Options {
	o := cache.Options{
		DefaultLabelSelector: labels.SelectorFromSet(labels.Set{resources.LabelManagedBy: resources.ManagedBy}),
		DefaultTransform:     withoutOthersFields,
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.ChatCluster{}: {Label: labels.Everything()},
		},
	}
	for _, ns := range namespaces {
		if o.DefaultNamespaces == nil {
			o.DefaultNamespaces = map[string]cache.Config{}
		}
		o.DefaultNamespaces[ns] = cache.Config{}
	}
	return o
}

// ClientOptions make reads wait for the operator's own writes to reach the cache. So no
// pass acts on a state from before the last.
func ClientOptions() client.Options {
	yes := true
	return client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: &yes}}
}

// withoutOthersFields drops the lists of fields that others own, which are large and of
// which only the owners' names matter here.
func withoutOthersFields(raw any) (any, error) {
	obj, ok := raw.(metav1.Object)
	if !ok {
		return raw, nil
	}
	entries := obj.GetManagedFields()
	for i := range entries {
		if entries[i].Manager != FieldOwner {
			entries[i].FieldsV1 = nil
		}
	}
	return raw, nil
}
