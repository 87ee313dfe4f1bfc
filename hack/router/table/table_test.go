package table

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/chatcluster/chatcluster/hack/internal/pki"
)

const address = "192.0.2.1"

var ports = Ports{HTTPS: 443, Line: 1222}

func build(o Objects) (*Table, []client.Object) { return Build(o, address, ports) }

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "chat", Name: name, Generation: 1}
}

func service(name, ip string, port int32) corev1.Service {
	return corev1.Service{ObjectMeta: named(name), Spec: corev1.ServiceSpec{
		ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "https", Port: port}},
	}}
}

var authority = func() pki.Pair {
	ca, err := pki.NewCA("test")
	if err != nil {
		panic(err)
	}
	return ca
}()

func certificateFor(secret string, names ...string) corev1.Secret {
	pair, err := authority.Server(names...)
	if err != nil {
		panic(err)
	}
	return corev1.Secret{ObjectMeta: named(secret), Data: map[string][]byte{
		"tls.crt": pair.CertPEM, "tls.key": pair.KeyPEM, "ca.crt": authority.CertPEM,
	}}
}

func ptr[T any](v T) *T { return &v }

// ingress routes a host's path to port 443 of the Service acme-server.
func ingress(name, host, path string, kind networkingv1.PathType) networkingv1.Ingress {
	return networkingv1.Ingress{ObjectMeta: named(name), Spec: networkingv1.IngressSpec{
		IngressClassName: ptr("local"),
		Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: path, PathType: &kind,
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
					Name: name, Port: networkingv1.ServiceBackendPort{Number: 443},
				}},
			}}},
		}}},
	}}
}

func classes() []networkingv1.IngressClass {
	return []networkingv1.IngressClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Spec: networkingv1.IngressClassSpec{Controller: Controller}},
		{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: networkingv1.IngressClassSpec{Controller: "example.com/other"}},
	}
}

func TestRequestsGoToTheMostSpecificPath(t *testing.T) {
	t.Parallel()
	const prefix, exact = networkingv1.PathTypePrefix, networkingv1.PathTypeExact
	table, _ := build(Objects{
		IngressClasses: classes(),
		Ingresses: []networkingv1.Ingress{
			ingress("root", "chat.example.com", "/", prefix),
			ingress("api", "chat.example.com", "/api", prefix),
			ingress("login", "chat.example.com", "/api/login", exact),
			ingress("wild", "*.example.com", "/", prefix),
			ingress("any", "", "/anywhere", prefix),
		},
		Services: []corev1.Service{
			service("root", "10.0.0.1", 443), service("api", "10.0.0.2", 443), service("login", "10.0.0.3", 443),
			service("wild", "10.0.0.4", 443), service("any", "10.0.0.5", 443),
		},
	})
	for _, c := range []struct{ host, path, want string }{
		{"chat.example.com", "/", "10.0.0.1:443"},
		{"CHAT.example.com", "/ws", "10.0.0.1:443"},
		{"chat.example.com", "/apistle", "10.0.0.1:443"},
		{"chat.example.com", "/api", "10.0.0.2:443"},
		{"chat.example.com", "/api/rooms", "10.0.0.2:443"},
		{"chat.example.com", "/api/login", "10.0.0.3:443"},
		{"chat.example.com", "/api/login/x", "10.0.0.2:443"},
		{"other.example.com", "/", "10.0.0.4:443"},
		{"nobody.test", "/anywhere", "10.0.0.5:443"},
		{"nobody.test", "/", ""},
	} {
		backend, problem, ok := table.Route(c.host, c.path)
		if backend.Address != c.want || problem != "" || ok != (c.want != "") {
			t.Errorf("%s%s goes to %q (problem %q), want %q", c.host, c.path, backend.Address, problem, c.want)
		}
	}
}

func TestIngressOfAnotherClassIsLeftAlone(t *testing.T) {
	t.Parallel()
	other := ingress("root", "chat.example.com", "/", networkingv1.PathTypePrefix)
	other.Spec.IngressClassName = ptr("other")
	unset := ingress("root", "chat.example.com", "/", networkingv1.PathTypePrefix)
	unset.Spec.IngressClassName = nil
	table, changed := build(Objects{
		IngressClasses: classes(),
		Ingresses:      []networkingv1.Ingress{other, unset},
		Services:       []corev1.Service{service("root", "10.0.0.1", 443)},
	})
	if _, _, ok := table.Route("chat.example.com", "/"); ok || len(changed) != 0 {
		t.Errorf("routed = %v, statuses written = %d", ok, len(changed))
	}
}

func TestIngressBackendWithTLSIsVerified(t *testing.T) {
	t.Parallel()
	i := ingress("acme", "chat.example.com", "/", networkingv1.PathTypePrefix)
	i.Annotations = map[string]string{BackendProtocol: "HTTPS", BackendCASecret: "ca", BackendServerName: "acme-server.chat.svc"}
	o := Objects{
		IngressClasses: classes(), Ingresses: []networkingv1.Ingress{i},
		Services: []corev1.Service{service("acme", "10.0.0.1", 443)},
		Secrets:  []corev1.Secret{certificateFor("ca", "unused")},
	}
	table, _ := build(o)
	backend, problem, _ := table.Route("chat.example.com", "/")
	want := Backend{Address: "10.0.0.1:443", ServerName: "acme-server.chat.svc", CA: string(authority.CertPEM)}
	if backend != want || problem != "" {
		t.Errorf("backend = %+v, problem %q", backend, problem)
	}

	// Without the CA the request must fail, not go unverified.
	o.Secrets = nil
	table, _ = build(o)
	if _, problem, ok := table.Route("chat.example.com", "/"); !ok || problem == "" {
		t.Errorf("without CA: routed = %v with problem %q", ok, problem)
	}
}

func TestIngressStatusIsWrittenOnce(t *testing.T) {
	t.Parallel()
	o := Objects{IngressClasses: classes(), Ingresses: []networkingv1.Ingress{ingress("a", "a.test", "/", networkingv1.PathTypePrefix)}}
	_, changed := build(o)
	if len(changed) != 1 {
		t.Fatalf("%d statuses to write, want 1", len(changed))
	}
	written := changed[0].(*networkingv1.Ingress)
	if got := written.Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != address {
		t.Errorf("status = %v", got)
	}
	o.Ingresses = []networkingv1.Ingress{*written}
	if _, changed := build(o); len(changed) != 0 {
		t.Errorf("%d statuses to write again", len(changed))
	}
}

func TestCertificatesAreFoundByServerName(t *testing.T) {
	t.Parallel()
	i := ingress("a", "chat.example.com", "/", networkingv1.PathTypePrefix)
	i.Spec.TLS = []networkingv1.IngressTLS{
		{Hosts: []string{"chat.example.com"}, SecretName: "exact"},
		{SecretName: "by-its-names"},
		{SecretName: "not-there"},
	}
	table, _ := build(Objects{
		IngressClasses: classes(), Ingresses: []networkingv1.Ingress{i},
		Secrets: []corev1.Secret{certificateFor("exact", "chat.example.com"), certificateFor("by-its-names", "*.wild.test")},
	})
	for name, want := range map[string]bool{
		"chat.example.com": true, "Chat.Example.Com": true, "x.wild.test": true,
		"y.x.wild.test": false, "wild.test": false, "example.com": false, "": false,
	} {
		if _, ok := table.Certificate(name); ok != want {
			t.Errorf("certificate for %q: %v, want %v", name, ok, want)
		}
	}
}

// gateways has a Gateway as the local cluster has, with a certificate.
func gateways() Objects {
	return Objects{
		GatewayClasses: []gatewayv1.GatewayClass{{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: Controller}}},
		Gateways: []gatewayv1.Gateway{{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "local", Generation: 3}, Spec: gatewayv1.GatewaySpec{
			GatewayClassName: "local",
			Listeners: []gatewayv1.Listener{
				{Name: "https", Port: 443, Protocol: gatewayv1.HTTPSProtocolType,
					TLS:           &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "public"}}},
					AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: ptr(gatewayv1.NamespacesFromAll)}}},
				{Name: "line", Port: 1222, Protocol: gatewayv1.TLSProtocolType,
					TLS:           &gatewayv1.ListenerTLSConfig{Mode: ptr(gatewayv1.TLSModePassthrough)},
					AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: ptr(gatewayv1.NamespacesFromAll)}}},
			},
		}}},
		Secrets: []corev1.Secret{inNamespace("edge", certificateFor("public", "*.example.com"))},
	}
}

func inNamespace(namespace string, s corev1.Secret) corev1.Secret {
	s.Namespace = namespace
	return s
}

func parents() gatewayv1.CommonRouteSpec {
	return gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Namespace: ptr(gatewayv1.Namespace("edge")), Name: "local"}}}
}

func backendRef(name string, port int32) gatewayv1.BackendRef {
	return gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(name), Port: ptr(gatewayv1.PortNumber(port))}}
}

func httpRoute(name string, hosts ...gatewayv1.Hostname) gatewayv1.HTTPRoute {
	return gatewayv1.HTTPRoute{ObjectMeta: named(name), Spec: gatewayv1.HTTPRouteSpec{
		CommonRouteSpec: parents(), Hostnames: hosts,
		Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: backendRef("acme-server", 443)}}}},
	}}
}

// find returns the changed object of that type and name.
func find[T client.Object](t *testing.T, changed []client.Object, name string) T {
	t.Helper()
	for _, o := range changed {
		if found, ok := o.(T); ok && o.GetName() == name {
			return found
		}
	}
	t.Fatalf("no status is written for %s", name)
	panic("unreachable")
}

func expect(t *testing.T, conditions []metav1.Condition, kind string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.Status != status || c.Reason != reason {
		t.Errorf("condition %s = %+v, want %s with reason %s", kind, c, status, reason)
	}
}

func TestRoutesOfAGatewayAreServedAndReported(t *testing.T) {
	t.Parallel()
	o := gateways()
	o.HTTPRoutes = []gatewayv1.HTTPRoute{httpRoute("acme", "chat.example.com")}
	o.TLSRoutes = []gatewayv1.TLSRoute{{ObjectMeta: named("acme-line"), Spec: gatewayv1.TLSRouteSpec{
		CommonRouteSpec: parents(), Hostnames: []gatewayv1.Hostname{"chat.example.com"},
		Rules: []gatewayv1.TLSRouteRule{{BackendRefs: []gatewayv1.BackendRef{backendRef("acme-line", 1222)}}},
	}}}
	o.Policies = []gatewayv1.BackendTLSPolicy{{ObjectMeta: named("acme"), Spec: gatewayv1.BackendTLSPolicySpec{
		TargetRefs: []gatewayv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: "acme-server"}}},
		Validation: gatewayv1.BackendTLSPolicyValidation{
			Hostname:          "acme-server.chat.svc",
			CACertificateRefs: []gatewayv1.LocalObjectReference{{Kind: "ConfigMap", Name: "acme-ca"}},
		},
	}}}
	o.ConfigMaps = []corev1.ConfigMap{{ObjectMeta: named("acme-ca"), Data: map[string]string{"ca.crt": string(authority.CertPEM)}}}
	o.Services = []corev1.Service{service("acme-server", "10.0.0.1", 443), service("acme-line", "10.0.0.2", 1222)}

	table, changed := build(o)
	backend, problem, _ := table.Route("chat.example.com", "/ws")
	if backend.Address != "10.0.0.1:443" || backend.ServerName != "acme-server.chat.svc" || backend.CA == "" || problem != "" {
		t.Errorf("HTTP backend = %+v, problem %q", backend, problem)
	}
	if line, _ := table.Line("chat.example.com"); line.Address != "10.0.0.2:1222" {
		t.Errorf("line backend = %+v", line)
	}
	if _, ok := table.Certificate("chat.example.com"); !ok {
		t.Error("no certificate")
	}

	g := find[*gatewayv1.Gateway](t, changed, "local")
	expect(t, g.Status.Conditions, "Accepted", metav1.ConditionTrue, "Accepted")
	expect(t, g.Status.Conditions, "Programmed", metav1.ConditionTrue, "Programmed")
	if a := g.Status.Addresses; len(a) != 1 || a[0].Value != address {
		t.Errorf("addresses = %v", a)
	}
	for _, l := range g.Status.Listeners {
		expect(t, l.Conditions, "ResolvedRefs", metav1.ConditionTrue, "ResolvedRefs")
		if l.AttachedRoutes != 1 {
			t.Errorf("listener %s has %d routes, want 1", l.Name, l.AttachedRoutes)
		}
	}
	for name, status := range map[string]gatewayv1.RouteStatus{
		"HTTPRoute": find[*gatewayv1.HTTPRoute](t, changed, "acme").Status.RouteStatus,
		"TLSRoute":  find[*gatewayv1.TLSRoute](t, changed, "acme-line").Status.RouteStatus,
	} {
		if len(status.Parents) != 1 {
			t.Fatalf("%s: parents = %v", name, status.Parents)
		}
		expect(t, status.Parents[0].Conditions, "Accepted", metav1.ConditionTrue, "Accepted")
		expect(t, status.Parents[0].Conditions, "ResolvedRefs", metav1.ConditionTrue, "ResolvedRefs")
	}
	policy := find[*gatewayv1.BackendTLSPolicy](t, changed, "acme")
	if len(policy.Status.Ancestors) != 1 {
		t.Fatalf("ancestors = %v", policy.Status.Ancestors)
	}
	expect(t, policy.Status.Ancestors[0].Conditions, "Accepted", metav1.ConditionTrue, "Accepted")

	// What was written is what is wanted: nothing is left to write.
	o.GatewayClasses[0] = *find[*gatewayv1.GatewayClass](t, changed, "local")
	o.Gateways[0], o.Policies[0] = *g, *policy
	o.HTTPRoutes[0] = *find[*gatewayv1.HTTPRoute](t, changed, "acme")
	o.TLSRoutes[0] = *find[*gatewayv1.TLSRoute](t, changed, "acme-line")
	if _, again := build(o); len(again) != 0 {
		t.Errorf("%d statuses to write again: %v", len(again), again)
	}
}

func TestRoutesThatCannotBeServedSayWhy(t *testing.T) {
	t.Parallel()
	elsewhere := gatewayv1.Namespace("elsewhere")
	for name, c := range map[string]struct {
		change    func(*Objects, *gatewayv1.HTTPRoute)
		condition string
		reason    string
	}{
		"no such Service": {func(o *Objects, _ *gatewayv1.HTTPRoute) { o.Services = nil }, "ResolvedRefs", "BackendNotFound"},
		"headless Service": {func(o *Objects, _ *gatewayv1.HTTPRoute) { o.Services[0].Spec.ClusterIP = corev1.ClusterIPNone },
			"ResolvedRefs", "BackendNotFound"},
		"Service elsewhere, not granted": {func(_ *Objects, r *gatewayv1.HTTPRoute) {
			r.Spec.Rules[0].BackendRefs[0].Namespace = &elsewhere
		}, "ResolvedRefs", "RefNotPermitted"},
		"policy without its CA": {func(o *Objects, _ *gatewayv1.HTTPRoute) {
			o.Policies = []gatewayv1.BackendTLSPolicy{{ObjectMeta: named("p"), Spec: gatewayv1.BackendTLSPolicySpec{
				TargetRefs: []gatewayv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: "acme-server"}}},
				Validation: gatewayv1.BackendTLSPolicyValidation{Hostname: "x", CACertificateRefs: []gatewayv1.LocalObjectReference{{Kind: "ConfigMap", Name: "none"}}},
			}}}
		}, "ResolvedRefs", "BackendNotFound"},
		"host of another listener": {func(o *Objects, _ *gatewayv1.HTTPRoute) {
			o.Gateways[0].Spec.Listeners[0].Hostname = ptr(gatewayv1.Hostname("other.test"))
		}, "Accepted", "NoMatchingListenerHostname"},
		"namespace not allowed": {func(o *Objects, _ *gatewayv1.HTTPRoute) { o.Gateways[0].Spec.Listeners[0].AllowedRoutes = nil },
			"Accepted", "NotAllowedByListeners"},
		"no such listener": {func(_ *Objects, r *gatewayv1.HTTPRoute) {
			r.Spec.ParentRefs[0].SectionName = ptr(gatewayv1.SectionName("none"))
		}, "Accepted", "NoMatchingParent"},
		"a timeout": {func(_ *Objects, r *gatewayv1.HTTPRoute) {
			r.Spec.Rules[0].Timeouts = &gatewayv1.HTTPRouteTimeouts{Request: ptr(gatewayv1.Duration("1s"))}
		}, "Accepted", "UnsupportedValue"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := gateways()
			o.Services = []corev1.Service{service("acme-server", "10.0.0.1", 443)}
			route := httpRoute("acme", "chat.example.com")
			c.change(&o, &route)
			o.HTTPRoutes = []gatewayv1.HTTPRoute{route}
			table, changed := build(o)
			status := find[*gatewayv1.HTTPRoute](t, changed, "acme").Status
			expect(t, status.Parents[0].Conditions, c.condition, metav1.ConditionFalse, c.reason)
			if backend, problem, ok := table.Route("chat.example.com", "/"); ok && problem == "" {
				t.Errorf("it is served all the same, by %+v", backend)
			}
		})
	}
}

func TestGrantsOpenOtherNamespaces(t *testing.T) {
	t.Parallel()
	o := gateways()
	chat := gatewayv1.Namespace("chat")
	o.Gateways[0].Spec.Listeners[0].TLS.CertificateRefs = []gatewayv1.SecretObjectReference{{Name: "acme-tls", Namespace: &chat}}
	o.Secrets = []corev1.Secret{certificateFor("acme-tls", "chat.example.com")}

	table, changed := build(o)
	if _, ok := table.Certificate("chat.example.com"); ok {
		t.Error("a Secret of another namespace is used without leave")
	}
	expect(t, find[*gatewayv1.Gateway](t, changed, "local").Status.Listeners[0].Conditions, "ResolvedRefs", metav1.ConditionFalse, "RefNotPermitted")

	o.ReferenceGrants = []gatewayv1beta1.ReferenceGrant{{ObjectMeta: named("g"), Spec: gatewayv1beta1.ReferenceGrantSpec{
		From: []gatewayv1beta1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "edge"}},
		To:   []gatewayv1beta1.ReferenceGrantTo{{Kind: "Secret"}},
	}}}
	table, _ = build(o)
	if _, ok := table.Certificate("chat.example.com"); !ok {
		t.Error("a granted Secret is not used")
	}
}

func TestListenersThatAreNotForThisRouterAreRefused(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]gatewayv1.Listener{
		"plain HTTP": {Name: "l", Port: 80, Protocol: gatewayv1.HTTPProtocolType},
		"other port": {Name: "l", Port: 8443, Protocol: gatewayv1.HTTPSProtocolType},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := gateways()
			o.Gateways[0].Spec.Listeners = []gatewayv1.Listener{l}
			_, changed := build(o)
			g := find[*gatewayv1.Gateway](t, changed, "local")
			expect(t, g.Status.Conditions, "Programmed", metav1.ConditionFalse, "Invalid")
			if c := meta.FindStatusCondition(g.Status.Listeners[0].Conditions, "Accepted"); c.Status != metav1.ConditionFalse {
				t.Errorf("listener is accepted: %+v", c)
			}
		})
	}
}

func TestOlderRouteKeepsAHost(t *testing.T) {
	t.Parallel()
	o := gateways()
	line := func(name, service string, age time.Duration) gatewayv1.TLSRoute {
		r := gatewayv1.TLSRoute{ObjectMeta: named(name), Spec: gatewayv1.TLSRouteSpec{
			CommonRouteSpec: parents(), Hostnames: []gatewayv1.Hostname{"chat.example.com"},
			Rules: []gatewayv1.TLSRouteRule{{BackendRefs: []gatewayv1.BackendRef{backendRef(service, 1222)}}},
		}}
		r.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0).Add(-age))
		return r
	}
	o.TLSRoutes = []gatewayv1.TLSRoute{line("a-new", "new", time.Minute), line("b-old", "old", time.Hour)}
	o.Services = []corev1.Service{service("new", "10.0.0.1", 1222), service("old", "10.0.0.2", 1222)}
	table, _ := build(o)
	if backend, _ := table.Line("chat.example.com"); backend.Address != "10.0.0.2:1222" {
		t.Errorf("it goes to %s", backend.Address)
	}
}

func TestIntersect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listener string
		route    []gatewayv1.Hostname
		want     []string
	}{
		{"", nil, []string{""}},
		{"", []gatewayv1.Hostname{"A.test"}, []string{"a.test"}},
		{"a.test", nil, []string{"a.test"}},
		{"*.test", []gatewayv1.Hostname{"a.test", "b.other"}, []string{"a.test"}},
		{"a.test", []gatewayv1.Hostname{"*.test"}, []string{"a.test"}},
		{"*.test", []gatewayv1.Hostname{"*.a.test"}, []string{"*.a.test"}},
		{"a.test", []gatewayv1.Hostname{"b.test"}, nil},
		{"*.test", []gatewayv1.Hostname{"test"}, nil},
	} {
		var l *gatewayv1.Hostname
		if c.listener != "" {
			l = ptr(gatewayv1.Hostname(c.listener))
		}
		if got := intersect(l, c.route); !slices.Equal(got, c.want) {
			t.Errorf("intersect(%q, %v) = %q, want %q", c.listener, c.route, got, c.want)
		}
	}
}
