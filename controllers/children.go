package controllers

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
	"github.com/chatcluster/chatcluster/controllers/resources"
)

// errNamespaceEnding tells that the namespace is being deleted and takes nothing new: the
// ChatCluster is about to go with it.
var errNamespaceEnding = errors.New("the namespace is being deleted")

// applyChildren makes each child what it should be. One that fails does not hold up the
// others; all failures are told.
func (p *pass) applyChildren(ctx context.Context) error {
	in := p.input()
	in.Credentials = p.credentials
	var failures []error
	for _, child := range resources.Children {
		err := p.applyChild(ctx, child, in)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return errNamespaceEnding
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func (p *pass) applyChild(ctx context.Context, child resources.Child, in resources.Input) error {
	live := p.observed.live[childKey{child.Kind, child.Suffix}]
	desired := child.Build(in)
	if p.observed.missing[child.Kind] {
		if desired != nil {
			p.lookAgain(missingKindInterval)
		}
		return nil
	}
	if desired == nil {
		return p.prune(ctx, child, live)
	}
	if live == nil && child.Waits != nil && child.Waits(in) != "" {
		return nil
	}
	reason := rollReason(child, in)
	written, err := p.applier.apply(ctx, p.cluster, desired, live, child.Foreign)
	if err != nil {
		return err
	}
	if written && reason != "" {
		p.recordRoll(child, reason)
	}
	return nil
}

// prune deletes a child that the spec no longer asks for.
func (p *pass) prune(ctx context.Context, child resources.Child, live client.Object) error {
	if live == nil || child.Foreign || !metav1.IsControlledBy(live, p.cluster) || !live.GetDeletionTimestamp().IsZero() {
		return nil
	}
	uid := live.GetUID()
	err := p.Client.Delete(ctx, live, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s %s, which is no longer asked for: %w", child.Kind.Kind, client.ObjectKeyFromObject(live), err)
	}
	childWrites.WithLabelValues(child.Kind.Kind, "delete").Inc()
	delete(p.observed.live, childKey{child.Kind, child.Suffix})
	return nil
}

// applyScale writes the number of chat servers, where it is the operator's to write. It
// comes after the children: an autoscaler that is no longer wanted is gone by then.
func (p *pass) applyScale(ctx context.Context) error {
	server, err := p.read(ctx, resources.Child{Kind: resources.KindDeployment, Suffix: "-server"})
	if err != nil || server == nil {
		return err
	}
	in := p.input()
	in.Observed.Server = server.(*appsv1.Deployment)
	want := resources.ServerReplicas(in)
	if want == nil {
		return nil
	}
	return p.applier.scale(ctx, in, *want)
}

// rollReason names what will replace the pods of a child, "" if nothing will.
func rollReason(child resources.Child, in resources.Input) string {
	switch child.Kind {
	case resources.KindDeployment:
		return resources.ServerRoll(in)
	case resources.KindStatefulSet:
		return resources.RedisRoll(in)
	}
	return ""
}

func (p *pass) recordRoll(child resources.Child, reason string) {
	what := "chat servers"
	if child.Kind == resources.KindStatefulSet {
		what = "Redis"
	}
	rolls.WithLabelValues(p.cluster.Namespace, p.cluster.Name, what).Inc()
	p.Events.Eventf(p.cluster, nil, corev1.EventTypeNormal, v1alpha1.EventRolling, "Replace",
		"Replacing the pods of %s, since this changed: %s", what, reason)
}
