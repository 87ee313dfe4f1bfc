package resources

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
)

// ServerDisruptionBudget lets a node be emptied of one chat server at a time. One that
// does not work may always be evicted. A single chat server has no budget: it would keep
// its node from ever being emptied.
func ServerDisruptionBudget(in Input) Object {
	if !severalServers(in) {
		return nil
	}
	return policyv1ac.PodDisruptionBudget(in.name("-server"), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithSpec(policyv1ac.PodDisruptionBudgetSpec().
			WithMaxUnavailable(intstr.FromInt32(1)).
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(in.selector(componentServer))))
}

func severalServers(in Input) bool {
	if a := in.Cluster.Spec.Server.Autoscaling; a != nil {
		return a.MinReplicas > 1
	}
	if n := ServerReplicas(in); n != nil {
		return *n > 1
	}
	live := in.Observed.Server.Spec.Replicas
	return live != nil && *live > 1
}
