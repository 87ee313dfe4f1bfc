package load

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/load/latency"
	"github.com/chatcluster/chatcluster/chatserver/load/report"
	"github.com/chatcluster/chatcluster/chatserver/load/scrape"
)

// report tells what came of the run.
func (r *run) report() *report.Report {
	queued, pending := r.waiting()
	out := &report.Report{
		Tool: r.config.Tool, Scenario: r.config.Scenario, Title: r.title(), Started: r.began,
		Seconds: time.Since(r.began).Seconds(), Settings: r.config.settings(),
		Check: r.ledger.Report(), Unsent: queued, Unacknowledged: pending, Refused: int(r.refused.Load()),
	}
	var measured []*phase
	for _, p := range r.phases {
		if p.measured && p.took > 0 {
			measured = append(measured, p)
		}
	}
	out.Total = stepOf(measured)
	// These happen when they happen, in a measured phase or not.
	var connect, back latency.Times
	for _, p := range r.phases {
		connect.Add(p.connect.Total())
		back.Add(p.back.Total())
	}
	out.Total.Connect, out.Total.Back = report.LatencyOf(connect), report.LatencyOf(back)
	if s := out.Total.Server; s != nil {
		s.RSSBefore = scrape.RSS(r.baseline)
		s.PerConnection = (s.RSS - s.RSSBefore) / float64(r.open)
	}
	r.mu.Lock()
	out.Closes, out.Problems, out.Series = r.closes, r.problems, r.series
	out.Connections = report.Connections{
		Wanted: len(r.users), Open: r.open, Failed: r.attempts, Broken: r.broken, Seconds: r.opened.Seconds(),
	}
	r.mu.Unlock()
	if len(r.config.Rates) > 0 {
		r.reportSweep(out, measured)
	} else {
		out.Warnings = distrust(&out.Total)
	}
	out.Notes = notes(out)
	return out
}

// reportSweep finds the highest load that was served. Beyond it there is
// nothing to trust: servers and this program are overrun.
func (r *run) reportSweep(out *report.Report, measured []*phase) {
	out.Sweep = new(report.Sweep)
	var doubtful []string
	for _, p := range measured {
		s := p.step()
		s.Warnings = distrust(&s)
		out.Steps = append(out.Steps, s)
		if why := r.saturation(p); why != "" {
			out.Sweep.Saturated, out.Sweep.Why = p.pace.to, why
			continue
		}
		out.Sweep.Sustained = p.pace.to
		for _, w := range s.Warnings {
			doubtful = append(doubtful, fmt.Sprintf("at %g messages/s %s", p.pace.to, w))
		}
	}
	out.Warnings = doubtful[:min(len(doubtful), 1)]
	if n := len(doubtful); n > 1 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("and %d more, at the steps marked with !", n-1))
	}
	if out.Sweep.Sustained == 0 {
		return
	}
	half := slices.MinFunc(measured, func(a, b *phase) int {
		away := func(p *phase) float64 { return math.Abs(p.pace.to - out.Sweep.Sustained/2) }
		return cmp.Compare(away(a), away(b))
	})
	out.Sweep.Half, out.Sweep.HalfLoad = report.LatencyOf(half.delivery.Total()), half.pace.to
}

const (
	servedShare = 0.95        // of the messages that were due have to be acknowledged by the end of a step
	servedTime  = time.Second // is how long the slowest hundredth of deliveries may take
)

// saturation says why a step's load was more than the servers can serve; empty
// if it was not, or if the phase is no step.
func (r *run) saturation(p *phase) string {
	if len(r.config.Rates) == 0 || !p.measured {
		return ""
	}
	if served := float64(p.served) / float64(max(p.ended.due, 1)); served < servedShare {
		return fmt.Sprintf("%.0f %% of the messages were acknowledged by the end of the step", 100*served)
	}
	if p99 := p.delivery.Total().Quantile(.99); p99 > servedTime {
		return fmt.Sprintf("deliveries took %v (p99)", report.Duration(p99))
	}
	return ""
}

func (r *run) title() string {
	if len(r.plan.turns) == 0 {
		return r.plan.title
	}
	c := &r.config
	if n := len(c.Rates); n > 0 {
		return fmt.Sprintf("%s, %g to %g messages/s of %d bytes in %d steps of %v", r.plan.title, c.Rates[0], c.Rates[n-1], c.Size, n, c.Duration)
	}
	return fmt.Sprintf("%s, %g messages/s of %d bytes for %v", r.plan.title, c.Rate, c.Size, c.Duration)
}

// settings are those of the run, without secrets.
func (c *Config) settings() []report.Setting {
	var all []report.Setting
	add := func(name string, value any) { all = append(all, report.Setting{Name: name, Value: fmt.Sprint(value)}) }
	add("url", strings.Join(c.URLs, ", "))
	add("connections", c.Connections)
	add("connect rate", fmt.Sprintf("%g/s", c.ConnectRate))
	add("room size", c.RoomSize)
	if len(c.Rates) > 0 {
		add("rates", strings.Trim(fmt.Sprint(c.Rates), "[]"))
	} else {
		add("rate", fmt.Sprintf("%g/s", c.Rate))
	}
	add("message size", fmt.Sprintf("%d B", c.Size))
	add("ramp", c.Ramp)
	add("duration", c.Duration)
	if n := len(c.Sources); n > 0 {
		add("source addresses", n)
	}
	return all
}
