package report

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Threshold is something that a run has to reach, like delivery.p99<50ms.
type Threshold struct {
	text   string
	metric string
	op     string
	limit  float64
	unit   unit
}

// Verdict is how it went with a threshold.
type Verdict struct {
	Threshold string `json:"threshold"`
	Value     string `json:"value"` // what it was; "not measured" does not hold
	Held      bool   `json:"held"`
}

type unit int

const (
	number unit = iota
	duration
	byteSize
)

// metric is something that thresholds can be about.
type metric struct {
	unit  unit
	about string
	value func(*Report) (v float64, measured bool)
}

func count(about string, f func(*Report) int) metric {
	return metric{number, about, func(r *Report) (float64, bool) { return float64(f(r)), true }}
}

func server(u unit, about string, f func(*Server) float64) metric {
	return metric{u, about, func(r *Report) (float64, bool) {
		if r.Total.Server == nil {
			return 0, false
		}
		v := f(r.Total.Server)
		return v, v != 0
	}}
}

var metrics = map[string]metric{
	"lost":               count("acknowledged messages that a member did not get", func(r *Report) int { return r.Check.Lost }),
	"declared":           count("the same, where the server had said so", func(r *Report) int { return r.Check.Declared }),
	"duplicated":         count("messages that a member got twice", func(r *Report) int { return r.Check.Duplicated }),
	"reordered":          count("messages that a member got after a later one", func(r *Report) int { return r.Check.Reordered }),
	"gaps":               count("places where a member was not told of a gap", func(r *Report) int { return r.Check.Gaps }),
	"conflicts":          count("different messages at one place", func(r *Report) int { return r.Check.Conflicts }),
	"unacknowledged":     count("messages sent without an answer", func(r *Report) int { return r.Unacknowledged }),
	"unsent":             count("messages that could not be sent in time", func(r *Report) int { return r.Unsent }),
	"refused":            count("messages that the server did not take", func(r *Report) int { return r.Refused }),
	"connections.open":   count("connections when the load began", func(r *Report) int { return r.Connections.Open }),
	"connections.failed": count("attempts to connect that failed", func(r *Report) int { return r.Connections.Failed }),
	"connections.broken": count("connections that broke", func(r *Report) int { return r.Connections.Broken }),
	"acknowledged.rate": {number, "messages acknowledged a second", func(r *Report) (float64, bool) {
		return r.Total.AckRate(), true
	}},
	"delivered.rate": {number, "deliveries a second", func(r *Report) (float64, bool) { return r.Total.DeliveryRate(), true }},
	"sustained": {number, "of a sweep: the highest load that was served, in messages a second", func(r *Report) (float64, bool) {
		if r.Sweep == nil {
			return 0, false
		}
		return r.Sweep.Sustained, true
	}},
	"server.cores":           server(number, "processors the servers used", func(s *Server) float64 { return s.Cores }),
	"server.rss":             server(byteSize, "memory of the servers", func(s *Server) float64 { return s.RSS }),
	"server.per_connection":  server(byteSize, "memory of the servers a connection", func(s *Server) float64 { return s.PerConnection }),
	"server.per_core_second": server(number, "deliveries a second of a server's processor", func(s *Server) float64 { return s.PerCoreSecond }),
}

var distributions = map[string]struct {
	about string
	of    func(*Report) *Latency
}{
	"connect":  {"time to connect", func(r *Report) *Latency { return r.Total.Connect }},
	"response": {"time until a message is acknowledged", func(r *Report) *Latency { return r.Total.Response }},
	"delivery": {"time until a message arrives", func(r *Report) *Latency { return r.Total.Delivery }},
	"resumed":  {"the same, at those who were away", func(r *Report) *Latency { return r.Total.Resumed }},
	"back":     {"time to be back after a cut", func(r *Report) *Latency { return r.Total.Back }},
	"login":    {"time of a login", func(r *Report) *Latency { return r.Total.Login }},
	"half": {"of a sweep: delivery at half of the load that was served", func(r *Report) *Latency {
		if r.Sweep == nil {
			return nil
		}
		return r.Sweep.Half
	}},
}

var statistics = map[string]func(*Latency) Duration{
	"min":   func(l *Latency) Duration { return l.Min },
	"mean":  func(l *Latency) Duration { return l.Mean },
	"p50":   func(l *Latency) Duration { return l.P50 },
	"p90":   func(l *Latency) Duration { return l.P90 },
	"p95":   func(l *Latency) Duration { return l.P95 },
	"p99":   func(l *Latency) Duration { return l.P99 },
	"p99.9": func(l *Latency) Duration { return l.P999 },
	"max":   func(l *Latency) Duration { return l.Max },
}

func init() {
	for name, d := range distributions {
		for statistic, of := range statistics {
			metrics[name+"."+statistic] = metric{duration, d.about, func(r *Report) (float64, bool) {
				l := d.of(r)
				if l == nil {
					return 0, false
				}
				return float64(of(l)), true
			}}
		}
	}
}

var thresholdForm = regexp.MustCompile(`^\s*([a-z0-9._]+)\s*(<=|>=|==|!=|<|>)\s*([0-9.]+)\s*([A-Za-zµ]*)\s*$`)

var units = map[string]struct {
	unit   unit
	factor float64
}{
	"": {number, 1}, "us": {duration, float64(time.Microsecond)}, "µs": {duration, float64(time.Microsecond)},
	"ms": {duration, float64(time.Millisecond)}, "s": {duration, float64(time.Second)}, "m": {duration, float64(time.Minute)},
	"B": {byteSize, 1}, "KB": {byteSize, 1e3}, "MB": {byteSize, 1e6}, "GB": {byteSize, 1e9},
	"KiB": {byteSize, 1 << 10}, "MiB": {byteSize, 1 << 20}, "GiB": {byteSize, 1 << 30},
}

// ParseThreshold reads one like lost==0, delivery.p99<50ms or
// server.per_connection<10KiB.
func ParseThreshold(text string) (Threshold, error) {
	part := thresholdForm.FindStringSubmatch(text)
	if part == nil {
		return Threshold{}, fmt.Errorf("%q is no threshold: write it like delivery.p99<50ms or lost==0", text)
	}
	m, known := metrics[part[1]]
	if !known {
		return Threshold{}, fmt.Errorf("nothing that is measured is called %q; there are: %s", part[1], metricNames())
	}
	limit, err := strconv.ParseFloat(part[3], 64)
	if err != nil {
		return Threshold{}, fmt.Errorf("the threshold %q has no number: %w", text, err)
	}
	u, known := units[part[4]]
	if !known || u.unit != m.unit {
		return Threshold{}, fmt.Errorf("the threshold %q needs %s", text, map[unit]string{
			number: "a number without a unit", duration: "a time, like 50ms or 2s", byteSize: "a size, like 10KiB or 50MB",
		}[m.unit])
	}
	return Threshold{strings.TrimSpace(text), part[1], part[2], limit * u.factor, m.unit}, nil
}

// metricNames lists what thresholds can be about.
func metricNames() string {
	var names []string
	for name := range metrics {
		if before, _, dotted := strings.Cut(name, "."); !dotted || distributions[before].of == nil {
			names = append(names, name)
		}
	}
	for name := range distributions {
		names = append(names, name+".p99")
	}
	slices.Sort(names)
	return strings.Join(names, ", ") + " (or " + strings.Join(slices.Sorted(maps.Keys(statistics)), ", ") + ")"
}

// Judge compares the report with the thresholds.
func (r *Report) Judge(all []Threshold) {
	r.Thresholds = nil
	for _, t := range all {
		r.Thresholds = append(r.Thresholds, t.judge(r))
	}
}

func (t Threshold) judge(r *Report) Verdict {
	v, measured := metrics[t.metric].value(r)
	if !measured {
		return Verdict{t.text, "not measured", false}
	}
	order := cmp.Compare(v, t.limit)
	held := map[string]bool{
		"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0, "==": order == 0, "!=": order != 0,
	}[t.op]
	text := thousands(v)
	switch t.unit {
	case duration:
		text = Duration(v).String()
	case byteSize:
		text = size(v)
	}
	return Verdict{t.text, text, held}
}
