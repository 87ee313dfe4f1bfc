package resources

import (
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayac "sigs.k8s.io/gateway-api/applyconfiguration/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// HTTPRoute is the way in for the web and WebSockets through a Gateway. It sets no
// timeouts: they are optional for implementations, and some refuse a route that has them.
func HTTPRoute(in Input) Object {
	parents := webParents(in)
	if len(parents) == 0 {
		return nil
	}
	spec := gatewayac.HTTPRouteSpec().
		WithParentRefs(parentRefs(parents)...).
		WithHostnames(gatewayv1.Hostname(in.Cluster.Spec.Host)).
		WithRules(gatewayac.HTTPRouteRule().WithBackendRefs(
			gatewayac.HTTPBackendRef().WithName(gatewayv1.ObjectName(in.name("-server"))).WithPort(443)))
	return gatewayac.HTTPRoute(in.name(""), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithSpec(spec)
}

// BackendTLSPolicy tells the Gateway to speak TLS to the chat servers, and whom to trust.
func BackendTLSPolicy(in Input) Object {
	if len(webParents(in)) == 0 {
		return nil
	}
	server := in.name("-server")
	return gatewayac.BackendTLSPolicy(server, in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithSpec(gatewayac.BackendTLSPolicySpec().
			WithTargetRefs(gatewayac.LocalPolicyTargetReferenceWithSectionName().
				WithGroup("").WithKind("Service").WithName(gatewayv1.ObjectName(server))).
			WithValidation(gatewayac.BackendTLSPolicyValidation().
				WithHostname(gatewayv1.PreciseHostname(server + "." + in.namespace() + ".svc")).
				WithCACertificateRefs(gatewayac.LocalObjectReference().
					WithGroup("").WithKind("ConfigMap").WithName(gatewayv1.ObjectName(in.name("-ca-bundle"))))))
}

// CABundle is the certificate of the authority that signed for the chat servers, for the
// Gateway to verify them with. It comes from their Secret, not from the authority's: so
// the two fit even while certificates are being issued anew.
func CABundle(in Input) Object {
	if len(webParents(in)) == 0 || in.Observed.ServerTLS == nil {
		return nil
	}
	return corev1ac.ConfigMap(in.name("-ca-bundle"), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithData(map[string]string{"ca.crt": string(in.Observed.ServerTLS.Data["ca.crt"])})
}

// TLSRoute is the way in for the line protocol through a Gateway, which passes TLS on as
// it is: the chat servers hold the public certificate.
func TLSRoute(in Input) Object {
	g := gateway(in)
	if g == nil || len(g.LineParentRefs) == 0 {
		return nil
	}
	spec := gatewayac.TLSRouteSpec().
		WithParentRefs(parentRefs(g.LineParentRefs)...).
		WithHostnames(gatewayv1.Hostname(in.Cluster.Spec.Host)).
		WithRules(gatewayac.TLSRouteRule().WithBackendRefs(
			gatewayac.BackendRef().
				WithName(gatewayv1.ObjectName(in.name("-line"))).
				WithPort(in.Cluster.Spec.Server.LineProtocol.Port)))
	return gatewayac.TLSRoute(in.name("-line"), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithSpec(spec)
}

func gateway(in Input) *v1alpha1.GatewaySpec {
	if in.Cluster.Spec.Routing == nil {
		return nil
	}
	return in.Cluster.Spec.Routing.Gateway
}

func webParents(in Input) []v1alpha1.ParentReference {
	if g := gateway(in); g != nil {
		return g.ParentRefs
	}
	return nil
}

func parentRefs(refs []v1alpha1.ParentReference) []*gatewayac.ParentReferenceApplyConfiguration {
	out := make([]*gatewayac.ParentReferenceApplyConfiguration, 0, len(refs))
	for _, ref := range refs {
		p := gatewayac.ParentReference().WithName(gatewayv1.ObjectName(ref.Name))
		if ref.Namespace != "" {
			p.WithNamespace(gatewayv1.Namespace(ref.Namespace))
		}
		if ref.SectionName != "" {
			p.WithSectionName(gatewayv1.SectionName(ref.SectionName))
		}
		out = append(out, p)
	}
	return out
}
