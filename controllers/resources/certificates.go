package resources

import (
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmv1ac "github.com/cert-manager/cert-manager/pkg/client/applyconfigurations/certmanager/v1"
	cmmetaac "github.com/cert-manager/cert-manager/pkg/client/applyconfigurations/meta/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
)

// The chain: a self-signed Issuer signs the certificate authority of this cluster, whose
// Issuer signs what the edge, the chat servers and Redis show each other, and the public
// certificate too where the spec names no issuer.

// The authority outlives its leaves many times.
const (
	caDuration    = 10 * 365 * 24 * time.Hour
	caRenewBefore = 365 * 24 * time.Hour
)

// SelfSignedIssuer signs the authority and nothing else.
func SelfSignedIssuer(in Input) Object {
	return cmv1ac.Issuer(in.name("-selfsigned"), in.namespace()).
		WithLabels(in.labels("")).
		WithOwnerReferences(in.owner()).
		WithSpec(cmv1ac.IssuerSpec().WithSelfSigned(cmv1ac.SelfSignedIssuer()))
}

// CACertificate is the authority. Its key is kept when it is renewed, so that
// certificates signed before are still trusted after.
func CACertificate(in Input) Object {
	name := in.name("-ca")
	spec := cmv1ac.CertificateSpec().
		WithIsCA(true).
		WithCommonName(name).
		WithSecretName(name).
		WithDuration(metav1.Duration{Duration: caDuration}).
		WithRenewBefore(metav1.Duration{Duration: caRenewBefore}).
		WithPrivateKey(privateKey(cmapi.RotationPolicyNever)).
		WithIssuerRef(issuerRef(in.name("-selfsigned"), "Issuer", "cert-manager.io"))
	return in.certificate(name, spec)
}

// CAIssuer signs with the authority.
func CAIssuer(in Input) Object {
	return cmv1ac.Issuer(in.name("-ca"), in.namespace()).
		WithLabels(in.labels("")).
		WithOwnerReferences(in.owner()).
		WithSpec(cmv1ac.IssuerSpec().WithCA(cmv1ac.CAIssuer().WithSecretName(in.name("-ca"))))
}

// ServerCertificate is what chat servers show to the edge.
func ServerCertificate(in Input) Object {
	return in.leaf(in.name("-server"), in.name("-server-tls"), in.serviceNames("-server")...)
}

// RedisCertificate is what Redis shows to the chat servers: one for all its pods.
func RedisCertificate(in Input) Object {
	service := in.name("-redis") + "." + in.namespace() + ".svc"
	names := append(in.serviceNames("-redis"), "*."+service, "*."+service+".cluster.local")
	return in.leaf(in.name("-redis"), in.name("-redis-tls"), names...)
}

// PublicCertificate is what clients see: at the edge, and on the line protocol.
func PublicCertificate(in Input) Object {
	c := in.leafSpec(in.name("-tls"), in.Cluster.Spec.Host)
	if ref := in.Cluster.Spec.TLS.IssuerRef; ref != nil {
		c.WithIssuerRef(issuerRef(ref.Name, ref.Kind, ref.Group))
	}
	return in.certificate(in.name(""), c)
}

// CertificateSecretOwner makes the Secret of a certificate, which is cert-manager's, go
// with the ChatCluster, and not before its Certificate has gone: cert-manager makes a
// Secret anew whose Certificate is still there, and that one nobody would delete. An
// object with two owners stays until both are gone, so a Certificate deleted by mistake
// takes no key with it. The uid keeps this from making a Secret of that name, should it
// have gone since it was seen.
func CertificateSecretOwner(certificate string, secret func(Observed) *corev1.Secret) func(Input) Object {
	return func(in Input) Object {
		live := secret(in.Observed)
		if live == nil {
			return nil
		}
		owners := []*metav1ac.OwnerReferenceApplyConfiguration{in.owner().WithController(false)}
		if cert := in.Observed.Certificates[certificate]; cert != nil {
			owners = append(owners, metav1ac.OwnerReference().
				WithAPIVersion(cmapi.SchemeGroupVersion.String()).
				WithKind(cmapi.CertificateKind).
				WithName(cert.Name).
				WithUID(cert.UID))
		}
		return corev1ac.Secret(live.Name, live.Namespace).
			WithUID(live.UID).
			WithOwnerReferences(owners...)
	}
}

func (in Input) leaf(name, secret string, dnsNames ...string) Object {
	return in.certificate(name, in.leafSpec(secret, dnsNames...))
}

func (in Input) leafSpec(secret string, dnsNames ...string) *cmv1ac.CertificateSpecApplyConfiguration {
	tls := in.Cluster.Spec.TLS
	return cmv1ac.CertificateSpec().
		WithSecretName(secret).
		WithDNSNames(dnsNames...).
		WithDuration(metav1.Duration{Duration: tls.Duration.Duration}).
		WithRenewBefore(metav1.Duration{Duration: tls.RenewBefore.Duration}).
		WithUsages(cmapi.UsageDigitalSignature, cmapi.UsageServerAuth).
		WithPrivateKey(privateKey(cmapi.RotationPolicyAlways)).
		WithIssuerRef(issuerRef(in.name("-ca"), "Issuer", "cert-manager.io"))
}

// certificate gives the Secret the labels of a child, since the operator sees no other.
func (in Input) certificate(name string, spec *cmv1ac.CertificateSpecApplyConfiguration) Object {
	spec.WithRevisionHistoryLimit(1).
		WithSecretTemplate(cmv1ac.CertificateSecretTemplate().WithLabels(in.labels("")))
	return cmv1ac.Certificate(name, in.namespace()).
		WithLabels(in.labels("")).
		WithOwnerReferences(in.owner()).
		WithSpec(spec)
}

func (in Input) serviceNames(suffix string) []string {
	name, ns := in.name(suffix), in.namespace()
	return []string{
		name + "." + ns + ".svc",
		name + "." + ns + ".svc.cluster.local",
		name + "." + ns,
		name,
	}
}

func privateKey(rotation cmapi.PrivateKeyRotationPolicy) *cmv1ac.CertificatePrivateKeyApplyConfiguration {
	return cmv1ac.CertificatePrivateKey().
		WithAlgorithm(cmapi.ECDSAKeyAlgorithm).
		WithSize(256).
		WithEncoding(cmapi.PKCS8).
		WithRotationPolicy(rotation)
}

func issuerRef(name, kind, group string) *cmmetaac.IssuerReferenceApplyConfiguration {
	return cmmetaac.IssuerReference().WithName(name).WithKind(kind).WithGroup(group)
}
