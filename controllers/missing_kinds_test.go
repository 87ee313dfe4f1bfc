package controllers_test

import (
	"path/filepath"
	"testing"

	cmv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/api/v1alpha1"
)

// An API server that knows ChatCluster and nothing of cert-manager or the Gateway API,
// until they are installed. The operator is not restarted. Not parallel: it exchanges the
// API server for all helpers.
func TestMissingCertManagerIsACondition(t *testing.T) {
	bare := &envtest.Environment{
		Scheme:            scheme,
		CRDDirectoryPaths: []string{filepath.Join("..", "config", "crd", "bases")},
	}
	cfg, err := bare.Start()
	if err != nil {
		t.Fatal(err)
	}
	before := api
	t.Cleanup(func() {
		api = before
		if err := bare.Stop(); err != nil {
			t.Error(err)
		}
	})
	if api, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}

	ns := newNamespace(t)
	startOperator(t, cfg, ns, settings)
	create(t, ns, "acme", `{host: chat.example.com, routing: {ingress: {}, gateway: {parentRefs: [{name: g}]}}}`)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionCertificatesReady, metav1.ConditionFalse, v1alpha1.ReasonCertManager)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonCertManager)
	waitForCondition(t, ns, "acme", v1alpha1.ConditionRoutesReady, metav1.ConditionFalse, v1alpha1.ReasonGatewayAPI)
	waitForObject(t, ns, "acme", &networkingv1.Ingress{})

	_, err = envtest.InstallCRDs(cfg, envtest.CRDInstallOptions{Scheme: scheme, Paths: []string{
		filepath.Join(moduleDir("github.com/cert-manager/cert-manager"), "deploy", "crds"),
		filepath.Join(moduleDir("sigs.k8s.io/gateway-api"), "config", "crd", "standard"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	waitForObject(t, ns, "acme", &cmv1.Certificate{})
	waitForObject(t, ns, "acme", &gatewayv1.HTTPRoute{})
	becomeReady(t, ns, "acme")
	waitForObject(t, ns, "acme-ca-bundle", &corev1.ConfigMap{})
}
