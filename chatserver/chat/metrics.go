package chat

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

// metrics are what is counted of messages. Their names are part of the product.
type metrics struct {
	published  *prometheus.CounterVec
	duplicates prometheus.Counter
	duration   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "chatserver", Name: "messages_published_total",
			Help: "What this server put into the rooms' logs: messages, edits, deletions, reactions.",
		}, []string{"type"}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "chatserver", Name: "messages_duplicate_total",
			Help: "Messages that were sent again and were in the log already.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "chatserver", Name: "publish_duration_seconds",
			Help:    "Time until what was sent was in the log and could be acknowledged, tries included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // 0.5 ms to 4 s
		}),
	}
	if reg != nil {
		reg.MustRegister(m.published, m.duplicates, m.duration)
	}
	return m
}

// names are the kinds of records as people know them.
var names = map[string]string{"": "message", KindEdit: "edit", KindDelete: "deletion", KindReaction: "reaction"}

func (m *metrics) stored(kind string, p store.Published, took time.Duration) {
	m.duration.Observe(took.Seconds())
	if p.Duplicate {
		m.duplicates.Inc()
		return
	}
	m.published.WithLabelValues(names[kind]).Inc()
}
