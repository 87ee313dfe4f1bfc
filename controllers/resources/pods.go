package resources

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// restrictedPod is a pod that meets the restricted Pod Security Standard and holds no
// token for the Kubernetes API.
func restrictedPod() *corev1ac.PodSpecApplyConfiguration {
	return corev1ac.PodSpec().
		WithAutomountServiceAccountToken(false).
		WithEnableServiceLinks(false).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).
			WithRunAsUser(runAs).
			WithRunAsGroup(runAs).
			WithFSGroup(runAs).
			WithFSGroupChangePolicy(corev1.FSGroupChangeOnRootMismatch).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault)))
}

func restrictedContainer(name, image string) *corev1ac.ContainerApplyConfiguration {
	return corev1ac.Container().
		WithName(name).
		WithImage(image).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).
			WithReadOnlyRootFilesystem(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL")))
}

func resourceRequirements(r corev1.ResourceRequirements) *corev1ac.ResourceRequirementsApplyConfiguration {
	out := corev1ac.ResourceRequirements()
	if len(r.Requests) > 0 {
		out.WithRequests(r.Requests)
	}
	if len(r.Limits) > 0 {
		out.WithLimits(r.Limits)
	}
	for _, claim := range r.Claims {
		c := corev1ac.ResourceClaim().WithName(claim.Name)
		if claim.Request != "" {
			c.WithRequest(claim.Request)
		}
		out.WithClaims(c)
	}
	return out
}

// secretVolume mounts a Secret, or of it only the items given as key or key=path.
func secretVolume(name, secret string, items ...*corev1ac.KeyToPathApplyConfiguration) *corev1ac.VolumeApplyConfiguration {
	return corev1ac.Volume().WithName(name).WithSecret(
		corev1ac.SecretVolumeSource().
			WithSecretName(secret).
			WithDefaultMode(0o440).
			WithItems(items...))
}

func item(key, path string) *corev1ac.KeyToPathApplyConfiguration {
	return corev1ac.KeyToPath().WithKey(key).WithPath(path)
}

func readOnlyMount(name, path string) *corev1ac.VolumeMountApplyConfiguration {
	return corev1ac.VolumeMount().WithName(name).WithMountPath(path).WithReadOnly(true)
}

// withOverrides lays a user's additions over a pod template.
func withOverrides(t *corev1ac.PodTemplateSpecApplyConfiguration, o v1alpha1.PodTemplateSpec, selector map[string]string) *corev1ac.PodTemplateSpecApplyConfiguration {
	if len(o.Labels) > 0 {
		t.WithLabels(o.Labels)
	}
	if len(o.Annotations) > 0 {
		t.WithAnnotations(o.Annotations)
	}
	pod := t.Spec
	if len(o.NodeSelector) > 0 {
		pod.WithNodeSelector(o.NodeSelector)
	}
	if o.PriorityClassName != "" {
		pod.WithPriorityClassName(o.PriorityClassName)
	}
	for _, s := range o.ImagePullSecrets {
		pod.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(s.Name))
	}
	for i := range o.Tolerations {
		pod.WithTolerations(converted(o.Tolerations[i], corev1ac.Toleration()))
	}
	if o.Affinity != nil {
		pod.WithAffinity(converted(o.Affinity, corev1ac.Affinity()))
	}
	pod.WithTopologySpreadConstraints(spread(o.TopologySpreadConstraints, selector)...)
	return t
}

// spread is over nodes and zones as well as is possible, where the user says nothing.
func spread(asked []corev1.TopologySpreadConstraint, selector map[string]string) []*corev1ac.TopologySpreadConstraintApplyConfiguration {
	var out []*corev1ac.TopologySpreadConstraintApplyConfiguration
	if len(asked) == 0 {
		for _, key := range []string{corev1.LabelHostname, corev1.LabelTopologyZone} {
			out = append(out, corev1ac.TopologySpreadConstraint().
				WithMaxSkew(1).
				WithTopologyKey(key).
				WithWhenUnsatisfiable(corev1.ScheduleAnyway).
				WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(selector)))
		}
		return out
	}
	for _, constraint := range asked {
		if constraint.LabelSelector == nil {
			constraint.LabelSelector = &metav1.LabelSelector{MatchLabels: selector}
		}
		out = append(out, converted(constraint, corev1ac.TopologySpreadConstraint()))
	}
	return out
}

// converted is an API value as its apply configuration, whose JSON is the same.
func converted[T any](from any, into *T) *T {
	mustParse(mustJSON(from), into)
	return into
}

func httpProbe(path string) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().WithHTTPGet(corev1ac.HTTPGetAction().
		WithPath(path).
		WithPort(intstr.FromString("admin")))
}

func containerPort(name string, port int32) *corev1ac.ContainerPortApplyConfiguration {
	return corev1ac.ContainerPort().
		WithName(name).
		WithContainerPort(port).
		WithProtocol(corev1.ProtocolTCP)
}
