// Package report is what a load test found out, and how it is told: to a person
// at a terminal, to a program as JSON, and as one HTML file to keep. It judges
// the thresholds. It knows nothing of how the load was made.
package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/ledger"
	"github.com/chatcluster/chatcluster/chatserver/load/latency"
)

// Report is one run.
type Report struct {
	Tool     string    `json:"tool"` // name and version
	Scenario string    `json:"scenario"`
	Title    string    `json:"title"` // the run in a sentence
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"` // all of it, preparations included
	Settings []Setting `json:"settings"`

	Connections Connections `json:"connections"`

	Total  Step     `json:"total"`  // all that was measured
	Steps  []Step   `json:"steps"`  // of a sweep, with rising load
	Series []Second `json:"series"` // from the first connection to the last

	Check          ledger.Report  `json:"check"`          // of delivery
	Unsent         int            `json:"unsent"`         // messages whose time had come but that could not be sent
	Unacknowledged int            `json:"unacknowledged"` // sent, and no answer came
	Refused        int            `json:"refused"`        // that the server did not take
	Closes         map[string]int `json:"closes"`         // ends of connections before the run's own, by WebSocket close code
	Problems       map[string]int `json:"problems"`       // what went wrong, and how often

	Sweep *Sweep `json:"sweep,omitempty"`

	Warnings   []string  `json:"warnings"`   // reasons not to trust the result
	Notes      []string  `json:"notes"`      // what to know about it
	Thresholds []Verdict `json:"thresholds"` // what it was to reach
}

// Setting is one of the things that were asked for.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Connections are how it went with them.
type Connections struct {
	Wanted  int     `json:"wanted"`
	Open    int     `json:"open"`    // when the load began
	Failed  int     `json:"failed"`  // attempts, later ones included
	Broken  int     `json:"broken"`  // that ended and were neither meant to nor told why
	Seconds float64 `json:"seconds"` // until they were open
}

// Step is what was measured under one load.
type Step struct {
	Offered      float64 `json:"offered"`      // messages a second that were to be sent
	Seconds      float64 `json:"seconds"`      // of sending
	Due          int64   `json:"due"`          // messages whose time came
	Sent         int64   `json:"sent"`         // in that time,
	Acknowledged int64   `json:"acknowledged"` // the same,
	Delivered    int64   `json:"delivered"`    // and messages that arrived in it
	Bytes        int64   `json:"bytes"`        // of what arrived

	Connect  *Latency `json:"connect,omitempty"`  // from the start of an attempt to the server's greeting
	Response *Latency `json:"response,omitempty"` // of a message, from when it was to be sent to its acknowledgement
	Delivery *Latency `json:"delivery,omitempty"` // from when it was to be sent to its arrival at each member that was there
	Resumed  *Latency `json:"resumed,omitempty"`  // the same, at members that were away and got it after they came back
	Back     *Latency `json:"back,omitempty"`     // from a connection's cut to being in all rooms again
	Login    *Latency `json:"login,omitempty"`    // from when a login was to be made to its answer

	Server *Server `json:"server,omitempty"`
	Self   Self    `json:"self"`

	Warnings []string `json:"warnings,omitempty"` // reasons not to trust it
}

// AckRate is messages acknowledged a second.
func (s *Step) AckRate() float64 { return rate(s.Acknowledged, s.Seconds) }

// DeliveryRate is deliveries a second.
func (s *Step) DeliveryRate() float64 { return rate(s.Delivered, s.Seconds) }

func rate(n int64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}

// Server is what all servers together used.
type Server struct {
	CPU           float64 `json:"cpuSeconds"`
	Cores         float64 `json:"cores"`                        // on average
	RSSBefore     float64 `json:"rssBefore"`                    // bytes, before the first connection
	RSS           float64 `json:"rss"`                          // at the end of measuring
	PerConnection float64 `json:"bytesPerConnection,omitempty"` // RSS above that before the first connection
	PerCoreSecond float64 `json:"deliveriesPerCoreSecond,omitzero"`
	Goroutines    float64 `json:"goroutines"`
	OpenFDs       float64 `json:"openFDs"`
	Restarts      int     `json:"restarts"`
}

// Self is how the load tool itself was.
type Self struct {
	Cores   float64  `json:"cores"`             // that it used on average
	Of      int      `json:"of"`                // that it may use
	Machine float64  `json:"machine,omitempty"` // share of the machine's processors that was taken by anybody
	SendLag *Latency `json:"sendLag,omitempty"` // from when a message was to be sent and could be, to when it was
	WakeLag *Latency `json:"wakeLag,omitempty"` // how late its goroutines ran
	Backlog int      `json:"backlog,omitempty"` // messages that waited to be sent at the end
}

// Second is one second of the run.
type Second struct {
	At           float64  `json:"at"` // seconds since the start
	Phase        string   `json:"phase"`
	Connected    int      `json:"connected"`
	Sent         int64    `json:"sent"`
	Acknowledged int64    `json:"acknowledged"`
	Delivered    int64    `json:"delivered"`
	P50          Duration `json:"p50"` // of delivery
	P99          Duration `json:"p99"`
	Cores        float64  `json:"cores"` // of this tool
	Lag          Duration `json:"lag"`   // of its goroutines, 99th percentile
}

// Sweep is what rising load showed.
type Sweep struct {
	Sustained float64  `json:"sustained"`           // the highest load, in messages a second, that was served
	Saturated float64  `json:"saturated,omitempty"` // the lowest that was not; 0: none
	Why       string   `json:"why,omitempty"`       // it was not
	Half      *Latency `json:"half,omitempty"`      // delivery at the step next to half of the sustained load
	HalfLoad  float64  `json:"halfLoad,omitempty"`
}

// Latency is a distribution of times.
type Latency struct {
	Count int64    `json:"count"`
	Min   Duration `json:"min"`
	Mean  Duration `json:"mean"`
	P50   Duration `json:"p50"`
	P90   Duration `json:"p90"`
	P95   Duration `json:"p95"`
	P99   Duration `json:"p99"`
	P999  Duration `json:"p99.9"`
	Max   Duration `json:"max"`
}

// LatencyOf is nil if there are no times.
func LatencyOf(t latency.Times) *Latency {
	if t.Count() == 0 {
		return nil
	}
	return &Latency{
		Count: t.Count(), Min: Duration(t.Min()), Mean: Duration(t.Mean()),
		P50: Duration(t.Quantile(.5)), P90: Duration(t.Quantile(.9)), P95: Duration(t.Quantile(.95)),
		P99: Duration(t.Quantile(.99)), P999: Duration(t.Quantile(.999)), Max: Duration(t.Max()),
	}
}

// Duration is a time. In JSON it is a number of milliseconds.
type Duration time.Duration

// MarshalJSON writes milliseconds.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.Milliseconds()) }

// UnmarshalJSON reads milliseconds.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var ms float64
	if err := json.Unmarshal(b, &ms); err != nil {
		return err
	}
	*d = Duration(ms * float64(time.Millisecond))
	return nil
}

// Milliseconds is the number of them.
func (d Duration) Milliseconds() float64 { return float64(d) / float64(time.Millisecond) }

// String is for people: three digits are enough.
func (d Duration) String() string {
	switch v := time.Duration(d); {
	case v >= time.Minute:
		return v.Round(time.Second).String()
	case v >= time.Second:
		return digits(v.Seconds()) + "s"
	case v >= time.Millisecond:
		return digits(d.Milliseconds()) + "ms"
	default:
		return digits(float64(v)/float64(time.Microsecond)) + "µs"
	}
}

func digits(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// JSON is the whole report. Rooms in which all is well are left out.
func (r *Report) JSON() ([]byte, error) {
	short := *r
	short.Check.Rooms = maps.Clone(r.Check.Rooms)
	maps.DeleteFunc(short.Check.Rooms, func(_ string, c ledger.Counts) bool { return c.Clean() && c.Declared == 0 })
	b, err := json.MarshalIndent(short, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the report as JSON: %w", err)
	}
	return append(b, '\n'), nil
}

// Trusted says that nothing speaks against the figures.
func (r *Report) Trusted() bool { return len(r.Warnings) == 0 }

// Passed says that delivery was clean and all thresholds held.
func (r *Report) Passed() bool {
	return r.Check.Clean() && !slices.ContainsFunc(r.Thresholds, func(v Verdict) bool { return !v.Held })
}

// counted lists what happened and how often, the most frequent first.
func counted(m map[string]int) []string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	})
	lines := make([]string, len(keys))
	for i, key := range keys {
		lines[i] = fmt.Sprintf("%s × %s", key, thousands(float64(m[key])))
	}
	return lines
}

// thousands writes a number with separators, and small ones with what is behind the point.
func thousands(v float64) string {
	if v < 0 {
		return "-" + thousands(-v)
	}
	if v < 100 && v != float64(int64(v)) {
		return digits(v)
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// size writes bytes for people.
func size(bytes float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; i < len(units)-1 && (bytes >= 1024 || bytes <= -1024); i++ {
		bytes /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", bytes)
	}
	return fmt.Sprintf("%.1f %s", bytes, units[i])
}
