package controllers

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
	"github.com/chatcluster/chatcluster/controllers/redis"
	"github.com/chatcluster/chatcluster/controllers/resources"
)

// reloadInterval is how long to wait for the kubelet to bring a renewed certificate to
// the Redis pod, and between visits to a Redis that does not answer.
const reloadInterval = 10 * time.Second

// reloadRedisCertificate makes Redis serve its renewed certificate. That it cannot be
// reached holds up nothing else: its own probes tell whether it works.
func (p *pass) reloadRedisCertificate(ctx context.Context) error {
	server := find[appsv1.StatefulSet](p.observed, resources.KindStatefulSet, "-redis")
	secret := p.observed.secret("-redis-tls")
	if p.Redis == nil || secret == nil || server == nil || server.Status.ReadyReplicas == 0 {
		return nil
	}
	outcome, err := p.Redis.Ensure(ctx, redis.Server{
		ID:          client.ObjectKeyFromObject(p.cluster).String(),
		Address:     fmt.Sprintf("%[1]s-0.%[1]s.%[2]s.svc:6379", server.Name, server.Namespace),
		Username:    resources.RedisUserOperator,
		Password:    p.credentials.OperatorPassword,
		CA:          secret.Data["ca.crt"],
		Certificate: secret.Data[corev1.TLSCertKey],
		CertFile:    resources.RedisCertFile,
		KeyFile:     resources.RedisKeyFile,
	})
	switch {
	case err != nil:
		log.FromContext(ctx).Info("Redis was not visited; trying again", "after", reloadInterval, "reason", err.Error())
		p.findings.RedisNotReloaded = lasting(err)
		p.lookAgain(reloadInterval)
	case outcome == redis.Waiting:
		p.lookAgain(reloadInterval)
	case outcome == redis.Reloaded:
		p.Events.Eventf(p.cluster, nil, corev1.EventTypeNormal, v1alpha1.EventCertificateReloaded, "Reload",
			"Redis serves its renewed certificate; no pod was restarted")
	}
	return nil
}
