package resources

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// ServerAutoscaler lets the number of chat servers follow their CPU use.
func ServerAutoscaler(in Input) Object {
	a := in.Cluster.Spec.Server.Autoscaling
	if a == nil {
		return nil
	}
	return autoscalingv2ac.HorizontalPodAutoscaler(in.name("-server"), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithSpec(autoscalingv2ac.HorizontalPodAutoscalerSpec().
			WithScaleTargetRef(autoscalingv2ac.CrossVersionObjectReference().
				WithAPIVersion("apps/v1").
				WithKind("Deployment").
				WithName(in.name("-server"))).
			WithMinReplicas(a.MinReplicas).
			WithMaxReplicas(a.MaxReplicas).
			WithMetrics(autoscalingv2ac.MetricSpec().
				WithType(autoscalingv2.ResourceMetricSourceType).
				WithResource(autoscalingv2ac.ResourceMetricSource().
					WithName(corev1.ResourceCPU).
					WithTarget(autoscalingv2ac.MetricTarget().
						WithType(autoscalingv2.UtilizationMetricType).
						WithAverageUtilization(a.TargetCPU)))).
			WithBehavior(behavior(a)))
}

// behavior is the user's or, for each direction the user leaves open, what suits
// connections that live for hours: a new pod takes load only as clients come, and each
// pod that goes moves all its clients. So up at once, and down one pod at a time.
func behavior(a *v1alpha1.AutoscalingSpec) *autoscalingv2ac.HorizontalPodAutoscalerBehaviorApplyConfiguration {
	up := autoscalingv2ac.HPAScalingRules().
		WithStabilizationWindowSeconds(0).
		WithSelectPolicy(autoscalingv2.MaxChangePolicySelect).
		WithPolicies(
			autoscalingv2ac.HPAScalingPolicy().WithType(autoscalingv2.PercentScalingPolicy).WithValue(100).WithPeriodSeconds(30),
			autoscalingv2ac.HPAScalingPolicy().WithType(autoscalingv2.PodsScalingPolicy).WithValue(4).WithPeriodSeconds(30))
	down := autoscalingv2ac.HPAScalingRules().
		WithStabilizationWindowSeconds(600).
		WithSelectPolicy(autoscalingv2.MinChangePolicySelect).
		WithPolicies(
			autoscalingv2ac.HPAScalingPolicy().WithType(autoscalingv2.PodsScalingPolicy).WithValue(1).WithPeriodSeconds(120))
	if a.Behavior != nil && a.Behavior.ScaleUp != nil {
		up = converted(a.Behavior.ScaleUp, autoscalingv2ac.HPAScalingRules())
	}
	if a.Behavior != nil && a.Behavior.ScaleDown != nil {
		down = converted(a.Behavior.ScaleDown, autoscalingv2ac.HPAScalingRules())
	}
	return autoscalingv2ac.HorizontalPodAutoscalerBehavior().WithScaleUp(up).WithScaleDown(down)
}
