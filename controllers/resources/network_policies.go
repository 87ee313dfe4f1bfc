package resources

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
)

// ServerNetworkPolicy lets anyone reach the ports of the chat servers that are meant for
// others, and nobody any other port.
func ServerNetworkPolicy(in Input) Object {
	if !in.Cluster.Spec.NetworkPolicy.On() {
		return nil
	}
	return in.networkPolicy("-server", componentServer, networkingv1ac.NetworkPolicySpec().
		WithPolicyTypes(networkingv1.PolicyTypeIngress).
		WithIngress(networkingv1ac.NetworkPolicyIngressRule().
			WithPorts(policyPort(portHTTPS), policyPort(portLine), policyPort(portAdmin))))
}

// RedisNetworkPolicy lets the chat servers of this cluster and the operator reach Redis,
// and lets Redis reach nobody.
func RedisNetworkPolicy(in Input) Object {
	if !in.Cluster.Spec.NetworkPolicy.On() {
		return nil
	}
	from := []*networkingv1ac.NetworkPolicyPeerApplyConfiguration{
		networkingv1ac.NetworkPolicyPeer().WithPodSelector(
			metav1ac.LabelSelector().WithMatchLabels(in.selector(componentServer))),
	}
	if in.Settings.Namespace != "" {
		from = append(from, networkingv1ac.NetworkPolicyPeer().
			WithNamespaceSelector(metav1ac.LabelSelector().WithMatchLabels(
				map[string]string{corev1.LabelMetadataName: in.Settings.Namespace})).
			WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(
				map[string]string{LabelName: ManagedBy})))
	}
	return in.networkPolicy("-redis", componentRedis, networkingv1ac.NetworkPolicySpec().
		WithPolicyTypes(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress).
		WithIngress(networkingv1ac.NetworkPolicyIngressRule().
			WithFrom(from...).
			WithPorts(policyPort(portRedis))))
}

func (in Input) networkPolicy(suffix, component string, spec *networkingv1ac.NetworkPolicySpecApplyConfiguration) Object {
	return networkingv1ac.NetworkPolicy(in.name(suffix), in.namespace()).
		WithLabels(in.labels(component)).
		WithOwnerReferences(in.owner()).
		WithSpec(spec.WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(in.selector(component))))
}

func policyPort(port int) *networkingv1ac.NetworkPolicyPortApplyConfiguration {
	return networkingv1ac.NetworkPolicyPort().
		WithProtocol(corev1.ProtocolTCP).
		WithPort(intstr.FromInt(port))
}
