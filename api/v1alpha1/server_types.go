package v1alpha1

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// ServerSpec describes the chat servers.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.replicas) && has(self.autoscaling))",message="set server.replicas or server.autoscaling, not both: to change an autoscaled cluster's size, change autoscaling.minReplicas and maxReplicas"
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || (has(self.resources.requests) && 'cpu' in self.resources.requests)",message="server.autoscaling measures CPU against the request: set server.resources.requests.cpu"
type ServerSpec struct {
	// Image of the chat server. Unset: the operator's own version at the time the
	// cluster was created; it stays until an image is named here, so that upgrading the
	// operator restarts no chat server.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// How many chat servers run. Unset: 2 in a new cluster, later as many as there are
	// (so nobody is cut off when autoscaling is removed). Not together with autoscaling.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Replicas *int32 `json:"replicas,omitempty"`

	// Lets the number of chat servers follow their load. Not together with replicas.
	// +optional
	Autoscaling *AutoscalingSpec `json:"autoscaling,omitempty"`

	// CPU and memory of a chat server.
	// Default: requests of 100m CPU and 128Mi memory, a limit of 512Mi memory.
	// +optional
	// +kubebuilder:default={requests: {cpu: "100m", memory: "128Mi"}, limits: {memory: "512Mi"}}
	// +kubebuilder:validation:XValidation:rule="['cpu', 'memory'].all(k, !has(self.requests) || !has(self.limits) || !(k in self.requests) || !(k in self.limits) || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",message="server.resources.requests must not be above limits: lower the request or raise the limit"
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`

	// Who may log in, and for how long.
	// +optional
	// +kubebuilder:default={}
	Auth AuthSpec `json:"auth,omitempty"`

	// What one client may use.
	// +optional
	// +kubebuilder:default={}
	Limits LimitsSpec `json:"limits,omitempty"`

	// What a room remembers.
	// +optional
	// +kubebuilder:default={}
	History HistorySpec `json:"history,omitempty"`

	// Web origins, besides https://<host>, whose pages may open a connection, such as
	// https://www.example.com.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=260
	// +kubebuilder:validation:XValidation:rule="self.all(o, o.matches('^https?://[a-z0-9.-]+(:[0-9]{1,5})?$'))",message="server.allowedOrigins must hold origins such as https://www.example.com: scheme and host, a port if needed, no path and no trailing slash"
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`

	// Least severe messages that the chat servers log. Unset: Info.
	// +optional
	LogLevel LogLevel `json:"logLevel,omitempty"`

	// How a chat server leaves.
	// +optional
	// +kubebuilder:default={}
	Drain DrainSpec `json:"drain,omitempty"`

	// The line protocol: one command a line, over TLS.
	// +optional
	// +kubebuilder:default={}
	LineProtocol LineProtocolSpec `json:"lineProtocol,omitempty"`

	// Networks of the routers in front, in CIDR notation. A client's address is taken
	// from the X-Forwarded-For header of a connection that comes from one of them.
	// Default: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, fc00::/7.
	// +optional
	// +listType=set
	// +kubebuilder:default={"10.0.0.0/8","172.16.0.0/12","192.168.0.0/16","100.64.0.0/10","fc00::/7"}
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="server.trustedProxies must hold networks in CIDR notation, such as 10.0.0.0/8; one address is written 192.0.2.7/32"
	TrustedProxies []string `json:"trustedProxies,omitempty"`

	// Additions to the pods of the chat servers.
	// +optional
	PodTemplate PodTemplateSpec `json:"podTemplate,omitempty"`
}

// AutoscalingSpec lets the number of chat servers follow their load.
//
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="autoscaling.minReplicas must not be above autoscaling.maxReplicas: lower minReplicas or raise maxReplicas"
type AutoscalingSpec struct {
	// Chat servers that run however little there is to do.
	// Default: 2.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	MinReplicas int32 `json:"minReplicas,omitempty"`

	// Chat servers there may be at most.
	// Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	MaxReplicas int32 `json:"maxReplicas,omitempty"`

	// CPU use to aim at, in percent of the request.
	// Default: 70.
	// +optional
	// +kubebuilder:default=70
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	TargetCPU int32 `json:"targetCPU,omitempty"`

	// How quickly to scale. Unset: up as quickly as needed; down by one chat server in
	// 120 seconds after 600 seconds of less load, since connections live long.
	// +optional
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior,omitempty"`
}

// Registration says whether people may make accounts.
// +kubebuilder:validation:Enum=Open;Closed
type Registration string

// Kinds of registration.
const (
	RegistrationOpen   Registration = "Open"
	RegistrationClosed Registration = "Closed"
)

// DuplicateLogin says what a second login of one user does.
// +kubebuilder:validation:Enum=Reject;Replace;Allow
type DuplicateLogin string

// Answers to a second login.
const (
	DuplicateLoginReject  DuplicateLogin = "Reject"
	DuplicateLoginReplace DuplicateLogin = "Replace"
	DuplicateLoginAllow   DuplicateLogin = "Allow"
)

// LogLevel is how severe a message is.
// +kubebuilder:validation:Enum=Debug;Info;Warn;Error
type LogLevel string

// Levels of the log.
const (
	LogLevelDebug LogLevel = "Debug"
	LogLevelInfo  LogLevel = "Info"
	LogLevelWarn  LogLevel = "Warn"
	LogLevelError LogLevel = "Error"
)

// AuthSpec says who may log in, and for how long.
//
// +kubebuilder:validation:XValidation:rule="!has(self.maxSessionsPerUser) || self.duplicateLogin == 'Allow'",message="auth.maxSessionsPerUser counts logins that duplicateLogin allows beside each other: set auth.duplicateLogin to Allow, or remove maxSessionsPerUser"
type AuthSpec struct {
	// Open: anyone who reaches the service may make an account. Closed: only the users
	// of the users Secret exist.
	// Default: Open.
	// +optional
	// +kubebuilder:default=Open
	Registration Registration `json:"registration,omitempty"`

	// How long a login's token is valid, from 1m to 24h.
	// Default: 1h.
	// +optional
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(h|m|s))+$') && duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="auth.accessTokenTTL must be from 1m to 24h, written like 1h or 15m"
	AccessTokenTTL Duration `json:"accessTokenTTL,omitzero"`

	// How long a session lives that is not refreshed, from 1h to 8760h. Unset: 720h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(h|m|s))+$') && duration(self) >= duration('1h') && duration(self) <= duration('8760h')",message="auth.refreshTokenTTL must be from 1h to 8760h, written like 720h"
	RefreshTokenTTL *Duration `json:"refreshTokenTTL,omitempty"`

	// What a second login of a user who is online does on the line protocol: Reject
	// refuses it, Replace ends the first, Allow keeps both.
	// Default: Reject.
	// +optional
	// +kubebuilder:default=Reject
	DuplicateLogin DuplicateLogin `json:"duplicateLogin,omitempty"`

	// Sessions a user may have online at once, over all chat servers, where
	// duplicateLogin is Allow. Unset: no limit.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxSessionsPerUser *int32 `json:"maxSessionsPerUser,omitempty"`

	// Wrong passwords that may be given for an account in an hour, over all chat
	// servers. 0: no limit. Unset: 20.
	// +optional
	// +kubebuilder:validation:Minimum=0
	LoginAttemptsPerHour *int32 `json:"loginAttemptsPerHour,omitempty"`

	// Secret with accounts: lines "user:password" or "user:<bcrypt hash>".
	// +optional
	Users *UsersSource `json:"users,omitempty"`

	// Adds the accounts alice/password123, bob/letmein and dave/123456. Everybody knows
	// them: for trying things out only.
	// Default: false.
	// +optional
	// +kubebuilder:default=false
	DemoUsers bool `json:"demoUsers,omitempty"`
}

// UsersSource is where accounts come from.
type UsersSource struct {
	// The Secret, in the namespace of the ChatCluster.
	// +required
	SecretRef SecretKeyReference `json:"secretRef"`
}

// SecretKeyReference names a key of a Secret in the same namespace.
type SecretKeyReference struct {
	// Name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in the Secret.
	// Default: users.
	// +optional
	// +kubebuilder:default=users
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// LimitsSpec is what one client may use. Over a limit a client gets a clear error.
type LimitsSpec struct {
	// Longest message, in bytes.
	// Default: 4096.
	// +optional
	// +kubebuilder:default=4096
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1048576
	MaxMessageBytes int32 `json:"maxMessageBytes,omitempty"`

	// Messages a connection may send in 10 seconds. 0: no limit.
	// Default: 20.
	// +optional
	// +kubebuilder:default=20
	// +kubebuilder:validation:Minimum=0
	MessagesPer10Seconds *int32 `json:"messagesPer10Seconds,omitempty"`

	// HTTP requests an address may make in an hour, over all chat servers. 0: no limit.
	// Default: 200.
	// +optional
	// +kubebuilder:default=200
	// +kubebuilder:validation:Minimum=0
	RequestsPerHour *int32 `json:"requestsPerHour,omitempty"`

	// Calls of /api that take a password which an address may make in a minute, over all
	// chat servers. 0: no limit. Unset: 5.
	// +optional
	// +kubebuilder:validation:Minimum=0
	AuthRequestsPerMinute *int32 `json:"authRequestsPerMinute,omitempty"`

	// Other calls of /api that an address may make in a minute, over all chat servers.
	// 0: no limit. Unset: 100.
	// +optional
	// +kubebuilder:validation:Minimum=0
	APIRequestsPerMinute *int32 `json:"apiRequestsPerMinute,omitempty"`

	// Connections an address may hold on a chat server. 0: no limit.
	// Default: 0.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	ConnectionsPerAddress *int32 `json:"connectionsPerAddress,omitempty"`
}

// HistorySpec is what a room remembers; older messages go first.
type HistorySpec struct {
	// Messages kept a room.
	// Default: 1000.
	// +optional
	// +kubebuilder:default=1000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Count int32 `json:"count,omitempty"`

	// How long messages are kept, at least 1m.
	// Default: 168h.
	// +optional
	// +kubebuilder:default="168h"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(h|m|s))+$') && duration(self) >= duration('1m')",message="history.age must be at least 1m, written in hours, minutes and seconds like 168h"
	Age Duration `json:"age,omitzero"`
}

// DrainSpec says how a chat server leaves.
type DrainSpec struct {
	// The time over which a leaving chat server asks its clients to reconnect, so that
	// they do not all come back at once. From 1s to 10m.
	// Default: 20s.
	// +optional
	// +kubebuilder:default="20s"
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('10m')",message="drain.window must be from 1s to 10m, written like 20s"
	Window Duration `json:"window,omitzero"`
}

// LineProtocolSpec is the line protocol: one command a line, over TLS.
type LineProtocolSpec struct {
	// Whether the chat servers speak the line protocol.
	// Default: true.
	// +optional
	// +kubebuilder:default=true
	Enabled *bool `json:"enabled,omitempty"`

	// Port of Service <name>-line.
	// Default: 1222.
	// +optional
	// +kubebuilder:default=1222
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// Service <name>-line.
	// +optional
	// +kubebuilder:default={}
	Service LineServiceSpec `json:"service,omitempty"`
}

// LineServiceSpec is the Service of the line protocol.
type LineServiceSpec struct {
	// ClusterIP: reached through a Gateway or from inside. NodePort, LoadBalancer:
	// reached from outside without one.
	// Default: ClusterIP.
	// +optional
	// +kubebuilder:default=ClusterIP
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`

	// Annotations of the Service, for the load balancer's provider.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// PodTemplateSpec is what is added to pods.
type PodTemplateSpec struct {
	// Labels added to the pods.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('app.kubernetes.io/'))",message="podTemplate.labels must not start with app.kubernetes.io/: the operator selects its pods by those; choose another prefix"
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations added to the pods.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// Labels of the nodes to run on.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Taints of nodes that are tolerated.
	// +optional
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// Which nodes and neighbours are preferred or required.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// How pods are spread. Unset: over nodes and zones, as well as is possible.
	// +optional
	// +listType=atomic
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// Priority class of the pods.
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// Secrets to pull images with.
	// +optional
	// +listType=atomic
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`
}
