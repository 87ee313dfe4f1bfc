package resources

import (
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// Where the container finds its files.
const (
	redisDataDir = "/data"
	redisACLDir  = "/etc/redis/acl"
	redisTLSDir  = "/etc/redis/tls"

	// RedisCertFile and RedisKeyFile are what the operator names to Redis when it asks
	// for a renewed certificate to be read.
	RedisCertFile = redisTLSDir + "/tls.crt"
	RedisKeyFile  = redisTLSDir + "/tls.key"
)

// RedisStatefulSet runs one Redis with a persistent volume.
func RedisStatefulSet(in Input) Object {
	r := in.Cluster.Spec.Redis
	rendered := renderRedis(in, in.redisImage())
	chosen := chooseTemplate(in.redisAnnotations(), redisInputs(in), rendered)
	return appsv1ac.StatefulSet(in.name("-redis"), in.namespace()).
		WithLabels(in.labels(componentRedis)).
		WithAnnotations(chosen.annotations).
		WithOwnerReferences(in.owner()).
		WithSpec(appsv1ac.StatefulSetSpec().
			WithReplicas(1).
			WithServiceName(in.name("-redis")).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(in.selector(componentRedis))).
			WithPersistentVolumeClaimRetentionPolicy(appsv1ac.StatefulSetPersistentVolumeClaimRetentionPolicy().
				WithWhenDeleted(appsv1.PersistentVolumeClaimRetentionPolicyType(r.Storage.WhenDeleted)).
				WithWhenScaled(appsv1.RetainPersistentVolumeClaimRetentionPolicyType)).
			WithTemplate(chosen.template).
			WithVolumeClaimTemplates(dataClaim(in, r.Storage)))
}

// redisInputs is why Redis is replaced, in the order in which it is told.
func redisInputs(in Input) []templateInput {
	r := in.Cluster.Spec.Redis
	return []templateInput{
		{"redis.image", in.redisImage()},
		{"redis.resources", r.Resources},
		{"redis.podTemplate", r.PodTemplate},
	}
}

func (in Input) redisImage() string {
	return imageOf(in.Cluster.Spec.Redis.Image, in.redisAnnotations(), in.Settings.RedisImage)
}

func (in Input) redisAnnotations() map[string]string {
	if in.Observed.Redis == nil {
		return nil
	}
	return in.Observed.Redis.Annotations
}

func renderRedis(in Input, image string) *corev1ac.PodTemplateSpecApplyConfiguration {
	r := in.Cluster.Spec.Redis
	if r.Image != "" {
		image = r.Image
	}
	container := restrictedContainer("redis", image).
		WithCommand("redis-server").
		WithArgs(redisArgs(r)...).
		WithPorts(containerPort("redis", portRedis)).
		WithResources(resourceRequirements(r.Resources)).
		WithStartupProbe(redisProbe().WithPeriodSeconds(1).WithTimeoutSeconds(5).WithFailureThreshold(300)).
		WithLivenessProbe(redisProbe().WithPeriodSeconds(10).WithTimeoutSeconds(5).WithFailureThreshold(6)).
		WithReadinessProbe(redisProbe("-e").WithPeriodSeconds(5).WithTimeoutSeconds(5).WithFailureThreshold(2)).
		WithVolumeMounts(
			corev1ac.VolumeMount().WithName("data").WithMountPath(redisDataDir),
			readOnlyMount("acl", redisACLDir),
			readOnlyMount("tls", redisTLSDir))
	pod := restrictedPod().
		// Redis writes its log of commands to disk before it goes.
		WithTerminationGracePeriodSeconds(60).
		WithContainers(container).
		WithVolumes(
			secretVolume("acl", in.name("-redis-auth"), item(keyRedisACL, keyRedisACL)),
			secretVolume("tls", in.name("-redis-tls")))
	t := corev1ac.PodTemplateSpec().WithLabels(in.labels(componentRedis)).WithSpec(pod)
	return withOverrides(t, r.PodTemplate, in.selector(componentRedis))
}

// redisProbe calls Redis without a shell, which the image may not have. Without -e any
// answer is a sign of life, LOADING too; with it only PONG is.
func redisProbe(flags ...string) *corev1ac.ProbeApplyConfiguration {
	command := append([]string{"redis-cli"}, flags...)
	command = append(command, "-h", "127.0.0.1", "-p", strconv.Itoa(portRedis), "--tls", "--cacert", redisTLSDir+"/ca.crt",
		"--no-auth-warning", "--user", redisUserProbe, "--pass", "none", "ping")
	return corev1ac.Probe().WithExec(corev1ac.ExecAction().WithCommand(command...))
}

func redisArgs(r v1alpha1.RedisSpec) []string {
	args := []string{
		"--dir", redisDataDir,
		"--appendonly", "yes",
		"--appendfsync", "everysec",
		"--save", "",
		"--aclfile", redisACLDir + "/" + keyRedisACL,
		"--port", "0",
		"--tls-port", strconv.Itoa(portRedis),
		"--tls-cert-file", RedisCertFile,
		"--tls-key-file", RedisKeyFile,
		"--tls-ca-cert-file", redisTLSDir + "/ca.crt",
		"--tls-auth-clients", "no",
		"--maxmemory-policy", "noeviction",
	}
	if limit, ok := r.Resources.Limits[corev1.ResourceMemory]; ok {
		// The rest is for buffers, and for the pages copied while the log is rewritten.
		args = append(args, "--maxmemory", fmt.Sprint(limit.Value()/4*3))
	}
	return args
}

func dataClaim(in Input, s v1alpha1.StorageSpec) *corev1ac.PersistentVolumeClaimApplyConfiguration {
	spec := corev1ac.PersistentVolumeClaimSpec().
		WithAccessModes(corev1.ReadWriteOnce).
		WithResources(corev1ac.VolumeResourceRequirements().
			WithRequests(corev1.ResourceList{corev1.ResourceStorage: s.Size}))
	if s.StorageClassName != nil {
		spec.WithStorageClassName(*s.StorageClassName)
	}
	claim := corev1ac.PersistentVolumeClaim("data", "").
		WithLabels(in.selector(componentRedis)).
		WithSpec(spec)
	// A claim template has no namespace; its constructor insists on one.
	claim.Namespace = nil
	return claim
}
