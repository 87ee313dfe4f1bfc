package resources

import (
	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Child is one child of a ChatCluster.
type Child struct {
	Kind schema.GroupVersionKind
	// Suffix makes the child's name from that of the ChatCluster.
	Suffix string
	// Build says what the child should be; nil that it should not exist.
	Build func(Input) Object
	// Waits tells what has to be there before the child is first made; "" if nothing is
	// missing. It never unmakes a child. Nil: nothing.
	Waits func(Input) string
	// Foreign: the child is somebody else's, and Build only adds to it. It is left
	// alone where Build returns nil.
	Foreign bool
}

var gatewayGroup = schema.GroupVersion{Group: gatewayv1.GroupName, Version: "v1"}

// Kinds of children.
var (
	KindServiceAccount   = corev1.SchemeGroupVersion.WithKind("ServiceAccount")
	KindSecret           = corev1.SchemeGroupVersion.WithKind("Secret")
	KindConfigMap        = corev1.SchemeGroupVersion.WithKind("ConfigMap")
	KindService          = corev1.SchemeGroupVersion.WithKind("Service")
	KindDeployment       = appsv1.SchemeGroupVersion.WithKind("Deployment")
	KindStatefulSet      = appsv1.SchemeGroupVersion.WithKind("StatefulSet")
	KindAutoscaler       = autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler")
	KindDisruptionBudget = policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget")
	KindNetworkPolicy    = networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy")
	KindIngress          = networkingv1.SchemeGroupVersion.WithKind("Ingress")
	KindIssuer           = cmv1.SchemeGroupVersion.WithKind("Issuer")
	KindCertificate      = cmv1.SchemeGroupVersion.WithKind("Certificate")
	KindHTTPRoute        = gatewayGroup.WithKind("HTTPRoute")
	KindBackendTLSPolicy = gatewayGroup.WithKind("BackendTLSPolicy")
	KindTLSRoute         = gatewayGroup.WithKind("TLSRoute")
)

// Children are all children, in the order in which they are made. The order matters in
// two places only. What is waited for longest is asked for first: certificates, then
// Redis, then the chat servers. And the autoscaler comes after what it scales.
var Children = []Child{
	{Kind: KindIssuer, Suffix: "-selfsigned", Build: SelfSignedIssuer},
	{Kind: KindCertificate, Suffix: "-ca", Build: CACertificate},
	{Kind: KindIssuer, Suffix: "-ca", Build: CAIssuer},
	{Kind: KindCertificate, Suffix: "-redis", Build: RedisCertificate},
	{Kind: KindCertificate, Suffix: "-server", Build: ServerCertificate},
	{Kind: KindCertificate, Suffix: "", Build: PublicCertificate},
	{Kind: KindSecret, Suffix: "-ca", Foreign: true, Build: CertificateSecretOwner("-ca", func(o Observed) *corev1.Secret { return o.CA })},
	{Kind: KindSecret, Suffix: "-redis-tls", Foreign: true, Build: CertificateSecretOwner("-redis", func(o Observed) *corev1.Secret { return o.RedisTLS })},
	{Kind: KindSecret, Suffix: "-server-tls", Foreign: true, Build: CertificateSecretOwner("-server", func(o Observed) *corev1.Secret { return o.ServerTLS })},
	{Kind: KindSecret, Suffix: "-tls", Foreign: true, Build: CertificateSecretOwner("", func(o Observed) *corev1.Secret { return o.PublicTLS })},

	{Kind: KindSecret, Suffix: "-redis-auth", Build: RedisAuthSecret},
	{Kind: KindSecret, Suffix: "-tokens", Build: TokensSecret},
	{Kind: KindServiceAccount, Suffix: "-server", Build: ServerServiceAccount},
	{Kind: KindNetworkPolicy, Suffix: "-redis", Build: RedisNetworkPolicy},
	{Kind: KindNetworkPolicy, Suffix: "-server", Build: ServerNetworkPolicy},
	{Kind: KindService, Suffix: "-redis", Build: RedisService},
	{Kind: KindService, Suffix: "-server", Build: ServerService},
	{Kind: KindService, Suffix: "-line", Build: LineService},
	{Kind: KindService, Suffix: "-metrics", Build: MetricsService},
	{Kind: KindStatefulSet, Suffix: "-redis", Build: RedisStatefulSet, Waits: redisWaits},
	{Kind: KindDeployment, Suffix: "-server", Build: ServerDeployment, Waits: ServerWaits},
	{Kind: KindAutoscaler, Suffix: "-server", Build: ServerAutoscaler, Waits: autoscalerWaits},
	{Kind: KindDisruptionBudget, Suffix: "-server", Build: ServerDisruptionBudget},

	{Kind: KindIngress, Suffix: "", Build: Ingress},
	{Kind: KindConfigMap, Suffix: "-ca-bundle", Build: CABundle},
	{Kind: KindBackendTLSPolicy, Suffix: "-server", Build: BackendTLSPolicy},
	{Kind: KindHTTPRoute, Suffix: "", Build: HTTPRoute},
	{Kind: KindTLSRoute, Suffix: "-line", Build: TLSRoute},
}

// A pod whose Secret is missing is retried by the kubelet at ever longer intervals, up
// to two minutes. So pods are first made when the Secrets they mount are there.

func redisWaits(in Input) string {
	if in.Observed.RedisTLS == nil {
		return "the certificate of Redis"
	}
	return ""
}

// ServerWaits tells what the first chat servers wait for; "" if nothing is missing.
func ServerWaits(in Input) string {
	switch {
	case in.Observed.RedisTLS == nil:
		return "the certificate of Redis"
	case in.Observed.ServerTLS == nil:
		return "the certificate of the chat servers"
	case in.Cluster.Spec.Server.LineProtocol.On() && in.Observed.PublicTLS == nil:
		return "the public certificate"
	case in.Observed.UsersMissing:
		return "the Secret with accounts"
	}
	return ""
}

// An autoscaler without its target only complains.
func autoscalerWaits(in Input) string {
	if in.Observed.Server == nil {
		return "the chat servers"
	}
	return ""
}
