package status

import (
	"strings"

	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

func redisReady(o Observed, f Findings) metav1.Condition {
	const kind = v1alpha1.ConditionRedisReady
	switch {
	case o.Redis == nil && f.Failure != "":
		return condition(kind, metav1.ConditionFalse, f.failureReason(), "%s", f.Failure)
	case o.Redis == nil:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonCreating, "Redis is not there yet: it waits for its certificate.")
	case o.Redis.Status.ReadyReplicas == 0:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonRedisNotReady,
			"Redis does not answer yet: see kubectl describe pod %s-0.", o.Redis.Name)
	}
	return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonReady, "Redis takes reads and writes.")
}

func certificatesReady(o Observed) metav1.Condition {
	const kind = v1alpha1.ConditionCertificatesReady
	if o.CertManagerMissing {
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonCertManager,
			"cert-manager is not installed: install it (its Helm chart is cert-manager, with crds.enabled=true). The operator goes on by itself then.")
	}
	var waiting []string
	for _, c := range o.Certificates {
		if c.Live == nil {
			waiting = append(waiting, c.Name)
			continue
		}
		if ok, why := issued(c.Live); !ok {
			waiting = append(waiting, c.Name+" ("+why+")")
		}
	}
	if len(waiting) > 0 {
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonNotIssued,
			"Not issued yet: Certificate %s. If this lasts, see kubectl describe certificate, and tls.issuerRef.", strings.Join(waiting, ", "))
	}
	return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonIssued, "All certificates are issued and valid.")
}

func issued(c *cmv1.Certificate) (bool, string) {
	for _, cond := range c.Status.Conditions {
		if cond.Type == cmv1.CertificateConditionReady {
			return cond.Status == cmmeta.ConditionTrue, cond.Message
		}
	}
	return false, "cert-manager has not looked at it; is its controller running?"
}

// routesReady is Unknown while a route's controller has said nothing.
func routesReady(c *v1alpha1.ChatCluster, o Observed) metav1.Condition {
	const kind = v1alpha1.ConditionRoutesReady
	if o.GatewayKindMissing != "" {
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonGatewayAPI,
			"The API server does not know the kind %s: install the Gateway API's standard channel (v1.5 or newer), or route by ingress.", o.GatewayKindMissing)
	}
	var silent []string
	for _, route := range routes(c, o) {
		switch {
		case !route.answered:
			silent = append(silent, route.name)
		case route.refused != "":
			return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonNotAccepted, "%s: %s", route.name, route.refused)
		}
	}
	if len(silent) > 0 {
		return condition(kind, metav1.ConditionUnknown, v1alpha1.ReasonNoAddress,
			"No controller has answered yet for %s: if clients get in, it just does not say so; otherwise check that the class or Gateway exists.", strings.Join(silent, ", "))
	}
	return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "Every route is accepted.")
}

// route is what a route's controller says of it.
type route struct {
	name     string
	answered bool
	// refused is the controller's reason, "" if it accepted.
	refused string
}

func routes(c *v1alpha1.ChatCluster, o Observed) []route {
	var out []route
	asked := c.Spec.Routing
	if asked == nil || asked.Ingress != nil {
		out = append(out, route{name: "Ingress " + c.Name, answered: o.Ingress != nil && len(o.Ingress.Status.LoadBalancer.Ingress) > 0})
	}
	if asked == nil || asked.Gateway == nil {
		return out
	}
	if len(asked.Gateway.ParentRefs) > 0 {
		var parents []gatewayv1.RouteParentStatus
		if o.HTTPRoute != nil {
			parents = o.HTTPRoute.Status.Parents
		}
		out = append(out, routeOf("HTTPRoute "+c.Name, parents))
		if why := refusedPolicy(o.BackendTLSPolicy); why != "" {
			out = append(out, route{name: "BackendTLSPolicy " + o.BackendTLSPolicy.Name, answered: true, refused: why})
		}
	}
	if len(asked.Gateway.LineParentRefs) > 0 {
		var parents []gatewayv1.RouteParentStatus
		if o.TLSRoute != nil {
			parents = o.TLSRoute.Status.Parents
		}
		out = append(out, routeOf("TLSRoute "+c.Name+"-line", parents))
	}
	return out
}

func routeOf(name string, parents []gatewayv1.RouteParentStatus) route {
	r := route{name: name}
	for _, parent := range parents {
		for _, kind := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
			cond := meta.FindStatusCondition(parent.Conditions, string(kind))
			if cond == nil {
				continue
			}
			r.answered = true
			if cond.Status == metav1.ConditionFalse {
				r.refused = "Gateway " + string(parent.ParentRef.Name) + " refuses it: " + cond.Message
			}
		}
	}
	return r
}

// refusedPolicy is why a Gateway does not speak TLS to the chat servers; "" if none says
// so. Not every controller answers for a policy.
func refusedPolicy(p *gatewayv1.BackendTLSPolicy) string {
	if p == nil {
		return ""
	}
	for _, ancestor := range p.Status.Ancestors {
		for _, cond := range ancestor.Conditions {
			if cond.Status == metav1.ConditionFalse && cond.ObservedGeneration == p.Generation &&
				(cond.Type == string(gatewayv1.PolicyConditionAccepted) || cond.Type == string(gatewayv1.BackendTLSPolicyConditionResolvedRefs)) {
				return "Gateway " + string(ancestor.AncestorRef.Name) + " refuses it: " + cond.Message
			}
		}
	}
	return ""
}

func autoscalingActive(c *v1alpha1.ChatCluster, o Observed) metav1.Condition {
	const kind = v1alpha1.ConditionAutoscalingActive
	if c.Spec.Server.Autoscaling == nil {
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonNotAsked, "server.autoscaling is not set.")
	}
	if o.Autoscaler == nil {
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonAutoscalerWaits, "The autoscaler is not there yet.")
	}
	for _, cond := range o.Autoscaler.Status.Conditions {
		if cond.Type != autoscalingv2.ScalingActive {
			continue
		}
		if cond.Status == corev1.ConditionTrue {
			return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonAutoscalerReady, "The number of chat servers follows their CPU use.")
		}
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonMetricsMissing,
			"The autoscaler cannot measure: %s. If this lasts, check that metrics-server is installed (kubectl top pods).", cond.Message)
	}
	return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonAutoscalerWaits, "The autoscaler has not measured yet.")
}
