package table

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// Annotations of an Ingress with which it asks for TLS to its backends, which
// the Ingress API itself has no words for.
const (
	BackendProtocol   = "local.chatcluster.dev/backend-protocol"    // HTTP (the default) or HTTPS
	BackendCASecret   = "local.chatcluster.dev/backend-ca-secret"   // a Secret with ca.crt, in the same namespace
	BackendServerName = "local.chatcluster.dev/backend-server-name" // the name that must be in the backend's certificate
)

func (b *builder) addIngresses() {
	ours := map[string]bool{}
	for _, c := range b.IngressClasses {
		if c.Spec.Controller == Controller {
			ours[c.Name] = true
		}
	}
	for _, i := range b.Ingresses {
		if i.Spec.IngressClassName != nil && ours[*i.Spec.IngressClassName] {
			b.addIngress(&i)
		}
	}
}

func (b *builder) addIngress(i *networkingv1.Ingress) {
	for _, t := range i.Spec.TLS {
		// A Secret that is not there (yet) leaves its hosts without a
		// certificate; an Ingress has no place to say so.
		_ = b.addCertificate(types.NamespacedName{Namespace: i.Namespace, Name: t.SecretName}, t.Hosts)
	}
	if i.Spec.DefaultBackend != nil {
		b.addPath("", b.ingressPath(i, "/", false, *i.Spec.DefaultBackend))
	}
	for _, r := range i.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			exact := p.PathType != nil && *p.PathType == networkingv1.PathTypeExact
			b.addPath(r.Host, b.ingressPath(i, p.Path, exact, p.Backend))
		}
	}
	want := networkingv1.IngressLoadBalancerStatus{Ingress: []networkingv1.IngressLoadBalancerIngress{{IP: b.address}}}
	if !equality.Semantic.DeepEqual(i.Status.LoadBalancer, want) {
		changed := i.DeepCopy()
		changed.Status.LoadBalancer = want
		b.changed = append(b.changed, changed)
	}
}

func (b *builder) ingressPath(i *networkingv1.Ingress, prefix string, exact bool, to networkingv1.IngressBackend) path {
	p := path{prefix: prefix, exact: exact}
	backend, err := b.ingressBackend(i, to)
	if err != nil {
		p.problem = err.Error()
	}
	p.backend = backend
	return p
}

func (b *builder) ingressBackend(i *networkingv1.Ingress, to networkingv1.IngressBackend) (Backend, error) {
	if to.Service == nil {
		return Backend{}, fmt.Errorf("the backend is no Service")
	}
	port := to.Service.Port
	backend, _, err := b.backend(types.NamespacedName{Namespace: i.Namespace, Name: to.Service.Name}, func(p corev1.ServicePort) bool {
		return (port.Name != "" && p.Name == port.Name) || (port.Name == "" && p.Port == port.Number)
	})
	if err != nil {
		return Backend{}, err
	}
	switch protocol := i.Annotations[BackendProtocol]; protocol {
	case "", "HTTP":
		return backend, nil
	case "HTTPS":
		backend.ServerName = i.Annotations[BackendServerName]
		if backend.ServerName == "" {
			return Backend{}, fmt.Errorf("annotation %s is needed too, to verify the backend", BackendServerName)
		}
		backend.CA, err = b.caOfSecret(types.NamespacedName{Namespace: i.Namespace, Name: i.Annotations[BackendCASecret]})
		return backend, err
	default:
		return Backend{}, fmt.Errorf("annotation %s is %q, which is neither HTTP nor HTTPS", BackendProtocol, protocol)
	}
}
