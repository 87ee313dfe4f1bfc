package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// distribution is a named Latency of a Step.
type distribution struct {
	Name, About string
	*Latency
}

// Distributions are those of the step that were measured.
func (s *Step) Distributions() []distribution {
	all := []distribution{
		{"connect", "from the start of an attempt to the server's greeting", s.Connect},
		{"response", "from when a message was to be sent to its acknowledgement", s.Response},
		{"delivery", "from when it was to be sent to its arrival at each member", s.Delivery},
		{"resumed", "the same, at members that were away and came back", s.Resumed},
		{"back", "from a cut to being in all rooms again", s.Back},
		{"login", "from when a login was to be made to its answer", s.Login},
	}
	return slices.DeleteFunc(all, func(d distribution) bool { return d.Latency == nil })
}

// Text writes the report for a terminal.
func (r *Report) Text(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n\n", r.Scenario, r.Title)
	r.figures(&b)
	b.WriteByte('\n')
	latencies(&b, &r.Total)
	if len(r.Steps) > 0 {
		b.WriteByte('\n')
		r.steps(&b)
	}
	r.remarks(&b)
	_, err := io.WriteString(out, b.String())
	return err
}

// figures writes what fits a line each.
func (r *Report) figures(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, f := range r.Figures() {
		_, _ = fmt.Fprintf(w, "  %s\t%s\n", f.Name, f.Value)
	}
	_ = w.Flush() // to memory
}

// Figures are what the run comes to, each in a line.
func (r *Report) Figures() []Setting {
	var all []Setting
	add := func(name, format string, args ...any) {
		all = append(all, Setting{name, fmt.Sprintf(format, args...)})
	}
	c, t := r.Connections, &r.Total
	connections := fmt.Sprintf("%s of %s open after %.1fs", thousands(float64(c.Open)), thousands(float64(c.Wanted)), c.Seconds)
	if c.Failed+c.Broken > 0 {
		connections += fmt.Sprintf("; %s attempts failed, %s connections broke", thousands(float64(c.Failed)), thousands(float64(c.Broken)))
	}
	add("connections", "%s", connections)
	if t.Due > 0 {
		add("acknowledged", "%s messages/s of %s offered, for %.0fs", thousands(t.AckRate()), thousands(t.Offered), t.Seconds)
		add("delivered", "%s messages/s, %s in all", thousands(t.DeliveryRate()), thousands(float64(t.Delivered)))
	}
	if r.Unsent+r.Unacknowledged+r.Refused > 0 {
		add("not delivered", "%d not sent, %d not acknowledged, %d refused", r.Unsent, r.Unacknowledged, r.Refused)
	}
	if r.Check.Members > 0 && r.Check.Acknowledged > 0 {
		add("check", "%s", strings.ReplaceAll(r.Check.String(), "\n", "\n\t"))
	}
	if len(r.Closes) > 0 {
		add("closed", "%s", strings.Join(counted(r.Closes), ", "))
	}
	if s := t.Server; s != nil {
		memory := fmt.Sprintf("%s of memory", size(s.RSS))
		if s.PerConnection > 0 {
			memory += fmt.Sprintf(", %s a connection above the %s before", size(s.PerConnection), size(s.RSSBefore))
		}
		add("servers", "%.2f cores (%.1f core-seconds), %s", s.Cores, s.CPU, memory)
		if t.Delivered > 0 {
			add("", "%s deliveries a core-second", thousands(s.PerCoreSecond))
		}
		if s.Restarts > 0 {
			add("", "%d restarts", s.Restarts)
		}
	}
	add("this tool", "%s", t.Self.String())
	return all
}

func (s Self) String() string {
	text := fmt.Sprintf("%.2f of %d cores", s.Cores, s.Of)
	if s.SendLag != nil {
		text += fmt.Sprintf(", sent %v late (p99)", s.SendLag.P99)
	}
	if s.WakeLag != nil {
		text += fmt.Sprintf(", ran %v late (p99)", s.WakeLag.P99)
	}
	if s.Machine > 0 {
		text += fmt.Sprintf("; this machine was %.0f %% busy", 100*s.Machine)
	}
	return text
}

func latencies(b *strings.Builder, s *Step) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "\tmin\tmean\tp50\tp90\tp95\tp99\tp99.9\tmax\tcount\t")
	for _, d := range s.Distributions() {
		_, _ = fmt.Fprintf(w, "  %s\t%v\t%v\t%v\t%v\t%v\t%v\t%v\t%v\t%s\t\n",
			d.Name, d.Min, d.Mean, d.P50, d.P90, d.P95, d.P99, d.P999, d.Max, thousands(float64(d.Count)))
	}
	_ = w.Flush()
	for _, d := range s.Distributions() {
		fmt.Fprintf(b, "  %s: %s\n", d.Name, d.About)
	}
}

// steps writes a sweep's.
func (r *Report) steps(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "\toffered/s\tacknowledged/s\tdelivered/s\tresponse p50\tp99\tdelivery p50\tp99\tservers' cores\tour cores\t")
	for i := range r.Steps {
		s := &r.Steps[i]
		mark := ""
		if len(s.Warnings) > 0 {
			mark = "!"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t\n", mark,
			thousands(s.Offered), thousands(s.AckRate()), thousands(s.DeliveryRate()),
			quantile(s.Response, .5), quantile(s.Response, .99), quantile(s.Delivery, .5), quantile(s.Delivery, .99),
			serverCores(s.Server), s.Self.Cores)
	}
	_ = w.Flush()
	for i := range r.Steps {
		if len(r.Steps[i].Warnings) > 0 {
			b.WriteString("  ! not to be trusted: this program was too slow for it\n")
			break
		}
	}
	fmt.Fprintf(b, "  %s\n", r.Sweep)
}

// String is the sweep in a sentence.
func (s *Sweep) String() string {
	if s == nil {
		return ""
	}
	text := fmt.Sprintf("%s messages/s were served", thousands(s.Sustained))
	if s.Sustained == 0 {
		text = "no step was served"
	}
	if s.Why != "" {
		text += fmt.Sprintf("; at %s/s %s", thousands(s.Saturated), s.Why)
	} else {
		text += "; the servers can take more than was offered"
	}
	return text
}

func quantile(l *Latency, q float64) string {
	switch {
	case l == nil:
		return "-"
	case q == .5:
		return l.P50.String()
	}
	return l.P99.String()
}

func serverCores(s *Server) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", s.Cores)
}

// remarks writes what a person has to know before believing the rest.
func (r *Report) remarks(b *strings.Builder) {
	if len(r.Problems) > 0 {
		b.WriteString("\nproblems\n")
		for _, line := range counted(r.Problems) {
			fmt.Fprintf(b, "  %s\n", line)
		}
	}
	if len(r.Notes) > 0 {
		b.WriteString("\nnotes\n")
		for _, n := range r.Notes {
			fmt.Fprintf(b, "  %s\n", n)
		}
	}
	if len(r.Thresholds) > 0 {
		b.WriteString("\nthresholds\n")
		for _, v := range r.Thresholds {
			fmt.Fprintf(b, "  %s  %s  (%s)\n", map[bool]string{true: "held   ", false: "CROSSED"}[v.Held], v.Threshold, v.Value)
		}
	}
	if !r.Check.Clean() {
		b.WriteString("\nDELIVERY IS NOT CLEAN: messages were lost, doubled or out of order; see check.\n")
	}
	if !r.Trusted() {
		b.WriteString("\nDO NOT TRUST THIS RESULT: it says more about this program and its machine than about the servers.\n")
		for _, w := range r.Warnings {
			fmt.Fprintf(b, "  %s\n", w)
		}
	}
}
