package resources

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1ac "k8s.io/client-go/applyconfigurations/autoscaling/v1"
)

// defaultReplicas is how many chat servers a new cluster has that does not say.
const defaultReplicas = 2

// ServerReplicas is the number of chat servers to write, or nil to leave it to whoever
// holds it: the autoscaler; or, where the spec names no number, what there is. Nobody
// holds it in a new cluster.
func ServerReplicas(in Input) *int32 {
	server := in.Cluster.Spec.Server
	switch {
	case server.Replicas != nil:
		return server.Replicas
	case scaled(in.Observed.Server):
		return nil
	case server.Autoscaling != nil:
		// The autoscaler would get there too, some time after it has come to measure.
		return &server.Autoscaling.MinReplicas
	}
	n := int32(defaultReplicas)
	return &n
}

// ServerScale is the scale subresource of the chat servers with n replicas.
func ServerScale(in Input, n int32) *autoscalingv1ac.ScaleApplyConfiguration {
	return autoscalingv1ac.Scale().
		WithName(in.name("-server")).
		WithNamespace(in.namespace()).
		WithSpec(autoscalingv1ac.ScaleSpec().WithReplicas(n))
}

// scaled tells whether anybody ever set the number of replicas. A Deployment that was
// just made has the API's default of one, which nobody chose.
func scaled(d *appsv1.Deployment) bool {
	if d == nil {
		return false
	}
	for _, entry := range d.ManagedFields {
		if entry.Subresource == "scale" {
			return true
		}
	}
	return false
}
