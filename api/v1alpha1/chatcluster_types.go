package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ChatCluster is a complete chat service: Redis, certificates, chat servers that scale
// with their load, and the routes to them. Only spec.host is required.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=chat,categories=all,path=chatclusters,singular=chatcluster
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.server.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Servers",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Ready servers",type=integer,JSONPath=`.status.readyReplicas`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must start with a letter, hold only lower-case letters, digits and hyphens, and be at most 40 characters long: the names of Services are made from it"
type ChatCluster struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is wanted.
	// +required
	Spec ChatClusterSpec `json:"spec"`
	// What is there.
	// +optional
	Status ChatClusterStatus `json:"status,omitempty"`
}

// ChatClusterList is a list of ChatClusters.
//
// +kubebuilder:object:root=true
type ChatClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ChatCluster `json:"items"`
}

// ChatClusterSpec is what is wanted of a chat service.
//
// +kubebuilder:validation:XValidation:rule="!has(self.routing) || !has(self.routing.gateway) || !has(self.routing.gateway.lineParentRefs) || self.server.lineProtocol.enabled",message="routing.gateway.lineParentRefs routes the line protocol, which is off: set server.lineProtocol.enabled to true or remove lineParentRefs"
type ChatClusterSpec struct {
	// The public DNS name of the chat service, such as chat.example.com. The public
	// certificate is issued for it and the routes lead from it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",message="host must be a DNS name such as chat.example.com: lower-case letters, digits, hyphens and dots, without scheme, port, path or wildcard"
	Host string `json:"host"`

	// While true the operator changes nothing of this cluster; it goes on serving as it is.
	// Default: false.
	// +optional
	// +kubebuilder:default=false
	Paused bool `json:"paused,omitempty"`

	// The chat servers.
	// +optional
	// +kubebuilder:default={}
	Server ServerSpec `json:"server,omitempty"`

	// Where messages, rooms and sessions are kept.
	// +optional
	// +kubebuilder:default={}
	Redis RedisSpec `json:"redis,omitempty"`

	// Certificates.
	// +optional
	// +kubebuilder:default={}
	TLS TLSSpec `json:"tls,omitempty"`

	// How clients get in. Unset: an Ingress of the cluster's default class.
	// +optional
	Routing *RoutingSpec `json:"routing,omitempty"`

	// Which pods may connect to the pods of this cluster.
	// +optional
	// +kubebuilder:default={}
	NetworkPolicy NetworkPolicySpec `json:"networkPolicy,omitempty"`
}

// TLSSpec says who signs certificates and for how long they are valid.
//
// +kubebuilder:validation:XValidation:rule="!has(self.renewBefore) || !has(self.duration) || duration(self.renewBefore) < duration(self.duration)",message="tls.renewBefore must be shorter than tls.duration: lower renewBefore or raise duration"
type TLSSpec struct {
	// The cert-manager issuer of the public certificate. Unset: a private certificate
	// authority made for this cluster, which clients do not trust until they are given
	// the ca.crt of Secret <name>-tls.
	// +optional
	IssuerRef *IssuerReference `json:"issuerRef,omitempty"`

	// How long a certificate is valid, at least 1h.
	// Default: 2160h.
	// +optional
	// +kubebuilder:default="2160h"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(h|m|s))+$') && duration(self) >= duration('1h')",message="tls.duration must be at least 1h, written like 2160h"
	Duration Duration `json:"duration,omitzero"`

	// How long before its end a certificate is renewed, at least 5m.
	// Default: 720h.
	// +optional
	// +kubebuilder:default="720h"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(h|m|s))+$') && duration(self) >= duration('5m')",message="tls.renewBefore must be at least 5m, written like 720h"
	RenewBefore Duration `json:"renewBefore,omitzero"`
}

// IssuerReference names a cert-manager issuer.
type IssuerReference struct {
	// Name of the issuer.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Issuer (in the namespace of the ChatCluster), ClusterIssuer, or the kind of an
	// external issuer.
	// Default: Issuer.
	// +optional
	// +kubebuilder:default=Issuer
	// +kubebuilder:validation:MinLength=1
	Kind string `json:"kind,omitempty"`
	// API group of the issuer.
	// Default: cert-manager.io.
	// +optional
	// +kubebuilder:default="cert-manager.io"
	// +kubebuilder:validation:MinLength=1
	Group string `json:"group,omitempty"`
}

// NetworkPolicySpec switches the NetworkPolicies of a cluster.
type NetworkPolicySpec struct {
	// Whether NetworkPolicies are made: Redis answers the chat servers and the operator
	// only; the chat servers answer on their public ports and their metrics port only.
	// Default: true.
	// +optional
	// +kubebuilder:default=true
	Enabled *bool `json:"enabled,omitempty"`
}

// ChatClusterStatus is what was observed of a chat service.
type ChatClusterStatus struct {
	// The generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Where clients connect.
	// +optional
	URL string `json:"url,omitempty"`

	// The address of the line protocol, host:port.
	// +optional
	LineAddress string `json:"lineAddress,omitempty"`

	// Chat servers there are.
	// +optional
	Replicas int32 `json:"replicas"`

	// Chat servers that take clients.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`

	// Selects the pods of the chat servers, as a string, for the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`

	// The image that the chat servers run.
	// +optional
	Version string `json:"version,omitempty"`

	// Redis as it runs.
	// +optional
	Redis *RedisStatus `json:"redis,omitempty"`

	// The public certificate.
	// +optional
	Certificate *CertificateStatus `json:"certificate,omitempty"`

	// Why the chat servers were last rolled.
	// +optional
	LastRoll *RollStatus `json:"lastRoll,omitempty"`

	// Ready, Progressing, Degraded, RedisReady, CertificatesReady, RoutesReady,
	// AutoscalingActive and Paused.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RedisStatus is Redis as it runs.
type RedisStatus struct {
	// The topology that runs.
	Topology RedisTopology `json:"topology"`
	// The pod that takes writes.
	// +optional
	Primary string `json:"primary,omitempty"`
}

// CertificateStatus is the public certificate in use.
type CertificateStatus struct {
	// When it ends.
	NotAfter metav1.Time `json:"notAfter"`
}

// RollStatus tells why pods were replaced.
type RollStatus struct {
	// The inputs of the pod template that changed, such as image or resources.
	Reason string `json:"reason"`
}
