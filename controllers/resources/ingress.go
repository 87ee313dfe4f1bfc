package resources

import (
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// Ingress is the way in for the web and WebSockets.
func Ingress(in Input) Object {
	spec := ingressSpec(in.Cluster.Spec.Routing)
	if spec == nil {
		return nil
	}
	host := in.Cluster.Spec.Host
	ingress := networkingv1ac.Ingress(in.name(""), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithAnnotations(merged(in.backendTLS(spec.ClassName), spec.Annotations)).
		WithSpec(networkingv1ac.IngressSpec().
			WithTLS(networkingv1ac.IngressTLS().WithHosts(host).WithSecretName(in.name("-tls"))).
			WithRules(networkingv1ac.IngressRule().WithHost(host).WithHTTP(
				networkingv1ac.HTTPIngressRuleValue().WithPaths(networkingv1ac.HTTPIngressPath().
					WithPath("/").
					WithPathType(networkingv1.PathTypePrefix).
					WithBackend(networkingv1ac.IngressBackend().WithService(
						networkingv1ac.IngressServiceBackend().
							WithName(in.name("-server")).
							WithPort(networkingv1ac.ServiceBackendPort().WithName("https"))))))))
	if spec.ClassName != nil {
		ingress.Spec.WithIngressClassName(*spec.ClassName)
	}
	return ingress
}

// ingressSpec is nil where no Ingress is wanted. A spec without routing wants one.
func ingressSpec(r *v1alpha1.RoutingSpec) *v1alpha1.IngressSpec {
	if r == nil {
		return &v1alpha1.IngressSpec{}
	}
	return r.Ingress
}

// backendTLS are the annotations by which controllers learn to speak TLS to the chat
// servers and how to verify them: those of the class, or of every class known here where
// the class is the cluster's default, since each controller reads only its own.
func (in Input) backendTLS(class *string) map[string]string {
	secret := in.name("-server-tls")
	serverName := in.name("-server") + "." + in.namespace() + ".svc"
	known := map[string]map[string]string{
		"nginx": {
			"nginx.ingress.kubernetes.io/backend-protocol":      "HTTPS",
			"nginx.ingress.kubernetes.io/proxy-ssl-secret":      in.namespace() + "/" + secret,
			"nginx.ingress.kubernetes.io/proxy-ssl-name":        serverName,
			"nginx.ingress.kubernetes.io/proxy-ssl-server-name": "on",
			"nginx.ingress.kubernetes.io/proxy-ssl-verify":      "on",
			// Connections live for hours; the servers' pings keep them from being idle.
			"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
			"nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
		},
		"local": {
			"local.chatcluster.dev/backend-protocol":    "HTTPS",
			"local.chatcluster.dev/backend-ca-secret":   secret,
			"local.chatcluster.dev/backend-server-name": serverName,
		},
	}
	if class != nil {
		return known[*class]
	}
	return merged(known["nginx"], known["local"])
}
