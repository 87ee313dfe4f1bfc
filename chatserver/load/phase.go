package load

import (
	"sync/atomic"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/load/latency"
	"github.com/chatcluster/chatcluster/chatserver/load/pulse"
	"github.com/chatcluster/chatcluster/chatserver/load/report"
	"github.com/chatcluster/chatcluster/chatserver/load/scrape"
)

// phase is a time of the run with a load of its own. Counts are of what happened
// in it; the times of messages are of those that were due in it.
type phase struct {
	index    int // in run.phases
	name     string
	pace     pace // of messages
	measured bool // it is part of the result

	due, sent, acked, delivered, bytes atomic.Int64

	connect, response, delivery, resumed, back, login, lag latency.Recorder

	took   time.Duration // of sending
	ended  counts        // at the end of sending
	served int64         // of a step of a sweep: messages acknowledged soon after
	usage  pulse.Usage
	server *scrape.Usage
}

// counts are a phase's at one moment.
type counts struct{ due, sent, acked, delivered, bytes int64 }

func (p *phase) counts() counts {
	return counts{p.due.Load(), p.sent.Load(), p.acked.Load(), p.delivered.Load(), p.bytes.Load()}
}

// step is the phase as it is reported.
func (p *phase) step() report.Step {
	return stepOf([]*phase{p})
}

// stepOf reports several phases as one.
func stepOf(phases []*phase) report.Step {
	var s report.Step
	var connect, response, delivery, resumed, back, login, lag, wake latency.Times
	var server scrape.Usage
	var cores, machine float64 // times seconds
	scraped := false
	for _, p := range phases {
		seconds := p.took.Seconds()
		s.Seconds += seconds
		s.Due, s.Sent, s.Acknowledged = s.Due+p.ended.due, s.Sent+p.ended.sent, s.Acknowledged+p.ended.acked
		s.Delivered, s.Bytes = s.Delivered+p.ended.delivered, s.Bytes+p.ended.bytes
		for _, t := range []struct {
			sum *latency.Times
			of  *latency.Recorder
		}{
			{&connect, &p.connect}, {&response, &p.response}, {&delivery, &p.delivery}, {&resumed, &p.resumed},
			{&back, &p.back}, {&login, &p.login}, {&lag, &p.lag},
		} {
			t.sum.Add(t.of.Total())
		}
		wake.Add(p.usage.Late)
		cores += p.usage.Cores * seconds
		machine += p.usage.Machine * seconds
		s.Self.Of = p.usage.Available
		if p.server != nil {
			scraped = true
			cpu := server.CPU + p.server.CPU
			restarts := server.Restarts + p.server.Restarts
			server = *p.server
			server.CPU, server.Restarts = cpu, restarts
		}
	}
	if s.Seconds > 0 {
		s.Offered = float64(s.Due) / s.Seconds
		s.Self.Cores, s.Self.Machine = cores/s.Seconds, machine/s.Seconds
	}
	s.Connect, s.Response, s.Delivery = report.LatencyOf(connect), report.LatencyOf(response), report.LatencyOf(delivery)
	s.Resumed, s.Back, s.Login = report.LatencyOf(resumed), report.LatencyOf(back), report.LatencyOf(login)
	s.Self.SendLag, s.Self.WakeLag = report.LatencyOf(lag), report.LatencyOf(wake)
	if scraped {
		s.Server = &report.Server{
			CPU: server.CPU, RSS: server.RSS, Goroutines: server.Goroutines, OpenFDs: server.FDs, Restarts: server.Restarts,
		}
		if s.Seconds > 0 {
			s.Server.Cores = server.CPU / s.Seconds
		}
		if server.CPU > 0 {
			s.Server.PerCoreSecond = float64(s.Delivered) / server.CPU
		}
	}
	return s
}
