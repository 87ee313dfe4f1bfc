// Package resources says what the children of a ChatCluster should be: one pure function
// for each, from what is wanted and what was observed to an apply configuration, or nil
// where the child should not exist. It talks to nobody: no client, no clock, no random
// numbers.
package resources

import (
	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// Object is the apply configuration of one child.
type Object interface {
	runtime.ApplyConfiguration
	GetAPIVersion() *string
	GetKind() *string
	GetName() *string
	GetNamespace() *string
}

// Input is all that a child is made from.
type Input struct {
	Cluster     *v1alpha1.ChatCluster
	Observed    Observed
	Credentials Credentials
	Settings    Settings
}

// Observed are the live objects that decide what a child should be. Nil: there is none.
type Observed struct {
	Server *appsv1.Deployment
	Redis  *appsv1.StatefulSet
	// Certificates by what their names have after that of the ChatCluster.
	Certificates map[string]*cmapi.Certificate
	// Secrets that cert-manager writes.
	CA        *corev1.Secret
	PublicTLS *corev1.Secret
	ServerTLS *corev1.Secret
	RedisTLS  *corev1.Secret
	// UsersMissing tells that the Secret with accounts, or its key, is not there.
	UsersMissing bool
	// UsersHash is of the accounts in that Secret; "" if there are none.
	UsersHash string
}

// Credentials are made once for a cluster and kept in its Secrets.
type Credentials struct {
	// RedisPassword is that of the chat servers.
	RedisPassword string
	// OperatorPassword is that of the operator, who reloads certificates.
	OperatorPassword string
	// TokenKeys are the secrets that tokens are signed with, by key id.
	TokenKeys map[string]string
	// CurrentKey is the id of the key that signs; the others only verify.
	CurrentKey string
}

// Settings are the operator's own.
type Settings struct {
	// ServerImage and RedisImage are what a new cluster runs that names no image.
	ServerImage string
	RedisImage  string
	// Namespace is where the operator runs; Redis lets it in from there. Empty: outside
	// of the cluster.
	Namespace string
}

// ManagedBy is the value of LabelManagedBy on every child. The operator's cache holds
// objects with it only.
const ManagedBy = "chatcluster-operator"

// Labels of children.
const (
	LabelName      = "app.kubernetes.io/name"
	LabelInstance  = "app.kubernetes.io/instance"
	LabelComponent = "app.kubernetes.io/component"
	LabelManagedBy = "app.kubernetes.io/managed-by"
)

// Values of LabelComponent.
const (
	componentServer = "server"
	componentRedis  = "redis"
)

// Ports of the pods.
const (
	portHTTPS = 8443
	portLine  = 1222
	portAdmin = 9090
	portRedis = 6379
)

// runAs is the user and group of every container; images need not know it.
const runAs = 65532

func (in Input) name(suffix string) string { return in.Cluster.Name + suffix }

func (in Input) namespace() string { return in.Cluster.Namespace }

// selector selects the pods of a component; it must never change, as Deployments and
// StatefulSets refuse another one.
func (in Input) selector(component string) map[string]string {
	return map[string]string{
		LabelName:      "chatcluster",
		LabelInstance:  in.Cluster.Name,
		LabelComponent: component,
	}
}

// labels are those of a child. A child of no component in particular has component "".
func (in Input) labels(component string) map[string]string {
	l := map[string]string{
		LabelName:      "chatcluster",
		LabelInstance:  in.Cluster.Name,
		LabelManagedBy: ManagedBy,
	}
	if component != "" {
		l[LabelComponent] = component
	}
	return l
}

// owner makes a child go with its ChatCluster. It does not block the owner's deletion:
// that would need a right on finalizers, and nothing here needs an order of deletion.
func (in Input) owner() *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.GroupVersion.String()).
		WithKind("ChatCluster").
		WithName(in.Cluster.Name).
		WithUID(in.Cluster.UID).
		WithController(true)
}

// merged is base with extra laid over it.
func merged(base, extra map[string]string) map[string]string {
	out := make(map[string]string, len(base)+len(extra))
	for k, v := range base {
		out[k] = v
	}
	for k, v := range extra {
		out[k] = v
	}
	return out
}
