package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// name is what StorageClasses call the provisioner by.
const name = "chatcluster.dev/local"

// Annotations by which Kubernetes and provisioners talk to each other.
const (
	wantedFrom    = "volume.kubernetes.io/storage-provisioner" // on a claim: who is to make its volume
	selectedNode  = "volume.kubernetes.io/selected-node"       // on a claim: where its first pod will run
	provisionedBy = "pv.kubernetes.io/provisioned-by"          // on a volume: who made it
)

func setup(manager ctrl.Manager, directory string) error {
	err := ctrl.NewControllerManagedBy(manager).Named("claims").For(&corev1.PersistentVolumeClaim{}).
		Complete(reconcile.AsReconciler(manager.GetClient(), claims{manager.GetClient(), directory}))
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(manager).Named("volumes").For(&corev1.PersistentVolume{}).
		Complete(reconcile.AsReconciler(manager.GetClient(), volumes{manager.GetClient(), directory}))
}

// claims gives claims their volumes.
type claims struct {
	client.Client
	directory string
}

// Reconcile makes the volume of a claim for which a node is chosen. Kubernetes
// itself binds the two.
func (c claims) Reconcile(ctx context.Context, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	node := claim.Annotations[selectedNode]
	if claim.Annotations[wantedFrom] != name || claim.Spec.VolumeName != "" || node == "" || claim.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	var class storagev1.StorageClass
	if err := c.Get(ctx, client.ObjectKey{Name: *claim.Spec.StorageClassName}, &class); err != nil {
		return ctrl.Result{}, err
	}
	volume := volumeFor(claim, &class, node, c.directory)
	// It belongs to root and is closed to others until the kubelet gives it to
	// the fsGroup of the pod that mounts it.
	if err := os.MkdirAll(volume.Spec.Local.Path, 0o770); err != nil {
		return ctrl.Result{}, fmt.Errorf("make the directory of volume %s: %w", volume.Name, err)
	}
	if err := c.Create(ctx, volume); err != nil && !apierrors.IsAlreadyExists(err) {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, nil
}

func volumeFor(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node, directory string) *corev1.PersistentVolume {
	volume := "pvc-" + string(claim.UID)
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: volume, Annotations: map[string]string{provisionedBy: name}},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: *class.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path(directory, volume)}},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
				}},
			}}}},
		},
	}
}

// volumes takes volumes away that nobody claims any more.
type volumes struct {
	client.Client
	directory string
}

// Reconcile removes a released volume, with all that is in it, if its reclaim
// policy is Delete.
func (v volumes) Reconcile(ctx context.Context, volume *corev1.PersistentVolume) (ctrl.Result, error) {
	if volume.Annotations[provisionedBy] != name || volume.Status.Phase != corev1.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return ctrl.Result{}, nil
	}
	if err := os.RemoveAll(path(v.directory, volume.Name)); err != nil {
		return ctrl.Result{}, fmt.Errorf("remove the directory of volume %s: %w", volume.Name, err)
	}
	return ctrl.Result{}, client.IgnoreNotFound(v.Delete(ctx, volume))
}

// path is a volume's directory. Names of Kubernetes objects have no slashes;
// Base makes sure that none leads out.
func path(directory, volume string) string { return filepath.Join(directory, filepath.Base(volume)) }
