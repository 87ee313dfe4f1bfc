package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// RedisTopology is how Redis runs.
// +kubebuilder:validation:Enum=Standalone
type RedisTopology string

// RedisStandalone is one Redis pod with a persistent volume.
const RedisStandalone RedisTopology = "Standalone"

// RedisSpec says where messages, rooms and sessions are kept.
type RedisSpec struct {
	// Standalone: one Redis pod with a persistent volume, an append-only file that is
	// flushed every second, TLS and a generated password.
	// Default: Standalone.
	// +optional
	// +kubebuilder:default=Standalone
	Topology RedisTopology `json:"topology,omitempty"`

	// Image of Redis 7.0 or newer, with redis-server and redis-cli. Unset: the operator's
	// own at the time the cluster was created; it stays until an image is named here.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// The persistent volume.
	// +optional
	// +kubebuilder:default={}
	Storage StorageSpec `json:"storage,omitempty"`

	// CPU and memory of Redis. It refuses writes at three quarters of the memory limit.
	// Default: requests of 100m CPU and 128Mi memory, a limit of 512Mi memory.
	// +optional
	// +kubebuilder:default={requests: {cpu: "100m", memory: "128Mi"}, limits: {memory: "512Mi"}}
	// +kubebuilder:validation:XValidation:rule="['cpu', 'memory'].all(k, !has(self.requests) || !has(self.limits) || !(k in self.requests) || !(k in self.limits) || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",message="redis.resources.requests must not be above limits: lower the request or raise the limit"
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`

	// Additions to the Redis pod.
	// +optional
	PodTemplate PodTemplateSpec `json:"podTemplate,omitempty"`
}

// RetentionPolicy says what happens to a volume whose cluster is deleted.
// +kubebuilder:validation:Enum=Retain;Delete
type RetentionPolicy string

// Policies for the volume of a cluster that is deleted.
const (
	RetainVolume RetentionPolicy = "Retain"
	DeleteVolume RetentionPolicy = "Delete"
)

// StorageSpec is a persistent volume.
//
// +kubebuilder:validation:XValidation:rule="(!has(self.size) || !has(oldSelf.size) || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) == 0) && has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",message="redis.storage size and storageClassName are fixed when the cluster is created: set them back, or create a new ChatCluster with the storage you need"
type StorageSpec struct {
	// Size of the volume, at least 64Mi.
	// Default: 1Gi.
	// +optional
	// +kubebuilder:default="1Gi"
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('64Mi')) >= 0",message="redis.storage.size must be at least 64Mi, written like 1Gi"
	Size resource.Quantity `json:"size,omitzero"`

	// Storage class of the volume. Unset: the cluster's default class.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	StorageClassName *string `json:"storageClassName,omitempty"`

	// What happens to the volume when the ChatCluster is deleted: Retain keeps it, and a
	// ChatCluster of the same name finds its messages again; Delete deletes it.
	// Default: Retain.
	// +optional
	// +kubebuilder:default=Retain
	WhenDeleted RetentionPolicy `json:"whenDeleted,omitempty"`
}
