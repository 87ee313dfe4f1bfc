// Package status tells how a ChatCluster is: each condition is a pure function of the
// spec and of observed children, made anew each time. What was true yesterday plays no part.
package status

import (
	"fmt"

	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
	"github.com/chatcluster/chatcluster/controllers/resources"
)

// Observed are the children that conditions are made from. Nil: there is none.
type Observed struct {
	Server           *appsv1.Deployment
	Redis            *appsv1.StatefulSet
	Certificates     []Certificate
	Autoscaler       *autoscalingv2.HorizontalPodAutoscaler
	Ingress          *networkingv1.Ingress
	HTTPRoute        *gatewayv1.HTTPRoute
	TLSRoute         *gatewayv1.TLSRoute
	BackendTLSPolicy *gatewayv1.BackendTLSPolicy

	// CertManagerMissing: the API server does not know cert-manager's kinds.
	CertManagerMissing bool
	// GatewayKindMissing is a wanted kind of the Gateway API that the API server does
	// not know; "" if there is none.
	GatewayKindMissing string
	// UpdateAvailable: this operator would make pods differently than they are.
	UpdateAvailable bool
	// ServerWaitsFor is what keeps the chat servers from being made; "" if nothing does.
	ServerWaitsFor string
}

// Certificate is a certificate that is wanted.
type Certificate struct {
	Name string
	Live *cmv1.Certificate
}

// Findings are what the operator learned on the way, and no child tells.
type Findings struct {
	// Invalid are sentences about a spec that cannot work.
	Invalid []string
	// Failure is why children could not be written.
	Failure string
	// NameTaken: it is because an object of somebody else has a child's name.
	NameTaken bool
	// UsersMissing is a sentence about the Secret with accounts.
	UsersMissing string
	// RedisNotReloaded is why Redis could not be asked to serve its renewed certificate.
	RedisNotReloaded string
}

// Of is the whole status of a ChatCluster.
func Of(c *v1alpha1.ChatCluster, o Observed, f Findings) v1alpha1.ChatClusterStatus {
	s := v1alpha1.ChatClusterStatus{
		ObservedGeneration: c.Generation,
		URL:                "https://" + c.Spec.Host,
		LineAddress:        lineAddress(c),
		Selector:           selector(c),
		Certificate:        certificate(c, o),
		Conditions:         conditions(c, o, f),
	}
	if o.Server != nil {
		s.Replicas = o.Server.Status.Replicas
		s.ReadyReplicas = o.Server.Status.ReadyReplicas
		s.Version = image(o.Server)
		if why := o.Server.Annotations[resources.AnnotationLastRoll]; why != "" {
			s.LastRoll = &v1alpha1.RollStatus{Reason: why}
		}
	}
	if o.Redis != nil {
		s.Redis = &v1alpha1.RedisStatus{Topology: c.Spec.Redis.Topology, Primary: o.Redis.Name + "-0"}
	}
	return s
}

// IsReady tells whether clients can chat.
func IsReady(s v1alpha1.ChatClusterStatus) bool {
	return meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady)
}

// conditions keep the time of their last change from those there were.
func conditions(c *v1alpha1.ChatCluster, o Observed, f Findings) []metav1.Condition {
	redis := redisReady(o, f)
	certificates := certificatesReady(o)
	routes := routesReady(c, o)
	all := append([]metav1.Condition(nil), c.Status.Conditions...)
	for _, condition := range []metav1.Condition{
		ready(o, f, redis, certificates, routes),
		progressing(c, o),
		degraded(o, f),
		redis,
		certificates,
		routes,
		autoscalingActive(c, o),
		paused(c),
	} {
		condition.ObservedGeneration = c.Generation
		meta.SetStatusCondition(&all, condition)
	}
	return all
}

func condition(kind string, state metav1.ConditionStatus, reason, message string, args ...any) metav1.Condition {
	if len(args) > 0 {
		message = fmt.Sprintf(message, args...)
	}
	return metav1.Condition{Type: kind, Status: state, Reason: reason, Message: message}
}

func lineAddress(c *v1alpha1.ChatCluster) string {
	line := c.Spec.Server.LineProtocol
	if !line.On() {
		return ""
	}
	return fmt.Sprintf("%s:%d", c.Spec.Host, line.Port)
}

func selector(c *v1alpha1.ChatCluster) string {
	return metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: map[string]string{
		resources.LabelName:      "chatcluster",
		resources.LabelInstance:  c.Name,
		resources.LabelComponent: "server",
	}})
}

func certificate(c *v1alpha1.ChatCluster, o Observed) *v1alpha1.CertificateStatus {
	for _, cert := range o.Certificates {
		if cert.Name == c.Name && cert.Live != nil && cert.Live.Status.NotAfter != nil {
			return &v1alpha1.CertificateStatus{NotAfter: *cert.Live.Status.NotAfter}
		}
	}
	return nil
}

func image(d *appsv1.Deployment) string {
	for _, container := range d.Spec.Template.Spec.Containers {
		if container.Name == "chatserver" {
			return container.Image
		}
	}
	return ""
}

func (f Findings) failureReason() string {
	if f.NameTaken {
		return v1alpha1.ReasonNameTaken
	}
	return v1alpha1.ReasonApplyFailed
}
