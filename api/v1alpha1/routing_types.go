package v1alpha1

// RoutingSpec says how clients get in.
//
// +kubebuilder:validation:XValidation:rule="has(self.ingress) || has(self.gateway)",message="routing needs ingress or gateway: set one, or remove routing for an Ingress of the default class"
type RoutingSpec struct {
	// An Ingress for the web and WebSockets.
	// +optional
	Ingress *IngressSpec `json:"ingress,omitempty"`

	// Routes of the Gateway API. The Gateways are yours: they are attached to, not made.
	// +optional
	Gateway *GatewaySpec `json:"gateway,omitempty"`
}

// IngressSpec is an Ingress for the web and WebSockets.
type IngressSpec struct {
	// Class of the Ingress. Unset: the cluster's default class.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClassName *string `json:"className,omitempty"`

	// Annotations of the Ingress, for its controller. Those that tell the controller to
	// speak TLS to the chat servers are there already for the classes nginx and local
	// (for all of these when className is unset); the ones given here win.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// GatewaySpec names the Gateways to attach to.
//
// +kubebuilder:validation:XValidation:rule="has(self.parentRefs) || has(self.lineParentRefs)",message="routing.gateway needs parentRefs or lineParentRefs: name the Gateway to attach to"
type GatewaySpec struct {
	// Gateways for the web and WebSockets (an HTTPRoute and a BackendTLSPolicy). Their
	// listener holds the public certificate.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	ParentRefs []ParentReference `json:"parentRefs,omitempty"`

	// Gateways for the line protocol (a TLSRoute). Their listener must be of protocol
	// TLS and mode Passthrough: the chat servers hold the certificate.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	LineParentRefs []ParentReference `json:"lineParentRefs,omitempty"`
}

// ParentReference names a Gateway, or one listener of it.
type ParentReference struct {
	// Name of the Gateway.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Namespace of the Gateway. Unset: that of the ChatCluster.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// Name of the listener. Unset: every listener that fits.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SectionName string `json:"sectionName,omitempty"`
}
