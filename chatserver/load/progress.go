package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/load/latency"
	"github.com/chatcluster/chatcluster/chatserver/load/report"
)

// say writes a line of progress.
func (r *run) say(format string, args ...any) {
	if r.config.Progress == nil {
		return
	}
	r.saying.Lock()
	defer r.saying.Unlock()
	_, _ = fmt.Fprintf(r.config.Progress, "%5.0fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// every calls f again and again until the function it returns is called.
func (r *run) every(d time.Duration, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				f()
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// tellProgress notes each second what happened in it, and says it.
func (r *run) tellProgress() (stop func()) {
	var before counts
	last := time.Now()
	_, _ = r.pulse.Tick()
	return r.every(time.Second, func() {
		now := time.Now()
		took := now.Sub(last).Seconds()
		last = now
		sum := r.sum()
		cores, late := r.pulse.Tick()
		var delivery latency.Times
		for _, p := range r.phases {
			delivery.Add(p.delivery.Drain())
		}
		s := report.Second{
			At: now.Sub(r.began).Seconds(), Phase: r.now().name, Connected: int(r.inside.Load()),
			Sent: sum.sent - before.sent, Acknowledged: sum.acked - before.acked, Delivered: sum.delivered - before.delivered,
			P50: report.Duration(delivery.Quantile(.5)), P99: report.Duration(delivery.Quantile(.99)),
			Cores: cores, Lag: report.Duration(late.Quantile(.99)),
		}
		before = sum
		r.mu.Lock()
		r.series = append(r.series, s)
		r.mu.Unlock()
		per := func(n int64) float64 { return float64(n) / took }
		r.say("%-8s %d connected  %.0f sent/s  %.0f acknowledged/s  %.0f delivered/s  p50 %v  p99 %v  cpu %.2f  lag %v",
			s.Phase, s.Connected, per(s.Sent), per(s.Acknowledged), per(s.Delivered), s.P50, s.P99, s.Cores, s.Lag)
	})
}

// sum is what happened in all phases together.
func (r *run) sum() counts {
	var sum counts
	for _, p := range r.phases {
		c := p.counts()
		sum.sent, sum.acked, sum.delivered = sum.sent+c.sent, sum.acked+c.acked, sum.delivered+c.delivered
	}
	return sum
}
