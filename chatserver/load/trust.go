package load

import (
	"fmt"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/load/report"
)

const (
	// enoughLag is how late this program may be before it matters, whatever it measures.
	enoughLag = 5 * time.Millisecond
	// lagShare is how large its lateness may be beside the times that it measured.
	lagShare = 0.2
	// busyShare of its processors is all that a program can use without waiting for them.
	busyShare = 0.9
	// sentShare of the messages that were due has to be sent by this program.
	sentShare = 0.99
	// fullMachine is a machine on which everybody waits for a processor.
	fullMachine = 0.95
)

// distrust gives the reasons for which a step says more about this program than
// about the servers.
func distrust(s *report.Step) []string {
	var why []string
	limit := enoughLag
	if s.Delivery != nil {
		limit = max(limit, time.Duration(lagShare*float64(s.Delivery.P99)))
	}
	if l := s.Self.SendLag; l != nil && time.Duration(l.P99) > limit {
		why = append(why, fmt.Sprintf("messages left this program %v late (p99), of a delivery time of %v", l.P99, p99(s.Delivery)))
	}
	if l := s.Self.WakeLag; l != nil && time.Duration(l.P99) > limit {
		why = append(why, fmt.Sprintf("this program's goroutines ran %v late (p99): it waits for a processor", l.P99))
	}
	if s.Self.Of > 0 && s.Self.Cores > busyShare*float64(s.Self.Of) {
		why = append(why, fmt.Sprintf("this program used %.2f of its %d processors: it is the bottleneck", s.Self.Cores, s.Self.Of))
	}
	return why
}

func p99(l *report.Latency) report.Duration {
	if l == nil {
		return 0
	}
	return l.P99
}

// notes tell what explains a result without making it wrong.
func notes(r *report.Report) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if r.Connections.Open < r.Connections.Wanted {
		add("only %d of %d connections were open when the load began", r.Connections.Open, r.Connections.Wanted)
	}
	if r.Closes["4401"] > 0 {
		add("tokens or sessions ended during the run (4401); who could not renew them did not come back")
	}
	if r.Closes["1008"] > 0 {
		add("the server's message limit cut connections: start it with --messages-per-10s 0 for a load test")
	}
	if s := r.Total; s.Due > 0 && float64(s.Sent) < sentShare*float64(s.Due) {
		add("%d of %d messages could not be sent when they were due, because too many before them were not acknowledged", s.Due-s.Sent, s.Due)
	}
	if r.Total.Self.Machine > fullMachine {
		add("this machine's processors were all taken: if servers run on it, they and this program took each other's time")
	}
	if r.Total.Server == nil {
		add("the servers' CPU and memory were not read: give their /metrics with --metrics")
	}
	return all
}
