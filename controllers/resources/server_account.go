package resources

import corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

// ServerServiceAccount is the identity of the chat servers. It has no rights, and its
// token is not mounted.
func ServerServiceAccount(in Input) Object {
	return corev1ac.ServiceAccount(in.name("-server"), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithAutomountServiceAccountToken(false)
}
