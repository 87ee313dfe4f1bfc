package resources

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// ServerService is where the edge sends web and WebSocket clients.
func ServerService(in Input) Object {
	return in.service("-server", componentServer, corev1ac.ServiceSpec().
		WithType(corev1.ServiceTypeClusterIP).
		WithPorts(servicePort("https", 443).WithAppProtocol("https")))
}

// LineService is where clients of the line protocol go.
func LineService(in Input) Object {
	line := in.Cluster.Spec.Server.LineProtocol
	if !line.On() {
		return nil
	}
	service := in.service("-line", componentServer, corev1ac.ServiceSpec().
		WithType(line.Service.Type).
		WithPorts(servicePort("line", line.Port)))
	if len(line.Service.Annotations) > 0 {
		service.WithAnnotations(line.Service.Annotations)
	}
	return service
}

// MetricsService finds every chat server, ready or not: metrics tell most of those that
// are in trouble.
func MetricsService(in Input) Object {
	return in.service("-metrics", componentServer, corev1ac.ServiceSpec().
		WithClusterIP(corev1.ClusterIPNone).
		WithPublishNotReadyAddresses(true).
		WithPorts(servicePort("admin", portAdmin)))
}

// RedisService names the Redis pods. It does so from the moment they have an address:
// a resolver would remember for seconds that there was none.
func RedisService(in Input) Object {
	return in.service("-redis", componentRedis, corev1ac.ServiceSpec().
		WithClusterIP(corev1.ClusterIPNone).
		WithPublishNotReadyAddresses(true).
		WithPorts(servicePort("redis", portRedis)))
}

func (in Input) service(suffix, component string, spec *corev1ac.ServiceSpecApplyConfiguration) *corev1ac.ServiceApplyConfiguration {
	return corev1ac.Service(in.name(suffix), in.namespace()).
		WithLabels(in.labels(component)).
		WithOwnerReferences(in.owner()).
		WithSpec(spec.WithSelector(in.selector(component)))
}

// servicePort leads to the container port of the same name.
func servicePort(name string, port int32) *corev1ac.ServicePortApplyConfiguration {
	return corev1ac.ServicePort().
		WithName(name).
		WithPort(port).
		WithTargetPort(intstr.FromString(name)).
		WithProtocol(corev1.ProtocolTCP)
}
