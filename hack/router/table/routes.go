package table

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func (b *builder) addHTTPRoute(gateways []*gateway, r *gatewayv1.HTTPRoute) {
	paths, resolved, unsupported := b.httpPaths(r)
	parents := b.judgeRoute(gateways, "HTTPRoute", r.Namespace, r.Generation, r.Spec.CommonRouteSpec, r.Spec.Hostnames, r.Status.RouteStatus,
		resolved, unsupported, func(host string) {
			for _, p := range paths {
				b.addPath(host, p)
			}
		})
	changed := r.DeepCopy()
	changed.Status.Parents = parents
	if !equality.Semantic.DeepEqual(r.Status, changed.Status) {
		b.changed = append(b.changed, changed)
	}
}

func (b *builder) addTLSRoute(gateways []*gateway, r *gatewayv1.TLSRoute) {
	resolved := yes("ResolvedRefs", "ResolvedRefs", "")
	var unsupported error
	var backend Backend
	if len(r.Spec.Rules) != 1 || len(r.Spec.Rules[0].BackendRefs) != 1 {
		unsupported = errors.New("the local router takes one rule with one backend")
	} else {
		backend, resolved = b.routeBackend("TLSRoute", r.Namespace, r.Spec.Rules[0].BackendRefs[0])
	}
	parents := b.judgeRoute(gateways, "TLSRoute", r.Namespace, r.Generation, r.Spec.CommonRouteSpec, r.Spec.Hostnames, r.Status.RouteStatus,
		resolved, unsupported, func(host string) {
			if _, taken := b.table.lines[host]; !taken && backend.Address != "" {
				b.table.lines[host] = Backend{Address: backend.Address}
			}
		})
	changed := r.DeepCopy()
	changed.Status.Parents = parents
	if !equality.Semantic.DeepEqual(r.Status, changed.Status) {
		b.changed = append(b.changed, changed)
	}
}

// judgeRoute offers a route to each of its parents. add is called for each host
// that it gets; the result is the parents' part of its status. Parents of other
// controllers keep what those wrote.
func (b *builder) judgeRoute(gateways []*gateway, kind gatewayv1.Kind, namespace string, generation int64, spec gatewayv1.CommonRouteSpec,
	hosts []gatewayv1.Hostname, status gatewayv1.RouteStatus, resolved metav1.Condition, unsupported error, add func(host string),
) []gatewayv1.RouteParentStatus {
	var parents []gatewayv1.RouteParentStatus
	for _, p := range status.Parents {
		if p.ControllerName != Controller {
			parents = append(parents, p)
		}
	}
	for _, ref := range spec.ParentRefs {
		g, granted, accepted := b.attach(gateways, ref, namespace, kind, hosts)
		if g == nil {
			continue
		}
		if unsupported != nil {
			accepted, granted = no("Accepted", "UnsupportedValue", unsupported.Error()), nil
		}
		for _, host := range granted {
			add(host)
		}
		parent := gatewayv1.RouteParentStatus{ParentRef: ref, ControllerName: Controller}
		for _, before := range status.Parents {
			if before.ControllerName == Controller && equality.Semantic.DeepEqual(before.ParentRef, ref) {
				parent.Conditions = before.Conditions
			}
		}
		set(&parent.Conditions, generation, accepted, resolved)
		parents = append(parents, parent)
	}
	return parents
}

// httpPaths reads the rules. What this router cannot do it refuses as a whole,
// rather than do half of it.
func (b *builder) httpPaths(r *gatewayv1.HTTPRoute) (paths []path, resolved metav1.Condition, unsupported error) {
	resolved = yes("ResolvedRefs", "ResolvedRefs", "")
	for _, rule := range r.Spec.Rules {
		if len(rule.Filters) > 0 || rule.Timeouts != nil || rule.Retry != nil || rule.SessionPersistence != nil || len(rule.BackendRefs) != 1 || len(rule.BackendRefs[0].Filters) > 0 {
			return nil, resolved, errors.New("the local router takes rules with one backend, without filters, timeouts, retries and session persistence")
		}
		backend, found := b.routeBackend("HTTPRoute", r.Namespace, rule.BackendRefs[0].BackendRef)
		problem := ""
		if found.Status == metav1.ConditionFalse {
			resolved, problem = found, found.Message
		}
		matches := rule.Matches
		if len(matches) == 0 {
			matches = []gatewayv1.HTTPRouteMatch{{}}
		}
		for _, m := range matches {
			p := path{prefix: "/", backend: backend, problem: problem}
			if len(m.Headers) > 0 || len(m.QueryParams) > 0 || m.Method != nil {
				return nil, resolved, errors.New("the local router matches by path only")
			}
			if m.Path != nil && m.Path.Value != nil {
				p.prefix = *m.Path.Value
			}
			if m.Path != nil && m.Path.Type != nil {
				switch *m.Path.Type {
				case gatewayv1.PathMatchExact:
					p.exact = true
				case gatewayv1.PathMatchPathPrefix:
				default:
					return nil, resolved, fmt.Errorf("the local router does not match paths by %s", *m.Path.Type)
				}
			}
			paths = append(paths, p)
		}
	}
	return paths, resolved, nil
}

// routeBackend finds a backend, and the policy by which to verify it.
func (b *builder) routeBackend(kind, namespace string, ref gatewayv1.BackendRef) (Backend, metav1.Condition) {
	if (ref.Group != nil && *ref.Group != "") || (ref.Kind != nil && *ref.Kind != "Service") || ref.Port == nil {
		return Backend{}, no("ResolvedRefs", "InvalidKind", "the backend is no Service with a port")
	}
	service := types.NamespacedName{Namespace: namespaceOr(ref.Namespace, namespace), Name: string(ref.Name)}
	if !b.granted(reference{gatewayv1.GroupName, kind, namespace, "", "Service", service}) {
		return Backend{}, no("ResolvedRefs", "RefNotPermitted", fmt.Sprintf("no ReferenceGrant in namespace %s lets %ss of %s use Service %s", service.Namespace, kind, namespace, service.Name))
	}
	backend, port, err := b.backend(service, func(p corev1.ServicePort) bool { return p.Port == int32(*ref.Port) })
	if err != nil {
		return Backend{}, no("ResolvedRefs", "BackendNotFound", err.Error())
	}
	policy := b.policyFor(service, port.Name)
	if policy == nil {
		return backend, yes("ResolvedRefs", "ResolvedRefs", "")
	}
	backend.ServerName = string(policy.Spec.Validation.Hostname)
	if backend.CA, err = b.policyCA(policy); err != nil {
		return Backend{}, no("ResolvedRefs", "BackendNotFound", fmt.Sprintf("the BackendTLSPolicy %s for the backend cannot be used: %v", policy.Name, err))
	}
	return backend, yes("ResolvedRefs", "ResolvedRefs", "")
}

// policyFor finds the policy for a Service's port: one that names the port goes
// before one that does not.
func (b *builder) policyFor(service types.NamespacedName, port string) *gatewayv1.BackendTLSPolicy {
	var whole *gatewayv1.BackendTLSPolicy
	for i := range b.Policies {
		p := &b.Policies[i]
		for _, t := range p.Spec.TargetRefs {
			if p.Namespace != service.Namespace || t.Group != "" || t.Kind != "Service" || string(t.Name) != service.Name {
				continue
			}
			if t.SectionName == nil {
				whole = p
			} else if string(*t.SectionName) == port {
				return p
			}
		}
	}
	return whole
}

func (b *builder) policyCA(p *gatewayv1.BackendTLSPolicy) (string, error) {
	if len(p.Spec.Validation.CACertificateRefs) == 0 {
		return "", errors.New("it names no CA; the local router has no others")
	}
	all := ""
	for _, ref := range p.Spec.Validation.CACertificateRefs {
		name := types.NamespacedName{Namespace: p.Namespace, Name: string(ref.Name)}
		var ca string
		var err error
		switch {
		case ref.Group == "" && ref.Kind == "ConfigMap":
			ca, err = b.caOfConfigMap(name)
		case ref.Group == "" && ref.Kind == "Secret":
			ca, err = b.caOfSecret(name)
		default:
			err = fmt.Errorf("a CA in a %s is not supported, only in a ConfigMap or Secret", ref.Kind)
		}
		if err != nil {
			return "", err
		}
		all += ca + "\n"
	}
	return all, nil
}

// judgePolicy writes a policy's status for each Gateway that has a route to its
// target.
func (b *builder) judgePolicy(gateways []*gateway, p *gatewayv1.BackendTLSPolicy) {
	accepted, resolved := yes("Accepted", "Accepted", ""), yes("ResolvedRefs", "ResolvedRefs", "")
	if _, err := b.policyCA(p); err != nil {
		accepted = no("Accepted", "NoValidCACertificate", err.Error())
		resolved = no("ResolvedRefs", "InvalidCACertificateRef", err.Error())
	}
	changed := p.DeepCopy()
	changed.Status.Ancestors = nil
	for _, a := range p.Status.Ancestors {
		if a.ControllerName != Controller {
			changed.Status.Ancestors = append(changed.Status.Ancestors, a)
		}
	}
	for _, g := range gateways {
		if !b.leadsTo(g, p) {
			continue
		}
		group, kind, namespace := gatewayv1.Group(gatewayv1.GroupName), gatewayv1.Kind("Gateway"), gatewayv1.Namespace(g.Namespace)
		ancestor := gatewayv1.PolicyAncestorStatus{
			AncestorRef:    gatewayv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gatewayv1.ObjectName(g.Name)},
			ControllerName: Controller,
		}
		for _, before := range p.Status.Ancestors {
			if before.ControllerName == Controller && equality.Semantic.DeepEqual(before.AncestorRef, ancestor.AncestorRef) {
				ancestor.Conditions = before.Conditions
			}
		}
		set(&ancestor.Conditions, p.Generation, accepted, resolved)
		changed.Status.Ancestors = append(changed.Status.Ancestors, ancestor)
	}
	if !equality.Semantic.DeepEqual(p.Status, changed.Status) {
		b.changed = append(b.changed, changed)
	}
}

// leadsTo tells whether an HTTPRoute of the Gateway has a target of the policy
// for a backend.
func (b *builder) leadsTo(g *gateway, p *gatewayv1.BackendTLSPolicy) bool {
	for _, r := range b.HTTPRoutes {
		for _, ref := range r.Spec.ParentRefs {
			if string(ref.Name) != g.Name || namespaceOr(ref.Namespace, r.Namespace) != g.Namespace {
				continue
			}
			for _, rule := range r.Spec.Rules {
				for _, backend := range rule.BackendRefs {
					if namespaceOr(backend.Namespace, r.Namespace) == p.Namespace && targets(p, string(backend.Name)) {
						return true
					}
				}
			}
		}
	}
	return false
}

func targets(p *gatewayv1.BackendTLSPolicy, service string) bool {
	for _, t := range p.Spec.TargetRefs {
		if t.Group == "" && t.Kind == "Service" && string(t.Name) == service {
			return true
		}
	}
	return false
}
