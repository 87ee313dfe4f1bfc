package status

import (
	"strings"
	"testing"
	"time"

	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

const (
	yes     = metav1.ConditionTrue
	no      = metav1.ConditionFalse
	unknown = metav1.ConditionUnknown
)

// Each case changes one thing of a cluster that is well, and names what that makes of
// one condition.
func TestConditions(t *testing.T) {
	type world struct {
		c *v1alpha1.ChatCluster
		o *Observed
		f *Findings
	}
	for name, test := range map[string]struct {
		change func(w world)
		kind   string
		state  metav1.ConditionStatus
		reason string
		says   string
	}{
		"all is well":      {func(world) {}, "Ready", yes, "Ready", "2 of 2"},
		"all is quiet":     {func(world) {}, "Progressing", no, "UpToDate", ""},
		"nothing is wrong": {func(world) {}, "Degraded", no, "Running", ""},

		"the spec is invalid":              {func(w world) { w.f.Invalid = []string{"host must be a DNS name"} }, "Ready", no, "InvalidSpec", "host must be a DNS name"},
		"an invalid spec needs a person":   {func(w world) { w.f.Invalid = []string{"host must be a DNS name"} }, "Degraded", yes, "InvalidSpec", "host must be a DNS name"},
		"a name is taken":                  {func(w world) { w.f.Failure, w.f.NameTaken = "Service x exists", true }, "Degraded", yes, "NameTaken", "Service x exists"},
		"a write fails":                    {func(w world) { w.f.Failure = "quota exceeded" }, "Degraded", yes, "ApplyFailed", "quota"},
		"a write fails while clients chat": {func(w world) { w.f.Failure = "quota exceeded" }, "Ready", yes, "Ready", ""},

		"no cert-manager":                        {func(w world) { w.o.CertManagerMissing = true }, "CertificatesReady", no, "CertManagerMissing", "install it"},
		"Ready names the cause, not the symptom": {func(w world) { w.o.CertManagerMissing, w.o.Redis, w.o.Server = true, nil, nil }, "Ready", no, "CertManagerMissing", "install it"},
		"a certificate is missing":               {func(w world) { w.o.Certificates[1].Live = nil }, "CertificatesReady", no, "NotIssued", "acme-redis"},
		"a certificate is refused":               {func(w world) { w.o.Certificates[0].Live = certificateWith(cmmeta.ConditionFalse, "no such issuer") }, "CertificatesReady", no, "NotIssued", "no such issuer"},
		"cert-manager sleeps":                    {func(w world) { w.o.Certificates[0].Live = &cmv1.Certificate{} }, "CertificatesReady", no, "NotIssued", "is its controller running"},

		"Redis is not made yet": {func(w world) { w.o.Redis = nil }, "RedisReady", no, "Creating", "certificate"},
		"Redis does not answer": {func(w world) { w.o.Redis.Status.ReadyReplicas = 0 }, "RedisReady", no, "RedisNotReady", "kubectl describe pod acme-redis-0"},
		"the Gateway refuses to speak TLS inside": {func(w world) {
			byGateway(w.c)
			w.o.HTTPRoute = routeWith(yes, "")
			w.o.BackendTLSPolicy = policyWith(no, "no such ConfigMap")
		}, "Ready", no, "NotAccepted", "no such ConfigMap"},
		"the Gateway speaks TLS inside": {func(w world) {
			byGateway(w.c)
			w.o.HTTPRoute = routeWith(yes, "")
			w.o.BackendTLSPolicy = policyWith(yes, "")
		}, "RoutesReady", yes, "Accepted", ""},
		"without Redis nobody chats":      {func(w world) { w.o.Redis.Status.ReadyReplicas = 0 }, "Ready", no, "RedisNotReady", "acme-redis-0"},
		"Redis is replaced":               {func(w world) { w.o.Redis.Status.UpdateRevision = "2" }, "Progressing", yes, "Rolling", "Redis"},
		"Redis keeps its old certificate": {func(w world) { w.f.RedisNotReloaded = "connection refused" }, "Degraded", yes, "CertificateNotReloaded", "connection refused"},

		"no chat server is made yet":         {func(w world) { w.o.Server, w.o.ServerWaitsFor = nil, "the public certificate" }, "Ready", no, "Creating", "the public certificate"},
		"the accounts are missing":           {func(w world) { w.o.Server, w.f.UsersMissing = nil, "Secret people has no key" }, "Ready", no, "UsersSecretMissing", "people"},
		"no chat server works":               {func(w world) { w.o.Server.Status.ReadyReplicas = 0 }, "Ready", no, "NoServers", "kubectl describe pods -l app=x"},
		"none is known everywhere yet":       {func(w world) { w.o.Server.Status.AvailableReplicas = 0 }, "Ready", no, "NoServers", "only just become ready"},
		"one chat server fails":              {func(w world) { w.o.Server.Status.ReadyReplicas = 1 }, "Degraded", yes, "ServersMissing", "1 of 2"},
		"one chat server is enough":          {func(w world) { w.o.Server.Status.ReadyReplicas = 1 }, "Ready", yes, "Ready", "1 of 2"},
		"scaled to none":                     {func(w world) { w.o.Server.Spec.Replicas = new(int32) }, "Ready", no, "ScaledToZero", "server.replicas"},
		"chat servers are replaced":          {func(w world) { w.o.Server.Status.UpdatedReplicas = 1 }, "Progressing", yes, "Rolling", "1 of 2"},
		"the first ones start":               {func(w world) { w.o.Server.Status.ReadyReplicas = 1; w.o.Server.Status.Conditions = nil }, "Progressing", yes, "Rolling", "1 take clients"},
		"starting ones are not missing ones": {func(w world) { w.o.Server.Status.ReadyReplicas = 1; w.o.Server.Status.Conditions = nil }, "Degraded", no, "Running", ""},
		"a change is not seen yet":           {func(w world) { w.o.Server.Generation = 2 }, "Progressing", yes, "Rolling", ""},
		"chat servers are added":             {func(w world) { *w.o.Server.Spec.Replicas = 5 }, "Progressing", yes, "Scaling", "from 2 to 5"},
		"added ones are not missing ones":    {func(w world) { *w.o.Server.Spec.Replicas = 5 }, "Degraded", no, "Running", ""},
		"new ones do not get ready": {func(w world) {
			w.o.Server.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse}}
		}, "Degraded", yes, "RollStuck", "kubectl describe pods"},
		"a newer image is known": {func(w world) { w.o.UpdateAvailable = true }, "Progressing", no, "UpdateAvailable", "server.image"},

		"the Ingress has an address":         {func(world) {}, "RoutesReady", yes, "Accepted", ""},
		"the Ingress has none":               {func(w world) { w.o.Ingress.Status = networkingv1.IngressStatus{} }, "RoutesReady", unknown, "NoAddress", "Ingress acme"},
		"a silent controller is no obstacle": {func(w world) { w.o.Ingress.Status = networkingv1.IngressStatus{} }, "Ready", yes, "Ready", ""},
		"no Gateway API":                     {func(w world) { w.o.GatewayKindMissing = "HTTPRoute" }, "RoutesReady", no, "GatewayAPIMissing", "HTTPRoute"},
		"a Gateway says nothing":             {func(w world) { byGateway(w.c) }, "RoutesReady", unknown, "NoAddress", "HTTPRoute acme"},
		"a Gateway accepts":                  {func(w world) { byGateway(w.c); w.o.HTTPRoute = routeWith(yes, "") }, "RoutesReady", yes, "Accepted", ""},
		"a Gateway refuses":                  {func(w world) { byGateway(w.c); w.o.HTTPRoute = routeWith(no, "hostname does not match") }, "RoutesReady", no, "NotAccepted", "hostname does not match"},
		"a refused route is no way in":       {func(w world) { byGateway(w.c); w.o.HTTPRoute = routeWith(no, "hostname does not match") }, "Ready", no, "NotAccepted", "hostname"},

		"nobody asked for autoscaling":  {func(world) {}, "AutoscalingActive", no, "NotAsked", ""},
		"the autoscaler works":          {func(w world) { autoscaled(w.c); w.o.Autoscaler = autoscalerWith(corev1.ConditionTrue, "") }, "AutoscalingActive", yes, "AutoscalerReady", ""},
		"the autoscaler has no metrics": {func(w world) { autoscaled(w.c); w.o.Autoscaler = autoscalerWith(corev1.ConditionFalse, "no metrics") }, "AutoscalingActive", no, "MetricsMissing", "metrics-server"},
		"the autoscaler is new":         {func(w world) { autoscaled(w.c); w.o.Autoscaler = &autoscalingv2.HorizontalPodAutoscaler{} }, "AutoscalingActive", no, "AutoscalerStarting", ""},

		"paused":                      {func(w world) { w.c.Spec.Paused = true }, "Paused", yes, "Paused", "spec.paused"},
		"paused clusters still chat":  {func(w world) { w.c.Spec.Paused = true }, "Ready", yes, "Ready", ""},
		"paused clusters do not move": {func(w world) { w.c.Spec.Paused = true }, "Progressing", no, "Paused", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, o := well()
			var f Findings
			test.change(world{c, &o, &f})
			s := Of(c, o, f)
			got := meta.FindStatusCondition(s.Conditions, test.kind)
			if got == nil {
				t.Fatalf("there is no condition %s", test.kind)
			}
			if got.Status != test.state || got.Reason != test.reason || !strings.Contains(got.Message, test.says) {
				t.Errorf("%s is %s, %s: %s", test.kind, got.Status, got.Reason, got.Message)
			}
			for _, cond := range s.Conditions {
				if cond.ObservedGeneration != c.Generation || cond.Reason == "" || cond.Message == "" {
					t.Errorf("condition is incomplete: %+v", cond)
				}
			}
		})
	}
}

func TestAConditionKeepsTheTimeOfItsLastChange(t *testing.T) {
	c, o := well()
	c.Status = Of(c, o, Findings{})
	then := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	for i := range c.Status.Conditions {
		c.Status.Conditions[i].LastTransitionTime = then
	}
	o.Server.Status.ReadyReplicas = 0
	s := Of(c, o, Findings{})
	if at := meta.FindStatusCondition(s.Conditions, "RedisReady").LastTransitionTime; !at.Equal(&then) {
		t.Errorf("RedisReady did not change, and is said to have at %s", at)
	}
	if at := meta.FindStatusCondition(s.Conditions, "Ready").LastTransitionTime; at.Equal(&then) {
		t.Error("Ready changed, and keeps its old time")
	}
}

// well is a cluster with nothing wrong.
func well() (*v1alpha1.ChatCluster, Observed) {
	two := int32(2)
	c := &v1alpha1.ChatCluster{ObjectMeta: metav1.ObjectMeta{Name: "acme", Namespace: "chat", Generation: 3}}
	c.Spec.Host = "chat.example.com"
	return c, Observed{
		Server: &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "acme-server", Generation: 1},
			Spec:       appsv1.DeploymentSpec{Replicas: &two, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}},
			Status:     appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2, Conditions: rolledOut()},
		},
		Redis: &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Name: "acme-redis"},
			Status:     appsv1.StatefulSetStatus{ReadyReplicas: 1, CurrentRevision: "1", UpdateRevision: "1"},
		},
		Certificates: []Certificate{
			{"acme-ca", certificateWith(cmmeta.ConditionTrue, "")},
			{"acme-redis", certificateWith(cmmeta.ConditionTrue, "")},
		},
		Ingress: &networkingv1.Ingress{Status: networkingv1.IngressStatus{
			LoadBalancer: networkingv1.IngressLoadBalancerStatus{Ingress: []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}},
		}},
	}
}

func rolledOut() []appsv1.DeploymentCondition {
	return []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"}}
}

func certificateWith(state cmmeta.ConditionStatus, message string) *cmv1.Certificate {
	return &cmv1.Certificate{Status: cmv1.CertificateStatus{Conditions: []cmv1.CertificateCondition{
		{Type: cmv1.CertificateConditionReady, Status: state, Message: message},
	}}}
}

func byGateway(c *v1alpha1.ChatCluster) {
	c.Spec.Routing = &v1alpha1.RoutingSpec{Gateway: &v1alpha1.GatewaySpec{ParentRefs: []v1alpha1.ParentReference{{Name: "web"}}}}
}

func routeWith(state metav1.ConditionStatus, message string) *gatewayv1.HTTPRoute {
	r := &gatewayv1.HTTPRoute{}
	r.Status.Parents = []gatewayv1.RouteParentStatus{{
		ParentRef:  gatewayv1.ParentReference{Name: "web"},
		Conditions: []metav1.Condition{{Type: string(gatewayv1.RouteConditionAccepted), Status: state, Message: message}},
	}}
	return r
}

func autoscaled(c *v1alpha1.ChatCluster) { c.Spec.Server.Autoscaling = &v1alpha1.AutoscalingSpec{} }

func autoscalerWith(state corev1.ConditionStatus, message string) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{Status: autoscalingv2.HorizontalPodAutoscalerStatus{
		Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: state, Message: message}},
	}}
}

func policyWith(state metav1.ConditionStatus, message string) *gatewayv1.BackendTLSPolicy {
	return &gatewayv1.BackendTLSPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "acme-server"},
		Status: gatewayv1.PolicyStatus{Ancestors: []gatewayv1.PolicyAncestorStatus{{
			AncestorRef: gatewayv1.ParentReference{Name: "edge"},
			Conditions:  []metav1.Condition{{Type: "Accepted", Status: state, Message: message}},
		}}},
	}
}
