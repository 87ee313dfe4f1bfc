package resources

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden are specs, each with the children that it must give.
var golden = map[string]string{
	"minimal": `host: chat.example.com`,
	"everything": `
host: chat.example.com
server:
  image: registry.example/chatserver:2
  autoscaling: {minReplicas: 3, maxReplicas: 7, targetCPU: 50, behavior: {scaleDown: {stabilizationWindowSeconds: 15}}}
  auth: {registration: Closed, accessTokenTTL: 15m, refreshTokenTTL: 48h, duplicateLogin: Allow, maxSessionsPerUser: 3, loginAttemptsPerHour: 7, demoUsers: true, users: {secretRef: {name: people}}}
  limits: {maxMessageBytes: 500, messagesPer10Seconds: 0, requestsPerHour: 0, authRequestsPerMinute: 0, apiRequestsPerMinute: 50, connectionsPerAddress: 5}
  logLevel: Debug
  history: {count: 5, age: 24h}
  allowedOrigins: [https://www.example.com]
  drain: {window: 30s}
  lineProtocol: {port: 1223, service: {type: LoadBalancer, annotations: {lb: internal}}}
  trustedProxies: [10.1.0.0/16]
  podTemplate:
    labels: {team: chat}
    annotations: {note: chat}
    nodeSelector: {disk: ssd}
    tolerations: [{key: dedicated, operator: Exists}]
    affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: arch, operator: In, values: [amd64]}]}]}}}
    topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
    priorityClassName: high
    imagePullSecrets: [{name: pull}]
redis: {storage: {size: 5Gi, storageClassName: fast, whenDeleted: Delete}, resources: {limits: {memory: 1Gi}}}
tls: {issuerRef: {name: letsencrypt, kind: ClusterIssuer}, duration: 1000h, renewBefore: 100h}
routing:
  ingress: {className: nginx, annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: "60", mine: "yes"}}
  gateway: {parentRefs: [{name: web, namespace: edge}], lineParentRefs: [{name: web, namespace: edge, sectionName: line}]}
`,
	"no-line-protocol": `{host: chat.example.com, server: {replicas: 1, lineProtocol: {enabled: false}}, networkPolicy: {enabled: false}}`,
}

// TestChildren compares every child with its golden file. A difference in a pod template
// is allowed: pods that run keep theirs. One in a selector or a name is not.
func TestChildren(t *testing.T) {
	for name, spec := range golden {
		in := inputFor(t, spec)
		for _, child := range Children {
			t.Run(name+"/"+child.Kind.Kind+child.Suffix, func(t *testing.T) {
				compare(t, filepath.Join("testdata", name, child.Kind.Kind+child.Suffix+".yaml"), child.Build(in))
			})
		}
	}
}

func compare(t *testing.T, file string, child Object) {
	t.Helper()
	got := []byte("# none\n")
	if child != nil {
		var err error
		if got, err = yaml.Marshal(child); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test ./controllers/resources -update writes it)", err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs; if that is intended, run go test ./controllers/resources -update.\ngot:\n%s", file, got)
	}
}

// inputFor is a ChatCluster with the schema's defaults, and all Secrets there.
func inputFor(t *testing.T, spec string) Input {
	t.Helper()
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(spec), &fields); err != nil {
		t.Fatal(err)
	}
	object := map[string]any{"metadata": map[string]any{"name": "acme", "namespace": "chat", "uid": "the-uid"}, "spec": fields}
	defaulting.Default(object, crdSchema(t))
	var c v1alpha1.ChatCluster
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, &c); err != nil {
		t.Fatal(err)
	}
	if broken := v1alpha1.Validate(&c); len(broken) > 0 {
		t.Fatalf("the spec is not valid: %q", broken)
	}
	secret := func(name string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "chat", UID: "secret-uid"},
			Data:       map[string][]byte{"ca.crt": []byte("the authority")},
		}
	}
	certificate := func(name string) *cmapi.Certificate {
		return &cmapi.Certificate{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "chat", UID: types.UID(name + "-uid")}}
	}
	return Input{
		Cluster:     &c,
		Settings:    Settings{ServerImage: "chatcluster/chatserver:1", RedisImage: "redis:1", Namespace: "chatcluster-system"},
		Credentials: Credentials{RedisPassword: "p", OperatorPassword: "o", CurrentKey: "k", TokenKeys: map[string]string{"k": "secret"}},
		Observed: Observed{
			Certificates: map[string]*cmapi.Certificate{
				"-ca": certificate("acme-ca"), "-redis": certificate("acme-redis"), "-server": certificate("acme-server"), "": certificate("acme"),
			},
			CA: secret("acme-ca"), PublicTLS: secret("acme-tls"), ServerTLS: secret("acme-server-tls"), RedisTLS: secret("acme-redis-tls"),
			UsersHash: usersHash(&c),
		},
	}
}

func usersHash(c *v1alpha1.ChatCluster) string {
	if c.Spec.Server.Auth.Users == nil {
		return ""
	}
	return "the-hash"
}

func TestChangedAccountsReplacePodsAndMissingOnesDoNot(t *testing.T) {
	in := running(t, inputFor(t, golden["everything"]))
	in.Observed.UsersMissing, in.Observed.UsersHash = true, ""
	if roll := ServerRoll(in); roll != "" {
		t.Errorf("with the Secret gone, pods are replaced for %s", roll)
	}
	in.Observed.UsersMissing, in.Observed.UsersHash = false, "another-hash"
	if roll := ServerRoll(in); roll != "server.auth.users" {
		t.Errorf("with other accounts, pods are replaced for %q", roll)
	}
}

func TestASettingThatIsChangedReplacesChatServersAndSaysWhich(t *testing.T) {
	for field, spec := range map[string]string{
		"server.auth.refreshTokenTTL":      `{auth: {refreshTokenTTL: 24h}}`,
		"server.auth.loginAttemptsPerHour": `{auth: {loginAttemptsPerHour: 5}}`,
		"server.limits":                    `{limits: {apiRequestsPerMinute: 5}}`,
		"server.logLevel":                  `{logLevel: Warn}`,
		"server.auth.duplicateLogin, server.auth.maxSessionsPerUser": `{auth: {duplicateLogin: Allow, maxSessionsPerUser: 2}}`,
	} {
		before := running(t, inputFor(t, `host: chat.example.com`))
		after := inputFor(t, `{host: chat.example.com, server: `+spec+`}`)
		after.Observed = before.Observed
		if roll := ServerRoll(after); roll != field {
			t.Errorf("%s: pods are replaced for %q, want %q", spec, roll, field)
		}
	}
}

func crdSchema(t *testing.T) *schema.Structural {
	t.Helper()
	raw, err := os.ReadFile("../../config/crd/bases/chatcluster.dev_chatclusters.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		t.Fatal(err)
	}
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		t.Fatal(err)
	}
	return structural
}

// running is in with its Deployment as the API server would have it.
func running(t *testing.T, in Input) Input {
	t.Helper()
	in.Observed.Server = converted(ServerDeployment(in), &appsv1.Deployment{})
	in.Observed.Redis = converted(RedisStatefulSet(in), &appsv1.StatefulSet{})
	return in
}

func TestPodsArePrivilegedToNothing(t *testing.T) {
	in := running(t, inputFor(t, golden["everything"]))
	for _, pod := range []corev1.PodSpec{in.Observed.Server.Spec.Template.Spec, in.Observed.Redis.Spec.Template.Spec} {
		if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
			t.Error("the pod holds a token for the Kubernetes API")
		}
		for _, c := range pod.Containers {
			s := c.SecurityContext
			if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
				t.Errorf("container %s has security context %+v", c.Name, s)
			}
		}
	}
}

func TestGraceOutlastsTheDrain(t *testing.T) {
	in := running(t, inputFor(t, `{host: h.example, server: {drain: {window: 90s}}}`))
	pod := in.Observed.Server.Spec.Template.Spec
	sleep := pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds
	if *pod.TerminationGracePeriodSeconds <= sleep+90 {
		t.Errorf("pods are killed after %d s, while they sleep for %d s and drain for 90 s", *pod.TerminationGracePeriodSeconds, sleep)
	}
}

func TestANewDefaultImageReplacesNoPod(t *testing.T) {
	in := running(t, inputFor(t, golden["minimal"]))
	before := mustJSON(ServerDeployment(in))
	in.Settings.ServerImage = "chatcluster/chatserver:2"
	if after := mustJSON(ServerDeployment(in)); after != before {
		t.Errorf("the Deployment changed from\n%s\nto\n%s", before, after)
	}
	if !UpdateAvailable(in) {
		t.Error("the new image is not told of")
	}
}

// A newer operator may know more inputs, and render the same inputs differently.
func TestANewerOperatorsTemplateWaitsForAChange(t *testing.T) {
	in := running(t, inputFor(t, golden["minimal"]))
	older := in.Observed.Server
	record := older.Annotations[AnnotationTemplate]
	record = strings.Replace(record, `"--demo-users`, `"--renamed`, 1)
	record = strings.Replace(record, `"server.drain":`, `"server.since-removed":`, 1)
	record = strings.Replace(record, `--history-count=1000`, `--history-limit=1000`, 1)
	older.Annotations[AnnotationTemplate] = record

	if roll := ServerRoll(in); roll != "" {
		t.Errorf("the upgrade would replace pods for %s", roll)
	}
	if !strings.Contains(mustJSON(ServerDeployment(in)), `--history-limit=1000`) {
		t.Error("the older template was dropped")
	}
	in.Cluster.Spec.Server.History.Count = 7
	if roll := ServerRoll(in); roll != "server.history" {
		t.Errorf("the reason for replacing pods is %q", roll)
	}
	if !strings.Contains(mustJSON(ServerDeployment(in)), `--history-count=7`) {
		t.Error("the older template was kept")
	}
}

func TestReplicasAreWrittenByWhoeverOwnsThem(t *testing.T) {
	scaledTo := func(n int32) *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{Subresource: "scale"}}},
			Spec:       appsv1.DeploymentSpec{Replicas: &n},
		}
	}
	one := int32(1)
	fresh := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &one}}
	for name, c := range map[string]struct {
		spec string
		live *appsv1.Deployment
		want int32 // 0: not ours to write
	}{
		"a new cluster":                       {`host: h.example`, nil, 2},
		"a Deployment that nobody scaled yet": {`host: h.example`, fresh, 2},
		"no number, after an autoscaler":      {`host: h.example`, scaledTo(7), 0},
		"a number":                            {`{host: h.example, server: {replicas: 3}}`, scaledTo(7), 3},
		"a new cluster with an autoscaler":    {`{host: h.example, server: {autoscaling: {minReplicas: 3}}}`, fresh, 3},
		"an autoscaler":                       {`{host: h.example, server: {autoscaling: {}}}`, scaledTo(7), 0},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputFor(t, c.spec)
			in.Observed.Server = c.live
			got := int32(0)
			if n := ServerReplicas(in); n != nil {
				got = *n
			}
			if got != c.want {
				t.Errorf("writes %d, want %d", got, c.want)
			}
		})
	}
}

func TestOneChatServerHasNoDisruptionBudget(t *testing.T) {
	if ServerDisruptionBudget(inputFor(t, `{host: h.example, server: {replicas: 1}}`)) != nil {
		t.Error("it would keep its node from being emptied")
	}
	if ServerDisruptionBudget(inputFor(t, `host: h.example`)) == nil {
		t.Error("two chat servers have none")
	}
}

func TestBuildersLeaveTheirInputAlone(t *testing.T) {
	in := inputFor(t, golden["everything"])
	before := in.Cluster.DeepCopy()
	for _, child := range Children {
		child.Build(in)
	}
	if a, b := mustJSON(before), mustJSON(in.Cluster); a != b {
		t.Errorf("the ChatCluster changed from\n%s\nto\n%s", a, b)
	}
}
