package account

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatcluster/chatcluster/chatserver/auth"
)

// metrics are what is counted of people who come in. Their names are part of the product.
type metrics struct {
	logins, registrations, refreshes *prometheus.CounterVec // by result

	check prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, p *auth.Passwords) *metrics {
	results := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "chatserver", Name: name, Help: help}, []string{"result"})
	}
	m := &metrics{
		logins:        results("logins_total", "Passwords that were given, by ok or the code of the error."),
		registrations: results("registrations_total", "Accounts that were asked for, by ok or the code of the error."),
		refreshes:     results("token_refreshes_total", "Refresh tokens that were given, by ok or the code of the error."),
		check: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "chatserver", Name: "password_check_duration_seconds",
			Help:    "Time to check a password, waiting for a turn included.",
			Buckets: []float64{0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.logins, m.registrations, m.refreshes, m.check,
		hashes("running", func() float64 { running, _ := p.Load(); return float64(running) }),
		hashes("waiting", func() float64 { _, waiting := p.Load(); return float64(waiting) }))
	return m
}

func hashes(state string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "chatserver", Name: "password_hashes",
		Help:        "Passwords that are being hashed, or wait for it.",
		ConstLabels: prometheus.Labels{"state": state},
	}, f)
}

func (m *metrics) checked(began time.Time, err error) {
	m.check.Observe(time.Since(began).Seconds())
	m.logins.WithLabelValues(result(err)).Inc()
}

// result is ok, or the code that whoever asked is told.
func result(err error) string {
	if err == nil {
		return "ok"
	}
	if code, _, known := Describe(err); known {
		return code
	}
	return "unavailable"
}
