package main

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func ptr[T any](v T) *T { return &v }

func claim() *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "chat", Name: "data-acme-redis-0", UID: "1234",
			Annotations: map[string]string{wantedFrom: name, selectedNode: "local"},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr("local"),
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

func class() *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Provisioner: name, ReclaimPolicy: ptr(corev1.PersistentVolumeReclaimDelete)}
}

func cluster(objects ...client.Object) client.Client {
	return fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(objects...).Build()
}

func TestClaimGetsADirectoryOnItsNode(t *testing.T) {
	t.Parallel()
	dir, api := t.TempDir(), cluster(class())
	for range 2 { // the second time there is nothing left to do
		if _, err := (claims{api, dir}).Reconcile(t.Context(), claim()); err != nil {
			t.Fatal(err)
		}
	}
	var volume corev1.PersistentVolume
	if err := api.Get(t.Context(), client.ObjectKey{Name: "pvc-1234"}, &volume); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, "pvc-1234")
	if volume.Spec.Local == nil || volume.Spec.Local.Path != want {
		t.Errorf("volume source = %+v", volume.Spec.PersistentVolumeSource)
	}
	if ref := volume.Spec.ClaimRef; ref.Namespace != "chat" || ref.Name != "data-acme-redis-0" || ref.UID != "1234" {
		t.Errorf("it is for claim %+v", ref)
	}
	if got := volume.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values; got[0] != "local" {
		t.Errorf("it is on node %v", got)
	}
	if info, err := os.Stat(want); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("directory: %v, %v; it must be closed to others", info, err)
	}
}

func TestClaimsThatAreNotReadyOrNotOursAreLeftAlone(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*corev1.PersistentVolumeClaim){
		"no node chosen":      func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, selectedNode) },
		"another provisioner": func(c *corev1.PersistentVolumeClaim) { c.Annotations[wantedFrom] = "example.com/other" },
		"has its volume":      func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pv" },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir, api, c := t.TempDir(), cluster(class()), claim()
			change(c)
			if _, err := (claims{api, dir}).Reconcile(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			var all corev1.PersistentVolumeList
			if err := api.List(t.Context(), &all); err != nil || len(all.Items) != 0 {
				t.Errorf("%d volumes, %v", len(all.Items), err)
			}
		})
	}
}

func TestReleasedVolumeIsRemovedUnlessRetained(t *testing.T) {
	t.Parallel()
	for policy, removed := range map[corev1.PersistentVolumeReclaimPolicy]bool{
		corev1.PersistentVolumeReclaimDelete: true,
		corev1.PersistentVolumeReclaimRetain: false,
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			volume := volumeFor(claim(), class(), "local", dir)
			volume.Spec.PersistentVolumeReclaimPolicy = policy
			volume.Status.Phase = corev1.VolumeReleased
			if err := os.MkdirAll(filepath.Join(volume.Spec.Local.Path, "appendonlydir"), 0o755); err != nil {
				t.Fatal(err)
			}
			api := cluster(volume)
			if _, err := (volumes{api, dir}).Reconcile(t.Context(), volume); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(volume.Spec.Local.Path)
			if gone := os.IsNotExist(err); gone != removed {
				t.Errorf("directory gone = %v, want %v", gone, removed)
			}
			err = api.Get(t.Context(), client.ObjectKeyFromObject(volume), &corev1.PersistentVolume{})
			if gone := client.IgnoreNotFound(err) == nil && err != nil; gone != removed {
				t.Errorf("volume gone = %v, want %v", gone, removed)
			}
		})
	}
}
