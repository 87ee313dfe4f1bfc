package controllers

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// A status that differed at each try would be written at each try, for ever.
func TestTheSameFailureReadsTheSameEachTime(t *testing.T) {
	t.Parallel()
	failure := func(port int) error {
		return fmt.Errorf("looking: %w", &net.OpError{
			Op: "read", Net: "tcp",
			Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port},
			Addr:   &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 6379},
			Err:    errors.New("connection reset by peer"),
		})
	}
	const want = "looking: read tcp 10.0.0.2:6379: connection reset by peer"
	for _, port := range []int{40001, 40002} {
		if got := lasting(failure(port)); got != want {
			t.Errorf("from port %d: %q, not %q", port, got, want)
		}
	}
}

func TestMetricsOfAClusterGoWithIt(t *testing.T) {
	t.Parallel()
	gone := types.NamespacedName{Namespace: "metrics-of", Name: "gone"}
	rolls.WithLabelValues(gone.Namespace, gone.Name, "Redis").Inc()
	readyGauge.WithLabelValues(gone.Namespace, gone.Name).Set(1)
	forgetMetrics(gone)
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				if label.GetName() == "namespace" && label.GetValue() == gone.Namespace {
					t.Errorf("%s still tells of it", family.GetName())
				}
			}
		}
	}
}
