package controllers

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	readyGauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "chatcluster_ready",
		Help: "1 if clients can chat through the ChatCluster, 0 if not.",
	}, []string{"namespace", "name"})

	childWrites = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chatcluster_child_writes_total",
		Help: "Writes of children to the Kubernetes API. It stands still while nothing changes.",
	}, []string{"kind", "action"})

	rolls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chatcluster_rolls_total",
		Help: "Times that the pods of a ChatCluster were replaced because its spec changed.",
	}, []string{"namespace", "name", "what"})
)

func init() {
	metrics.Registry.MustRegister(readyGauge, childWrites, rolls)
}

// forgetMetrics drops the series of a cluster that is gone.
func forgetMetrics(cluster types.NamespacedName) {
	of := prometheus.Labels{"namespace": cluster.Namespace, "name": cluster.Name}
	readyGauge.DeletePartialMatch(of)
	rolls.DeletePartialMatch(of)
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
