package controllers_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
	"github.com/chatcluster/chatcluster/controllers"
	"github.com/chatcluster/chatcluster/controllers/redis"
	"github.com/chatcluster/chatcluster/controllers/resources"
)

// patience is how long a test waits for what should come within milliseconds.
const patience = 60 * time.Second

var settings = resources.Settings{
	ServerImage: "chatcluster/chatserver:1",
	RedisImage:  "redis:1",
	Namespace:   "chatcluster-system",
}

func newNamespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := api.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// operator is an operator for one namespace that runs until the test ends, or stop.
type operator struct {
	writes *writeLog
	stop   func()
}

func startOperator(t *testing.T, cfg *rest.Config, namespace string, s resources.Settings) *operator {
	t.Helper()
	log := &writeLog{}
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return recorder{next, log} })
	yes := true
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:     scheme,
		Cache:      controllers.CacheOptions([]string{namespace}),
		Client:     controllers.ClientOptions(),
		Metrics:    server.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: &yes},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &controllers.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder(controllers.FieldOwner),
		Settings: s, Redis: quietRedis{},
	}
	if err := r.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the operator ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return &operator{writes: log, stop: stop}
}

// writeLog has every request of an operator that could change something.
type writeLog struct {
	mu     sync.Mutex
	writes []string
}

func (w *writeLog) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.writes)
}

func (w *writeLog) since(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.writes[n:]...)
}

type recorder struct {
	next http.RoundTripper
	log  *writeLog
}

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		r.log.mu.Lock()
		r.log.writes = append(r.log.writes, req.Method+" "+req.URL.Path)
		r.log.mu.Unlock()
	}
	return r.next.RoundTrip(req)
}

// quietRedis plays the part of a Redis that serves its newest certificate.
type quietRedis struct{}

func (quietRedis) Ensure(context.Context, redis.Server) (redis.Outcome, error) {
	return redis.Serving, nil
}
func (quietRedis) Forget(string) {}

// create makes a ChatCluster from the YAML of its spec.
func create(t *testing.T, namespace, name, spec string) {
	t.Helper()
	if err := api.Create(t.Context(), chatClusterFrom(t, namespace, name, spec)); err != nil {
		t.Fatal(err)
	}
}

// patchSpec merges JSON into the spec of a ChatCluster.
func patchSpec(t *testing.T, namespace, name, spec string) {
	t.Helper()
	c := &v1alpha1.ChatCluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	patch := fmt.Sprintf(`{"spec":%s}`, spec)
	if err := api.Patch(t.Context(), c, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

// becomeReady plays cert-manager, the Deployment and the StatefulSet controller until
// the ChatCluster is Ready.
func becomeReady(t *testing.T, namespace, name string) {
	t.Helper()
	for _, suffix := range []string{"-ca", "-redis", "-server", ""} {
		issue(t, namespace, name+suffix)
	}
	runRedis(t, namespace, name)
	runServers(t, namespace, name)
	waitFor(t, "the ChatCluster to be Ready", func() error {
		return expectCondition(t, namespace, name, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})
}

// issue plays cert-manager: it writes the Secret of a Certificate and says it is issued.
func issue(t *testing.T, namespace, name string) {
	t.Helper()
	var cert cmv1.Certificate
	waitForObject(t, namespace, name, &cert)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: cert.Spec.SecretName, Labels: cert.Spec.SecretTemplate.Labels},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{"tls.crt": []byte("certificate"), "tls.key": []byte("key"), "ca.crt": []byte("authority of " + name)},
	}
	if err := api.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	cert.Status.Conditions = []cmv1.CertificateCondition{{Type: cmv1.CertificateConditionReady, Status: cmmeta.ConditionTrue, Reason: "Ready"}}
	end := metav1.NewTime(time.Now().Add(time.Hour).Truncate(time.Second))
	cert.Status.NotAfter = &end
	if err := api.Status().Update(t.Context(), &cert); err != nil {
		t.Fatal(err)
	}
}

func runRedis(t *testing.T, namespace, name string) {
	t.Helper()
	updateStatus(t, namespace, name+"-redis", &appsv1.StatefulSet{}, func(s *appsv1.StatefulSet) {
		s.Status = appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, Replicas: 1, ReadyReplicas: 1, UpdatedReplicas: 1}
	})
}

// runServers plays the Deployment controller: all pods that are wanted run and are ready.
func runServers(t *testing.T, namespace, name string) {
	t.Helper()
	waitFor(t, "the chat servers to be scaled", func() error {
		d := get(t, namespace, name+"-server", &appsv1.Deployment{})
		for _, entry := range d.ManagedFields {
			if entry.Subresource == "scale" {
				return nil
			}
		}
		return fmt.Errorf("Deployment %q was not scaled", d.Name)
	})
	setServers(t, namespace, name, -1)
}

// setServers makes n pods ready; -1 for all that are wanted.
func setServers(t *testing.T, namespace, name string, n int32) {
	t.Helper()
	updateStatus(t, namespace, name+"-server", &appsv1.Deployment{}, func(d *appsv1.Deployment) {
		all := *d.Spec.Replicas
		if n < 0 {
			n = all
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: all, UpdatedReplicas: all, ReadyReplicas: n, AvailableReplicas: n, Conditions: rolledOut}
	})
}

// rolledOut is how the Deployment controller says that the newest pods have all been ready.
var rolledOut = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"}}

func updateStatus[T client.Object](t *testing.T, namespace, name string, obj T, change func(T)) {
	t.Helper()
	waitFor(t, "the status of "+name+" to be written", func() error {
		if err := api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, obj); err != nil {
			return err
		}
		change(obj)
		return api.Status().Update(t.Context(), obj)
	})
}

// get returns the object, without a name if there is none.
func get[T client.Object](t *testing.T, namespace, name string, obj T) T {
	t.Helper()
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, obj); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return obj
}

func waitForObject(t *testing.T, namespace, name string, obj client.Object) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%T %s", obj, name), func() error {
		return api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, obj)
	})
}

func waitForGone(t *testing.T, namespace, name string, obj client.Object) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%T %s to go", obj, name), func() error {
		err := api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, obj)
		if err == nil {
			return fmt.Errorf("it is still there")
		}
		return client.IgnoreNotFound(err)
	})
}

func expectCondition(t *testing.T, namespace, name, kind string, state metav1.ConditionStatus, reason string) error {
	t.Helper()
	c := get(t, namespace, name, &v1alpha1.ChatCluster{})
	cond := meta.FindStatusCondition(c.Status.Conditions, kind)
	if cond == nil {
		return fmt.Errorf("no condition %s", kind)
	}
	if cond.Status != state || cond.Reason != reason || cond.ObservedGeneration != c.Generation {
		return fmt.Errorf("%s is %s, %s of generation %d (want %s, %s of %d): %s",
			kind, cond.Status, cond.Reason, cond.ObservedGeneration, state, reason, c.Generation, cond.Message)
	}
	if !strings.HasSuffix(strings.TrimSpace(cond.Message), ".") && cond.Message == "" {
		return fmt.Errorf("%s says nothing", kind)
	}
	return nil
}

func waitForCondition(t *testing.T, namespace, name, kind string, state metav1.ConditionStatus, reason string) {
	t.Helper()
	waitFor(t, kind+" to be "+string(state), func() error { return expectCondition(t, namespace, name, kind, state, reason) })
}

// waitFor waits until check finds nothing wrong.
func waitFor(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// settle waits until the operator has written nothing for a while.
func (o *operator) settle(t *testing.T) {
	t.Helper()
	const quiet = 2 * time.Second
	last, since := o.writes.count(), time.Now()
	waitFor(t, "the operator to come to rest", func() error {
		if n := o.writes.count(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < quiet {
			return fmt.Errorf("it wrote %d times", last)
		}
		return nil
	})
}
