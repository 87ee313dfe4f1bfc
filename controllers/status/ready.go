package status

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// ready is true when clients can log in and chat: a chat server takes clients, Redis
// works, the certificates are valid, and no route is refused. A route that nobody has
// answered for is no obstacle: not every controller writes an address.
func ready(o Observed, f Findings, redis, certificates, routes metav1.Condition) metav1.Condition {
	const kind = v1alpha1.ConditionReady
	no := func(reason, message string, args ...any) metav1.Condition {
		return condition(kind, metav1.ConditionFalse, reason, message, args...)
	}
	switch {
	case len(f.Invalid) > 0:
		return no(v1alpha1.ReasonInvalidSpec, "%s", strings.Join(f.Invalid, "; "))
	case certificates.Status != metav1.ConditionTrue:
		return no(certificates.Reason, "%s", certificates.Message)
	case redis.Status != metav1.ConditionTrue:
		return no(v1alpha1.ReasonRedisNotReady, "%s", redis.Message)
	case o.Server == nil && f.UsersMissing != "":
		return no(v1alpha1.ReasonUsersMissing, "%s", f.UsersMissing)
	case o.Server == nil && f.Failure != "":
		return no(f.failureReason(), "%s", f.Failure)
	case o.Server == nil:
		return no(v1alpha1.ReasonCreating, "The chat servers are not there yet: they wait for %s.", orElse(o.ServerWaitsFor, "their turn"))
	case wanted(o.Server) == 0:
		return no(v1alpha1.ReasonScaledToZero, "The cluster is scaled to no chat servers: set server.replicas to 1 or more.")
	case o.Server.Status.ReadyReplicas == 0:
		return no(v1alpha1.ReasonNoServers, "None of %d chat servers takes clients: see kubectl describe pods -l %s.", wanted(o.Server), podsOf(o.Server))
	case o.Server.Status.AvailableReplicas == 0:
		// A client that connects now could be refused: Ready would have been a lie.
		return no(v1alpha1.ReasonNoServers, "%d of %d chat servers have only just become ready: the nodes and routers learn of them within %d seconds.",
			o.Server.Status.ReadyReplicas, wanted(o.Server), o.Server.Spec.MinReadySeconds)
	case routes.Status == metav1.ConditionFalse:
		return no(routes.Reason, "%s", routes.Message)
	}
	return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonReady,
		"Clients can chat: %d of %d chat servers take them.", o.Server.Status.ReadyReplicas, wanted(o.Server))
}

// progressing is true while pods are made, replaced, added or taken away.
func progressing(c *v1alpha1.ChatCluster, o Observed) metav1.Condition {
	const kind = v1alpha1.ConditionProgressing
	yes := func(reason, message string, args ...any) metav1.Condition {
		return condition(kind, metav1.ConditionTrue, reason, message, args...)
	}
	switch {
	case c.Spec.Paused:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonPaused, "Nothing is changed while spec.paused is true.")
	case o.Server == nil || o.Redis == nil:
		return yes(v1alpha1.ReasonCreating, "The cluster is being made; it waits for %s.", orElse(o.ServerWaitsFor, "its first pods"))
	case redisRolling(o.Redis):
		return yes(v1alpha1.ReasonRolling, "Redis is being replaced.")
	case rolling(o.Server):
		return yes(v1alpha1.ReasonRolling, "Chat servers are started: %d of %d are new, %d take clients.", o.Server.Status.UpdatedReplicas, wanted(o.Server), o.Server.Status.ReadyReplicas)
	case o.Server.Status.Replicas != wanted(o.Server):
		return yes(v1alpha1.ReasonScaling, "Going from %d to %d chat servers.", o.Server.Status.Replicas, wanted(o.Server))
	case o.UpdateAvailable:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonUpdateAvailable,
			"This operator would make the pods differently (a newer image, or newer settings). They stay as they are until the spec changes: to take the new ones, name an image in server.image or redis.image, or change an annotation in podTemplate.")
	}
	return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonUpToDate, "Everything is as the spec asks.")
}

// degraded is true when a person should look, whether or not clients can chat.
func degraded(o Observed, f Findings) metav1.Condition {
	const kind = v1alpha1.ConditionDegraded
	yes := func(reason, message string, args ...any) metav1.Condition {
		return condition(kind, metav1.ConditionTrue, reason, message, args...)
	}
	switch {
	case len(f.Invalid) > 0:
		return yes(v1alpha1.ReasonInvalidSpec, "%s", strings.Join(f.Invalid, "; "))
	case f.Failure != "":
		return yes(f.failureReason(), "%s", f.Failure)
	case f.UsersMissing != "":
		return yes(v1alpha1.ReasonUsersMissing, "%s", f.UsersMissing)
	case f.RedisNotReloaded != "":
		return yes(v1alpha1.ReasonNotReloaded, "Redis may not serve its newest certificate: %s. It is tried again; if this lasts, look at the operator's way to Redis (NetworkPolicies, DNS).", f.RedisNotReloaded)
	case o.Server != nil && stuck(o.Server):
		return yes(v1alpha1.ReasonRollStuck, "New chat servers do not get ready: see kubectl describe pods -l %s.", podsOf(o.Server))
	case o.Server != nil && !rolling(o.Server) && o.Server.Status.ReadyReplicas < min(wanted(o.Server), o.Server.Status.Replicas):
		return yes(v1alpha1.ReasonServersMissing, "%d of %d chat servers take clients: see kubectl describe pods -l %s.",
			o.Server.Status.ReadyReplicas, wanted(o.Server), podsOf(o.Server))
	}
	return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonRunning, "Nothing needs attention.")
}

func paused(c *v1alpha1.ChatCluster) metav1.Condition {
	if c.Spec.Paused {
		return condition(v1alpha1.ConditionPaused, metav1.ConditionTrue, v1alpha1.ReasonPaused,
			"The operator changes nothing of this cluster: set spec.paused to false to let it.")
	}
	return condition(v1alpha1.ConditionPaused, metav1.ConditionFalse, v1alpha1.ReasonRunning, "The operator tends this cluster.")
}

func wanted(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

// rolling tells whether the newest pods have not all been ready yet. That a pod fails
// later does not make a Deployment roll again.
func rolling(d *appsv1.Deployment) bool {
	if d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas < d.Status.Replicas {
		return true
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing {
			return c.Reason != "NewReplicaSetAvailable"
		}
	}
	return true
}

func redisRolling(s *appsv1.StatefulSet) bool {
	return s.Status.ObservedGeneration < s.Generation ||
		s.Status.UpdateRevision != "" && s.Status.UpdateRevision != s.Status.CurrentRevision
}

func stuck(d *appsv1.Deployment) bool {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing {
			return c.Status == corev1.ConditionFalse
		}
	}
	return false
}

func podsOf(d *appsv1.Deployment) string {
	return metav1.FormatLabelSelector(d.Spec.Selector)
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
