package table

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// listener is a Gateway's listener with what came of it.
type listener struct {
	gatewayv1.Listener
	kind       gatewayv1.Kind // of the routes it takes; empty: it takes none
	attached   int32
	conditions []metav1.Condition
}

// gateway is a Gateway of ours.
type gateway struct {
	*gatewayv1.Gateway
	listeners []*listener
}

func (b *builder) addGateways() {
	var gateways []*gateway
	for _, class := range b.GatewayClasses {
		if class.Spec.ControllerName != Controller {
			continue
		}
		b.acceptClass(&class)
		for _, g := range b.Gateways {
			if string(g.Spec.GatewayClassName) == class.Name {
				gateways = append(gateways, b.openGateway(&g))
			}
		}
	}
	for _, r := range b.HTTPRoutes {
		b.addHTTPRoute(gateways, &r)
	}
	for _, r := range b.TLSRoutes {
		b.addTLSRoute(gateways, &r)
	}
	for _, p := range b.Policies {
		b.judgePolicy(gateways, &p)
	}
	for _, g := range gateways { // last, when the routes are counted
		b.judgeGateway(g)
	}
}

func (b *builder) acceptClass(class *gatewayv1.GatewayClass) {
	changed := class.DeepCopy()
	set(&changed.Status.Conditions, class.Generation, yes("Accepted", "Accepted", "the local router is its controller"))
	if !equality.Semantic.DeepEqual(class.Status, changed.Status) {
		b.changed = append(b.changed, changed)
	}
}

// openGateway decides what each listener takes.
func (b *builder) openGateway(g *gatewayv1.Gateway) *gateway {
	out := &gateway{Gateway: g}
	for _, l := range g.Spec.Listeners {
		open := &listener{Listener: l, conditions: slices.Clone(conditionsOf(g, l.Name))}
		out.listeners = append(out.listeners, open)
		accepted, resolved := yes("Accepted", "Accepted", ""), yes("ResolvedRefs", "ResolvedRefs", "")
		switch {
		case l.Protocol == gatewayv1.HTTPSProtocolType && mode(l) == gatewayv1.TLSModeTerminate:
			open.kind = "HTTPRoute"
			if int32(l.Port) != b.ports.HTTPS {
				accepted = no("Accepted", "PortUnavailable", fmt.Sprintf("the local router terminates TLS on port %d only", b.ports.HTTPS))
			}
			resolved = b.listenerCertificates(g, l)
		case l.Protocol == gatewayv1.TLSProtocolType && mode(l) == gatewayv1.TLSModePassthrough:
			open.kind = "TLSRoute"
			if int32(l.Port) != b.ports.Line {
				accepted = no("Accepted", "PortUnavailable", fmt.Sprintf("the local router passes TLS through on port %d only", b.ports.Line))
			}
		default:
			accepted = no("Accepted", "UnsupportedProtocol", "the local router knows HTTPS with mode Terminate and TLS with mode Passthrough")
		}
		if accepted.Status == metav1.ConditionFalse {
			open.kind = ""
		}
		programmed := yes("Programmed", "Programmed", "")
		if open.kind == "" || resolved.Status == metav1.ConditionFalse {
			programmed = no("Programmed", "Invalid", "see the other conditions")
		}
		set(&open.conditions, g.Generation, accepted, resolved, programmed, no("Conflicted", "NoConflicts", ""))
	}
	return out
}

func mode(l gatewayv1.Listener) gatewayv1.TLSModeType {
	if l.TLS == nil || l.TLS.Mode == nil {
		return gatewayv1.TLSModeTerminate
	}
	return *l.TLS.Mode
}

func (b *builder) listenerCertificates(g *gatewayv1.Gateway, l gatewayv1.Listener) metav1.Condition {
	var hosts []string
	if l.Hostname != nil {
		hosts = []string{string(*l.Hostname)}
	}
	var problems []error
	if l.TLS == nil || len(l.TLS.CertificateRefs) == 0 {
		problems = append(problems, fmt.Errorf("it names no certificate"))
		return no("ResolvedRefs", "InvalidCertificateRef", joinProblems(problems))
	}
	for _, ref := range l.TLS.CertificateRefs {
		secret := types.NamespacedName{Namespace: namespaceOr(ref.Namespace, g.Namespace), Name: string(ref.Name)}
		if !b.granted(reference{"gateway.networking.k8s.io", "Gateway", g.Namespace, "", "Secret", secret}) {
			return no("ResolvedRefs", "RefNotPermitted", fmt.Sprintf("no ReferenceGrant in namespace %s lets Gateways of %s use Secret %s", secret.Namespace, g.Namespace, secret.Name))
		}
		if err := b.addCertificate(secret, hosts); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return no("ResolvedRefs", "InvalidCertificateRef", joinProblems(problems))
	}
	return yes("ResolvedRefs", "ResolvedRefs", "")
}

func (b *builder) judgeGateway(g *gateway) {
	changed := g.DeepCopy()
	address := gatewayv1.IPAddressType
	changed.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &address, Value: b.address}}
	changed.Status.Listeners = nil
	accepted := yes("Accepted", "Accepted", "")
	programmed := yes("Programmed", "Programmed", "")
	for _, l := range g.listeners {
		kinds := []gatewayv1.RouteGroupKind{}
		if l.kind != "" {
			group := gatewayv1.Group(gatewayv1.GroupName)
			kinds = append(kinds, gatewayv1.RouteGroupKind{Group: &group, Kind: l.kind})
		} else {
			accepted = no("Accepted", "ListenersNotValid", "see the conditions of the listeners")
			programmed = no("Programmed", "Invalid", "see the conditions of the listeners")
		}
		changed.Status.Listeners = append(changed.Status.Listeners, gatewayv1.ListenerStatus{
			Name: l.Name, SupportedKinds: kinds, AttachedRoutes: l.attached, Conditions: l.conditions,
		})
	}
	set(&changed.Status.Conditions, g.Generation, accepted, programmed)
	if !equality.Semantic.DeepEqual(g.Status, changed.Status) {
		b.changed = append(b.changed, changed)
	}
}

func conditionsOf(g *gatewayv1.Gateway, name gatewayv1.SectionName) []metav1.Condition {
	for _, l := range g.Status.Listeners {
		if l.Name == name {
			return l.Conditions
		}
	}
	return nil
}

// attach finds the listeners of one parent that take a route, and the hosts that
// it gets there. A condition instead says why there are none.
func (b *builder) attach(gateways []*gateway, parent gatewayv1.ParentReference, namespace string, kind gatewayv1.Kind, hosts []gatewayv1.Hostname) (g *gateway, granted []string, accepted metav1.Condition) {
	if (parent.Group != nil && *parent.Group != gatewayv1.GroupName) || (parent.Kind != nil && *parent.Kind != "Gateway") {
		return nil, nil, metav1.Condition{}
	}
	want := types.NamespacedName{Namespace: namespaceOr(parent.Namespace, namespace), Name: string(parent.Name)}
	for _, candidate := range gateways {
		if candidate.Namespace == want.Namespace && candidate.Name == want.Name {
			g = candidate
		}
	}
	if g == nil {
		return nil, nil, metav1.Condition{} // another controller's
	}
	reason, message := "NoMatchingParent", "the Gateway has no such listener for a "+string(kind)
	for _, l := range g.listeners {
		if l.kind != kind || (parent.SectionName != nil && *parent.SectionName != l.Name) || (parent.Port != nil && *parent.Port != l.Port) {
			continue
		}
		if !b.allows(l, g.Namespace, namespace) {
			reason, message = "NotAllowedByListeners", fmt.Sprintf("listener %s takes no routes from namespace %s", l.Name, namespace)
			continue
		}
		common := intersect(l.Hostname, hosts)
		if len(common) == 0 {
			reason, message = "NoMatchingListenerHostname", fmt.Sprintf("listener %s is for host %s", l.Name, *l.Hostname)
			continue
		}
		l.attached++
		granted = append(granted, common...)
	}
	if len(granted) == 0 {
		return g, nil, no("Accepted", reason, message)
	}
	return g, granted, yes("Accepted", "Accepted", "")
}

func (b *builder) allows(l *listener, gatewayNamespace, routeNamespace string) bool {
	from := gatewayv1.NamespacesFromSame
	var selector *metav1.LabelSelector
	if l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil {
		if f := l.AllowedRoutes.Namespaces.From; f != nil {
			from = *f
		}
		selector = l.AllowedRoutes.Namespaces.Selector
	}
	switch from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return gatewayNamespace == routeNamespace
	case gatewayv1.NamespacesFromSelector:
		s, err := metav1.LabelSelectorAsSelector(selector)
		return err == nil && slices.ContainsFunc(b.Namespaces, func(n corev1.Namespace) bool {
			return n.Name == routeNamespace && s.Matches(labels.Set(n.Labels))
		})
	default:
		return false
	}
}

// intersect gives the hosts of a route that a listener's host covers; a route
// without hosts takes all of the listener's.
func intersect(listener *gatewayv1.Hostname, route []gatewayv1.Hostname) []string {
	if listener == nil || *listener == "" {
		if len(route) == 0 {
			return []string{""}
		}
		return texts(route)
	}
	if len(route) == 0 {
		return []string{string(*listener)}
	}
	var common []string
	for _, r := range texts(route) {
		l := string(*listener)
		switch {
		case r == l || covers(l, r):
			common = append(common, r)
		case covers(r, l):
			common = append(common, l)
		}
	}
	return common
}

// covers tells whether a wildcard stands for a name, or for a narrower wildcard.
func covers(wildcard, name string) bool {
	suffix, ok := strings.CutPrefix(wildcard, "*")
	return ok && strings.HasSuffix(name, suffix) && name != wildcard
}

func texts(hosts []gatewayv1.Hostname) []string {
	var out []string
	for _, h := range hosts {
		out = append(out, strings.ToLower(string(h)))
	}
	return out
}

func namespaceOr(n *gatewayv1.Namespace, or string) string {
	if n == nil {
		return or
	}
	return string(*n)
}

// reference is one object's use of another.
type reference struct {
	fromGroup, fromKind, fromNamespace string
	toGroup, toKind                    string
	to                                 types.NamespacedName
}

// granted tells whether an object may be used from another namespace: the
// namespace it is in must have said so.
func (b *builder) granted(r reference) bool {
	if r.fromNamespace == r.to.Namespace {
		return true
	}
	for _, grant := range b.ReferenceGrants {
		if grant.Namespace != r.to.Namespace {
			continue
		}
		for _, from := range grant.Spec.From {
			if string(from.Group) != r.fromGroup || string(from.Kind) != r.fromKind || string(from.Namespace) != r.fromNamespace {
				continue
			}
			for _, to := range grant.Spec.To {
				if string(to.Group) == r.toGroup && string(to.Kind) == r.toKind && (to.Name == nil || string(*to.Name) == r.to.Name) {
					return true
				}
			}
		}
	}
	return false
}

func yes(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message}
}

func no(kind, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

// set puts conditions in place; those that say what they said before keep their
// time.
func set(conditions *[]metav1.Condition, generation int64, with ...metav1.Condition) {
	*conditions = slices.Clone(*conditions)
	for _, c := range with {
		c.ObservedGeneration = generation
		meta.SetStatusCondition(conditions, c)
	}
}
