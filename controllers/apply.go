package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
	"github.com/chatcluster/chatcluster/controllers/resources"
)

// applier writes children by server-side apply, and only when that would change something.
//
// It remembers for each child what it applied last, and which fields the API server then
// said were the operator's. While the same is wanted and the same fields are still the
// operator's, nothing needs writing: whoever changes one of them takes it from the
// operator, whereas others' fields (a status, the replicas that an autoscaler sets) come
// and go without a word. After a start each child is applied once, which the API server
// answers without writing anything.
type applier struct {
	client client.Client
	live   client.Reader

	mu sync.Mutex
	// applied is guarded by mu. It holds as many entries as there are children of
	// clusters that exist: forget drops those of one that is gone.
	applied map[types.NamespacedName]map[objectKey]appliedChild
}

type objectKey struct {
	kind schema.GroupKind
	name string
}

type appliedChild struct {
	uid types.UID
	// desired and owned are hashes.
	desired, owned [sha256.Size]byte
}

// errNameTaken tells that a child's name belongs to an object of somebody else.
var errNameTaken = errors.New("the name is taken")

func newApplier(c client.Client, live client.Reader) *applier {
	return &applier{client: c, live: live, applied: map[types.NamespacedName]map[objectKey]appliedChild{}}
}

// apply makes the child desired; live is what the cache has, nil for none. It tells
// whether it wrote. A foreign child may be controlled by somebody else, or by nobody.
func (a *applier) apply(ctx context.Context, owner *v1alpha1.ChatCluster, desired resources.Object, live client.Object, foreign bool) (bool, error) {
	gvk := kindOf(desired)
	key := objectKey{kind: gvk.GroupKind(), name: *desired.GetName()}
	want, err := hashOf(desired)
	if err != nil {
		return false, err
	}
	if live != nil && a.upToDate(client.ObjectKeyFromObject(owner), key, live, want) {
		return false, nil
	}
	if !foreign {
		if err := a.checkOwner(ctx, owner, gvk, *desired.GetName(), live); err != nil {
			return false, err
		}
	}
	if err := a.client.Apply(ctx, desired, client.FieldOwner(FieldOwner), client.ForceOwnership); err != nil {
		return false, fmt.Errorf("applying %s %s: %w", gvk.Kind, *desired.GetName(), err)
	}
	childWrites.WithLabelValues(gvk.Kind, "apply").Inc()
	return true, a.remember(ctx, owner, key, desired, want)
}

func (a *applier) upToDate(owner types.NamespacedName, key objectKey, live client.Object, want [sha256.Size]byte) bool {
	a.mu.Lock()
	last, ok := a.applied[owner][key]
	a.mu.Unlock()
	return ok && last.uid == live.GetUID() && last.desired == want && last.owned == ownedHash(live)
}

// remember notes what was written. desired holds the API server's answer by now. If the
// object has moved on since, nothing is noted, and the next pass applies once more: it
// cannot be told whether the fields that are the operator's now still were after the write.
func (a *applier) remember(ctx context.Context, owner *v1alpha1.ChatCluster, key objectKey, answer resources.Object, want [sha256.Size]byte) error {
	written, err := resourceVersion(answer)
	if err != nil {
		return err
	}
	raw, err := a.client.Scheme().New(kindOf(answer))
	if err != nil {
		return fmt.Errorf("making a %s: %w", key.kind.Kind, err)
	}
	now := raw.(client.Object)
	// The client waits until the cache has what was written.
	if err := a.client.Get(ctx, client.ObjectKey{Namespace: owner.Namespace, Name: key.name}, now); err != nil {
		return client.IgnoreNotFound(err)
	}
	if now.GetResourceVersion() != written {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	name := client.ObjectKeyFromObject(owner)
	if a.applied[name] == nil {
		a.applied[name] = map[objectKey]appliedChild{}
	}
	a.applied[name][key] = appliedChild{uid: now.GetUID(), desired: want, owned: ownedHash(now)}
	return nil
}

// checkOwner refuses to write over an object that is not this cluster's child. The cache
// does not have objects without the operator's label, so for a child that seems to be
// missing the API server is asked; that happens once in a child's life.
func (a *applier) checkOwner(ctx context.Context, owner *v1alpha1.ChatCluster, gvk schema.GroupVersionKind, name string, live client.Object) error {
	var found metav1.Object = live
	if live == nil {
		meta := &metav1.PartialObjectMetadata{}
		meta.SetGroupVersionKind(gvk)
		err := a.live.Get(ctx, client.ObjectKey{Namespace: owner.Namespace, Name: name}, meta)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for a %s %s that is not ours: %w", gvk.Kind, name, err)
		}
		found = meta
	}
	if metav1.IsControlledBy(found, owner) {
		return nil
	}
	return fmt.Errorf("%w: %s %s exists and does not belong to this ChatCluster; delete it, or give the ChatCluster another name",
		errNameTaken, gvk.Kind, name)
}

// scale writes the number of chat servers, if it is another. It does so by the scale
// subresource, as an autoscaler does: there the number keeps its owner when an
// autoscaler takes over, and is never unset in between.
func (a *applier) scale(ctx context.Context, in resources.Input, n int32) error {
	live := in.Observed.Server
	if live.Spec.Replicas != nil && *live.Spec.Replicas == n && ownsScale(live) {
		return nil
	}
	err := a.client.SubResource("scale").Apply(ctx, appsv1ac.Deployment(live.Name, live.Namespace),
		&client.SubResourceApplyOptions{SubResourceBody: resources.ServerScale(in, n)},
		client.FieldOwner(FieldOwner), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("scaling Deployment %s to %d: %w", live.Name, n, err)
	}
	childWrites.WithLabelValues("Deployment", "scale").Inc()
	return nil
}

func ownsScale(d *appsv1.Deployment) bool {
	for _, entry := range d.ManagedFields {
		if entry.Subresource == "scale" && entry.Manager == FieldOwner {
			return true
		}
	}
	return false
}

// forget drops what is remembered of a cluster that is gone.
func (a *applier) forget(owner types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.applied, owner)
}

func kindOf(obj resources.Object) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(*obj.GetAPIVersion(), *obj.GetKind())
}

func hashOf(obj resources.Object) ([sha256.Size]byte, error) {
	b, err := json.Marshal(obj)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("marshalling %s %s: %w", *obj.GetKind(), *obj.GetName(), err)
	}
	return sha256.Sum256(b), nil
}

// ownedHash is of the fields that the API server says the operator applied.
func ownedHash(obj client.Object) [sha256.Size]byte {
	for _, entry := range obj.GetManagedFields() {
		if entry.Manager == FieldOwner && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" && entry.FieldsV1 != nil {
			return sha256.Sum256(entry.FieldsV1.GetRawBytes())
		}
	}
	return [sha256.Size]byte{}
}

func resourceVersion(obj resources.Object) (string, error) {
	b, err := json.Marshal(obj)
	if err != nil {
		return "", fmt.Errorf("marshalling the answer about %s %s: %w", *obj.GetKind(), *obj.GetName(), err)
	}
	var partial struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(b, &partial); err != nil {
		return "", fmt.Errorf("reading the answer about %s %s: %w", *obj.GetKind(), *obj.GetName(), err)
	}
	return partial.Metadata.ResourceVersion, nil
}
