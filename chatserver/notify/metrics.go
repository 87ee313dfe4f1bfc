package notify

import "github.com/prometheus/client_golang/prometheus"

// metrics are what a Notifier counts. Their names are part of the product.
type metrics struct {
	tries   *prometheus.CounterVec // by way and result
	evicted *prometheus.CounterVec
	lost    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "chatserver", Name: "notifications_total",
			Help: "Notifications tried, by way (push, webhook) and result (delivered, retried, dropped, gone, needless).",
		}, []string{"by", "result"}),
		evicted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "chatserver", Name: "notifications_evicted_total",
			Help: "Notifications that left the queue unsent, by reason.",
		}, []string{"reason"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "chatserver", Name: "notifications_lost_total",
			Help: "Messages of which nobody was notified, because more came than could be queued.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.tries, m.evicted, m.lost)
	}
	return m
}

func (m *metrics) sent(by, result string) { m.tries.WithLabelValues(by, result).Inc() }

func (m *metrics) dropped(reason string, n int) { m.evicted.WithLabelValues(reason).Add(float64(n)) }
