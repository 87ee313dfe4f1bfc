package resources

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

const (
	// endpointDelay is how long a leaving pod goes on as before, so that every router
	// has heard that it leaves before it closes its door.
	endpointDelay = 5 * time.Second
	// drainMargin is what a chat server may take beyond the drain window.
	drainMargin = 10 * time.Second
	// minReadySeconds lets a new pod take its share of reconnecting clients before the
	// next old one leaves.
	minReadySeconds = 5
)

// annotationUsers on a pod is the hash of the accounts that it has read.
const annotationUsers = "chatcluster.dev/users"

// Where the container finds its files.
const (
	serverTLSDir   = "/etc/chatserver/tls"
	serverLineDir  = "/etc/chatserver/line-tls"
	serverRedisDir = "/etc/chatserver/redis"
	serverTokenDir = "/etc/chatserver/tokens" //nolint:gosec // a directory, not a token
	serverUsersDir = "/etc/chatserver/users"
)

// ServerDeployment runs the chat servers. It never holds the number of replicas: that is
// written through the scale subresource (see ServerReplicas), so that an autoscaler can
// take it over and give it back without a moment in which it is unset.
func ServerDeployment(in Input) Object {
	rendered := renderServer(in, in.serverImage())
	chosen := chooseTemplate(in.serverAnnotations(), serverInputs(in), rendered)
	return appsv1ac.Deployment(in.name("-server"), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithAnnotations(chosen.annotations).
		WithOwnerReferences(in.owner()).
		WithSpec(appsv1ac.DeploymentSpec().
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(in.selector(componentServer))).
			WithStrategy(appsv1ac.DeploymentStrategy().
				WithType(appsv1.RollingUpdateDeploymentStrategyType).
				WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
					WithMaxUnavailable(intstr.FromInt32(0)).
					WithMaxSurge(intstr.FromString("25%")))).
			WithMinReadySeconds(minReadySeconds).
			WithRevisionHistoryLimit(3).
			WithTemplate(chosen.template))
}

// serverInputs is why chat servers are replaced, in the order in which it is told.
func serverInputs(in Input) []templateInput {
	s := in.Cluster.Spec.Server
	return []templateInput{
		{"server.image", in.serverImage()},
		{"server.resources", s.Resources},
		{"server.auth.registration", s.Auth.Registration},
		{"server.auth.accessTokenTTL", s.Auth.AccessTokenTTL},
		{"server.auth.refreshTokenTTL", s.Auth.RefreshTokenTTL},
		{"server.auth.duplicateLogin", s.Auth.DuplicateLogin},
		{"server.auth.maxSessionsPerUser", s.Auth.MaxSessionsPerUser},
		{"server.auth.loginAttemptsPerHour", s.Auth.LoginAttemptsPerHour},
		{"server.auth.users", usersInput{s.Auth.Users, in.usersHash()}},
		{"server.auth.demoUsers", s.Auth.DemoUsers},
		{"server.limits", s.Limits},
		{"server.history", s.History},
		{"server.allowedOrigins", s.AllowedOrigins},
		{"server.logLevel", s.LogLevel},
		{"server.drain", s.Drain},
		{"server.lineProtocol.enabled", s.LineProtocol.On()},
		{"server.trustedProxies", s.TrustedProxies},
		{"server.podTemplate", s.PodTemplate},
	}
}

// usersInput are the accounts: chat servers read them when they start.
type usersInput struct {
	Source *v1alpha1.UsersSource `json:"source,omitempty"`
	Hash   string                `json:"hash,omitempty"`
}

// usersHash is of the accounts or, while their Secret is missing, of those that the pods
// have: that a Secret was deleted is no reason to replace pods that could not start then.
func (in Input) usersHash() string {
	if !in.Observed.UsersMissing {
		return in.Observed.UsersHash
	}
	last, ok := recordedTemplate(in.serverAnnotations())
	if !ok || last.Template.ObjectMetaApplyConfiguration == nil {
		return ""
	}
	return last.Template.Annotations[annotationUsers]
}

func (in Input) serverImage() string {
	return imageOf(in.Cluster.Spec.Server.Image, in.serverAnnotations(), in.Settings.ServerImage)
}

func (in Input) serverAnnotations() map[string]string {
	if in.Observed.Server == nil {
		return nil
	}
	return in.Observed.Server.Annotations
}

func renderServer(in Input, image string) *corev1ac.PodTemplateSpecApplyConfiguration {
	s := in.Cluster.Spec.Server
	if s.Image != "" {
		image = s.Image
	}
	grace := endpointDelay + s.Drain.Window.Duration + drainMargin
	pod := restrictedPod().
		WithServiceAccountName(in.name("-server")).
		WithTerminationGracePeriodSeconds(int64(grace.Seconds())).
		WithContainers(serverContainer(in, image)).
		WithVolumes(serverVolumes(in)...)
	t := corev1ac.PodTemplateSpec().WithLabels(in.labels(componentServer)).WithSpec(pod)
	if hash := in.usersHash(); hash != "" {
		t.WithAnnotations(map[string]string{annotationUsers: hash})
	}
	return withOverrides(t, s.PodTemplate, in.selector(componentServer))
}

func serverContainer(in Input, image string) *corev1ac.ContainerApplyConfiguration {
	s := in.Cluster.Spec.Server
	c := restrictedContainer("chatserver", image).
		WithArgs(serverArgs(in)...).
		WithPorts(containerPort("https", portHTTPS), containerPort("admin", portAdmin)).
		WithResources(resourceRequirements(s.Resources)).
		WithLivenessProbe(httpProbe("/healthz").WithPeriodSeconds(10).WithTimeoutSeconds(5).WithFailureThreshold(6)).
		WithReadinessProbe(httpProbe("/readyz").WithPeriodSeconds(2).WithTimeoutSeconds(2).WithFailureThreshold(3)).
		WithLifecycle(corev1ac.Lifecycle().WithPreStop(corev1ac.LifecycleHandler().
			WithSleep(corev1ac.SleepAction().WithSeconds(int64(endpointDelay.Seconds()))))).
		WithVolumeMounts(
			readOnlyMount("tls", serverTLSDir),
			readOnlyMount("redis", serverRedisDir),
			readOnlyMount("tokens", serverTokenDir))
	if s.LineProtocol.On() {
		c.WithPorts(containerPort("line", portLine)).WithVolumeMounts(readOnlyMount("line-tls", serverLineDir))
	}
	if s.Auth.Users != nil {
		c.WithVolumeMounts(readOnlyMount("users", serverUsersDir))
	}
	if limit, ok := s.Resources.Limits[corev1.ResourceMemory]; ok {
		// The collector works harder before the kernel would kill.
		c.WithEnv(corev1ac.EnvVar().WithName("GOMEMLIMIT").WithValue(strconv.FormatInt(limit.Value()*9/10, 10)))
	}
	return c
}

func serverArgs(in Input) []string {
	s := in.Cluster.Spec.Server
	args := []string{
		fmt.Sprintf("--listen=:%d", portHTTPS),
		"--line-listen=" + lineListen(s.LineProtocol),
		fmt.Sprintf("--admin-listen=:%d", portAdmin),
		fmt.Sprintf("--redis=rediss://%s-redis.%s.svc:%d", in.Cluster.Name, in.namespace(), portRedis),
		"--redis-username-file=" + serverRedisDir + "/username",
		"--redis-password-file=" + serverRedisDir + "/password",
		"--redis-ca-file=" + serverRedisDir + "/ca.crt",
		"--tls-cert-file=" + serverTLSDir + "/tls.crt",
		"--tls-key-file=" + serverTLSDir + "/tls.key",
		"--token-keys-dir=" + serverTokenDir,
		fmt.Sprintf("--cluster-id=%s/%s", in.namespace(), in.Cluster.Name),
		"--access-token-ttl=" + s.Auth.AccessTokenTTL.String(),
		"--duplicate-login=" + strings.ToLower(string(s.Auth.DuplicateLogin)),
		"--registration=" + strings.ToLower(string(s.Auth.Registration)),
		fmt.Sprintf("--history-count=%d", s.History.Count),
		"--history-age=" + s.History.Age.String(),
		fmt.Sprintf("--max-message-bytes=%d", s.Limits.MaxMessageBytes),
		"--drain-window=" + s.Drain.Window.String(),
	}
	args = appendNumber(args, "--messages-per-10s", s.Limits.MessagesPer10Seconds)
	args = appendNumber(args, "--requests-per-hour", s.Limits.RequestsPerHour)
	args = appendNumber(args, "--max-connections-per-address", s.Limits.ConnectionsPerAddress)
	args = appendNumber(args, "--auth-requests-per-minute", s.Limits.AuthRequestsPerMinute)
	args = appendNumber(args, "--api-requests-per-minute", s.Limits.APIRequestsPerMinute)
	args = appendNumber(args, "--login-attempts-per-hour", s.Auth.LoginAttemptsPerHour)
	args = appendNumber(args, "--max-sessions-per-user", s.Auth.MaxSessionsPerUser)
	if s.Auth.RefreshTokenTTL != nil {
		args = append(args, "--refresh-token-ttl="+s.Auth.RefreshTokenTTL.String())
	}
	if s.LogLevel != "" {
		args = append(args, "--log-level="+strings.ToLower(string(s.LogLevel)))
	}
	if s.LineProtocol.On() {
		args = append(args, "--line-tls-cert-file="+serverLineDir+"/tls.crt", "--line-tls-key-file="+serverLineDir+"/tls.key")
	}
	if s.Auth.Users != nil {
		args = append(args, "--users-file="+serverUsersDir+"/users")
	}
	if s.Auth.DemoUsers {
		args = append(args, "--demo-users")
	}
	if len(s.AllowedOrigins) > 0 {
		args = append(args, "--allowed-origins="+strings.Join(s.AllowedOrigins, ","))
	}
	if len(s.TrustedProxies) > 0 {
		args = append(args, "--trusted-proxies="+strings.Join(s.TrustedProxies, ","))
	}
	return args
}

func lineListen(l v1alpha1.LineProtocolSpec) string {
	if !l.On() {
		return ""
	}
	return fmt.Sprintf(":%d", portLine)
}

// appendNumber leaves a number that is unset to the chat server's own default.
func appendNumber(args []string, flag string, n *int32) []string {
	if n == nil {
		return args
	}
	return append(args, fmt.Sprintf("%s=%d", flag, *n))
}

func serverVolumes(in Input) []*corev1ac.VolumeApplyConfiguration {
	s := in.Cluster.Spec.Server
	volumes := []*corev1ac.VolumeApplyConfiguration{
		secretVolume("tls", in.name("-server-tls")),
		redisAccessVolume(in),
		secretVolume("tokens", in.name("-tokens")),
	}
	if s.LineProtocol.On() {
		volumes = append(volumes, secretVolume("line-tls", in.name("-tls")))
	}
	if s.Auth.Users != nil {
		ref := s.Auth.Users.SecretRef
		volumes = append(volumes, secretVolume("users", ref.Name, item(ref.Key, "users")))
	}
	return volumes
}

// redisAccessVolume holds what a client of Redis needs, and neither Redis' key nor the
// operator's password.
func redisAccessVolume(in Input) *corev1ac.VolumeApplyConfiguration {
	return corev1ac.Volume().WithName("redis").WithProjected(corev1ac.ProjectedVolumeSource().
		WithDefaultMode(0o440).
		WithSources(
			corev1ac.VolumeProjection().WithSecret(corev1ac.SecretProjection().
				WithName(in.name("-redis-auth")).
				WithItems(item(KeyRedisUsername, "username"), item(KeyRedisPassword, "password"))),
			corev1ac.VolumeProjection().WithSecret(corev1ac.SecretProjection().
				WithName(in.name("-redis-tls")).
				WithItems(item("ca.crt", "ca.crt")))))
}
