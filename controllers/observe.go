package controllers

import (
	"context"
	"fmt"

	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/controllers/resources"
	"github.com/chatcluster/chatcluster/controllers/status"
)

// observation is the live children of a ChatCluster.
type observation struct {
	live map[childKey]client.Object
	// missing are kinds that the API server does not know.
	missing map[schema.GroupVersionKind]bool
}

// childKey names a child within its ChatCluster.
type childKey struct {
	kind   schema.GroupVersionKind
	suffix string
}

// observe reads every child from the cache.
func (p *pass) observe(ctx context.Context) error {
	p.observed = observation{
		live:    make(map[childKey]client.Object, len(resources.Children)),
		missing: map[schema.GroupVersionKind]bool{},
	}
	// All watches are started before the first read waits for its own.
	for _, child := range resources.Children {
		available, err := p.kinds.watch(child.Kind)
		if err != nil {
			return err
		}
		if !available {
			p.observed.missing[child.Kind] = true
		}
	}
	for _, child := range resources.Children {
		if p.observed.missing[child.Kind] {
			continue
		}
		obj, err := p.read(ctx, child)
		if err != nil {
			return err
		}
		if obj != nil {
			p.observed.live[childKey{child.Kind, child.Suffix}] = obj
		}
	}
	return nil
}

// read returns nil if there is no such child.
func (p *pass) read(ctx context.Context, child resources.Child) (client.Object, error) {
	raw, err := p.Client.Scheme().New(child.Kind)
	if err != nil {
		return nil, fmt.Errorf("making a %s: %w", child.Kind.Kind, err)
	}
	obj := raw.(client.Object)
	key := client.ObjectKey{Namespace: p.cluster.Namespace, Name: p.cluster.Name + child.Suffix}
	if err := p.Client.Get(ctx, key, obj); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading %s %s: %w", child.Kind.Kind, key, err)
	}
	if obj.GetLabels()[resources.LabelInstance] != p.cluster.Name {
		// Of another ChatCluster: the public Secret of one named acme-server has the name
		// of the Secret of acme's chat servers.
		return nil, nil
	}
	return obj, nil
}

// find is the live child of type T, or nil.
func find[T any, P interface {
	*T
	client.Object
}](o observation, kind schema.GroupVersionKind, suffix string) P {
	obj, ok := o.live[childKey{kind, suffix}].(P)
	if !ok {
		return nil
	}
	return obj
}

// input is what the children are made from.
func (p *pass) input() resources.Input {
	return resources.Input{
		Cluster:     p.cluster,
		Settings:    p.Settings,
		Credentials: credentialsIn(p.observed.secret("-redis-auth"), p.observed.secret("-tokens")),
		Observed: resources.Observed{
			Server:       find[appsv1.Deployment](p.observed, resources.KindDeployment, "-server"),
			Redis:        find[appsv1.StatefulSet](p.observed, resources.KindStatefulSet, "-redis"),
			Certificates: p.observed.certificates(),
			CA:           p.observed.secret("-ca"),
			PublicTLS:    p.observed.secret("-tls"),
			ServerTLS:    p.observed.secret("-server-tls"),
			RedisTLS:     p.observed.secret("-redis-tls"),
			UsersMissing: p.findings.UsersMissing != "",
			UsersHash:    p.usersHash,
		},
	}
}

// certificateSuffixes are what the names of Certificates have after the ChatCluster's.
var certificateSuffixes = []string{"-ca", "-redis", "-server", ""}

// certificates are by suffix; nil where there is none.
func (o observation) certificates() map[string]*cmv1.Certificate {
	found := make(map[string]*cmv1.Certificate, len(certificateSuffixes))
	for _, suffix := range certificateSuffixes {
		found[suffix] = find[cmv1.Certificate](o, resources.KindCertificate, suffix)
	}
	return found
}

func (o observation) secret(suffix string) *corev1.Secret {
	return find[corev1.Secret](o, resources.KindSecret, suffix)
}

// status is what conditions are made from.
func (o observation) status(in resources.Input) status.Observed {
	s := status.Observed{
		Server:             in.Observed.Server,
		Redis:              in.Observed.Redis,
		Autoscaler:         find[autoscalingv2.HorizontalPodAutoscaler](o, resources.KindAutoscaler, "-server"),
		Ingress:            find[networkingv1.Ingress](o, resources.KindIngress, ""),
		HTTPRoute:          find[gatewayv1.HTTPRoute](o, resources.KindHTTPRoute, ""),
		TLSRoute:           find[gatewayv1.TLSRoute](o, resources.KindTLSRoute, "-line"),
		BackendTLSPolicy:   find[gatewayv1.BackendTLSPolicy](o, resources.KindBackendTLSPolicy, "-server"),
		CertManagerMissing: o.missing[resources.KindCertificate] || o.missing[resources.KindIssuer],
		GatewayKindMissing: missingGatewayKind(o, in),
		UpdateAvailable:    resources.UpdateAvailable(in),
		ServerWaitsFor:     resources.ServerWaits(in),
	}
	for _, suffix := range certificateSuffixes {
		s.Certificates = append(s.Certificates, status.Certificate{
			Name: in.Cluster.Name + suffix,
			Live: in.Observed.Certificates[suffix],
		})
	}
	return s
}

// missingGatewayKind names a kind of the Gateway API that is wanted and not installed.
func missingGatewayKind(o observation, in resources.Input) string {
	for _, child := range resources.Children {
		if child.Kind.Group == gatewayv1.GroupName && o.missing[child.Kind] && child.Build(in) != nil {
			return child.Kind.Kind
		}
	}
	return ""
}
