package controllers

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// secretWatcher watches the Secrets of users that ChatClusters refer to: each by its
// name, and only that it changed. So the operator's memory does not grow with the Secrets
// there are, and it never holds what is in those that are none of its business.
type secretWatcher struct {
	client metadata.Interface
	// changed names the ChatCluster whose Secret changed.
	changed chan event.GenericEvent

	mu sync.Mutex
	// watches is guarded by mu; it has at most one for each ChatCluster.
	watches map[types.NamespacedName]secretWatch
	// running counts the goroutines of watches.
	running sync.WaitGroup
}

type secretWatch struct {
	secret string
	stop   context.CancelFunc
}

func newSecretWatcher(client metadata.Interface) *secretWatcher {
	return &secretWatcher{
		client:  client,
		changed: make(chan event.GenericEvent),
		watches: map[types.NamespacedName]secretWatch{},
	}
}

// Start ends all watches when ctx does, and returns when they have ended.
func (w *secretWatcher) Start(ctx context.Context) error {
	<-ctx.Done()
	w.mu.Lock()
	for _, watch := range w.watches {
		watch.stop()
	}
	w.mu.Unlock()
	w.running.Wait()
	return nil
}

// follow watches the Secret for the cluster, instead of the one it followed before; "" for none.
func (w *secretWatcher) follow(ctx context.Context, cluster types.NamespacedName, secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watches[cluster].secret == secret {
		return
	}
	if before, ok := w.watches[cluster]; ok {
		before.stop()
		delete(w.watches, cluster)
	}
	if secret == "" {
		return
	}
	// The watch outlives the pass that asks for it.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.watches[cluster] = secretWatch{secret, stop}
	w.running.Go(func() { w.run(ctx, cluster, secret) })
}

func (w *secretWatcher) run(ctx context.Context, cluster types.NamespacedName, secret string) {
	byName := func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, secret).String()
	}
	informer := metadatainformer.NewFilteredMetadataInformer(w.client,
		corev1.SchemeGroupVersion.WithResource("secrets"), cluster.Namespace, 0, toolscache.Indexers{}, byName).Informer()
	tell := func() {
		select {
		case w.changed <- event.GenericEvent{Object: &v1alpha1.ChatCluster{
			ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: cluster.Name},
		}}:
		case <-ctx.Done():
		}
	}
	// It fails only on an informer that was stopped.
	_, _ = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { tell() },
		UpdateFunc: func(any, any) { tell() },
		DeleteFunc: func(any) { tell() },
	})
	informer.RunWithContext(ctx)
}
