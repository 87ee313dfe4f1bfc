package table

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
)

// Controller is the name by which classes choose this router.
const Controller = "chatcluster.dev/local-router"

// Ports are those that the router listens on.
type Ports struct {
	HTTPS int32
	Line  int32 // TLS, passed through
}

// Objects are all objects of the cluster that matter here.
type Objects struct {
	IngressClasses  []networkingv1.IngressClass
	Ingresses       []networkingv1.Ingress
	GatewayClasses  []gatewayv1.GatewayClass
	Gateways        []gatewayv1.Gateway
	HTTPRoutes      []gatewayv1.HTTPRoute
	TLSRoutes       []gatewayv1.TLSRoute
	Policies        []gatewayv1.BackendTLSPolicy
	ReferenceGrants []gatewayv1beta1.ReferenceGrant
	Services        []corev1.Service
	Secrets         []corev1.Secret
	ConfigMaps      []corev1.ConfigMap
	Namespaces      []corev1.Namespace
}

// builder gathers the table while it goes through the objects.
type builder struct {
	Objects
	address    string
	ports      Ports
	table      *Table
	services   map[types.NamespacedName]*corev1.Service
	secrets    map[types.NamespacedName]*corev1.Secret
	configMaps map[types.NamespacedName]*corev1.ConfigMap
	changed    []client.Object // with the status they should have
}

// Build makes the table, and copies of those objects whose status is not what it
// should be, with what it should be. address is where clients reach the router.
func Build(o Objects, address string, ports Ports) (*Table, []client.Object) {
	b := &builder{
		Objects: o, address: address, ports: ports,
		table: &Table{
			certificates: map[string]*tls.Certificate{},
			paths:        map[string][]path{},
			lines:        map[string]Backend{},
		},
		services:   byName(o.Services, func(s *corev1.Service) client.Object { return s }),
		secrets:    byName(o.Secrets, func(s *corev1.Secret) client.Object { return s }),
		configMaps: byName(o.ConfigMaps, func(c *corev1.ConfigMap) client.Object { return c }),
	}
	// Of two that want the same host and path the older wins, as Gateway API has it.
	oldestFirst(b.Ingresses, func(i *networkingv1.Ingress) client.Object { return i })
	oldestFirst(b.HTTPRoutes, func(r *gatewayv1.HTTPRoute) client.Object { return r })
	oldestFirst(b.TLSRoutes, func(r *gatewayv1.TLSRoute) client.Object { return r })

	b.addIngresses()
	b.addGateways()
	for host := range b.table.paths {
		slices.SortStableFunc(b.table.paths[host], bySpecificity)
	}
	return b.table, b.changed
}

// bySpecificity puts exact paths before prefixes, and longer ones before
// shorter.
func bySpecificity(a, b path) int {
	if a.exact != b.exact {
		if a.exact {
			return -1
		}
		return 1
	}
	return cmp.Compare(len(b.prefix), len(a.prefix))
}

func byName[T any](items []T, object func(*T) client.Object) map[types.NamespacedName]*T {
	m := make(map[types.NamespacedName]*T, len(items))
	for i := range items {
		m[client.ObjectKeyFromObject(object(&items[i]))] = &items[i]
	}
	return m
}

func oldestFirst[T any](items []T, object func(*T) client.Object) {
	slices.SortStableFunc(items, func(x, y T) int {
		a, b := object(&x), object(&y)
		return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
			cmp.Compare(a.GetNamespace()+"/"+a.GetName(), b.GetNamespace()+"/"+b.GetName()))
	})
}

func (b *builder) addPath(host string, p path) {
	host = strings.ToLower(host)
	b.table.paths[host] = append(b.table.paths[host], p)
}

// addCertificate serves a Secret's certificate for these hosts, or for all those
// that it names itself. The first certificate for a host stays.
func (b *builder) addCertificate(secret types.NamespacedName, hosts []string) error {
	cert, err := b.certificate(secret)
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		hosts = cert.Leaf.DNSNames
	}
	for _, h := range hosts {
		h = strings.ToLower(h)
		if _, taken := b.table.certificates[h]; !taken {
			b.table.certificates[h] = cert
		}
	}
	return nil
}

func (b *builder) certificate(name types.NamespacedName) (*tls.Certificate, error) {
	secret, ok := b.secrets[name]
	if !ok {
		return nil, fmt.Errorf("there is no Secret %s", name)
	}
	cert, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("no certificate can be read from Secret %s: %w", name, err)
	}
	return &cert, nil
}

// backend finds where a Service's port is reached: at its cluster IP, so that it
// stays the same while pods come and go.
func (b *builder) backend(name types.NamespacedName, match func(corev1.ServicePort) bool) (Backend, corev1.ServicePort, error) {
	service, ok := b.services[name]
	if !ok {
		return Backend{}, corev1.ServicePort{}, fmt.Errorf("there is no Service %s", name)
	}
	if ip := service.Spec.ClusterIP; ip == "" || ip == corev1.ClusterIPNone {
		return Backend{}, corev1.ServicePort{}, fmt.Errorf("the Service %s has no cluster IP; this router needs one", name)
	}
	for _, p := range service.Spec.Ports {
		if match(p) {
			return Backend{Address: net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(p.Port)))}, p, nil
		}
	}
	return Backend{}, corev1.ServicePort{}, fmt.Errorf("the Service %s has no such port", name)
}

// caFrom takes a CA's certificates from the field ca.crt of a Secret's or
// ConfigMap's data.
func caFrom(what string, data []byte) (string, error) {
	if len(data) == 0 {
		return "", fmt.Errorf("%s has no ca.crt", what)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return "", fmt.Errorf("%s has no certificate in ca.crt", what)
	}
	return string(data), nil
}

const caKey = "ca.crt"

func (b *builder) caOfSecret(name types.NamespacedName) (string, error) {
	secret, ok := b.secrets[name]
	if !ok {
		return "", fmt.Errorf("there is no Secret %s", name)
	}
	return caFrom("Secret "+name.String(), secret.Data[caKey])
}

func (b *builder) caOfConfigMap(name types.NamespacedName) (string, error) {
	configMap, ok := b.configMaps[name]
	if !ok {
		return "", fmt.Errorf("there is no ConfigMap %s", name)
	}
	return caFrom("ConfigMap "+name.String(), []byte(configMap.Data[caKey]))
}

// joinProblems is the text of several errors, or nothing.
func joinProblems(errs []error) string {
	if err := errors.Join(errs...); err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}
