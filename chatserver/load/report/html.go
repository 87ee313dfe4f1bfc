package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"thousands": thousands,
	"count":     func(n int64) string { return thousands(float64(n)) },
	"counted":   counted,
	"cores":     serverCores,
	"quantile":  quantile,
	"date":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") },
	"took": func(seconds float64) string {
		return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
	},
}).Parse(pageText))

// HTML is the report as one file, which fetches nothing.
func (r *Report) HTML() ([]byte, error) {
	var b bytes.Buffer
	if err := page.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("write the report as HTML: %w", err)
	}
	return b.Bytes(), nil
}

// Tile is a figure to see first.
type Tile struct{ Name, Value, Unit string }

// Tiles are the most important figures.
func (r *Report) Tiles() []Tile {
	t := &r.Total
	tiles := []Tile{{"connections", thousands(float64(r.Connections.Open)), ""}}
	add := func(name string, value string, unit string) { tiles = append(tiles, Tile{name, value, unit}) }
	if r.Sweep != nil {
		add("load served", thousands(r.Sweep.Sustained), "messages/s")
		if h := r.Sweep.Half; h != nil {
			add("delivery p99 at half of it", h.P99.String(), "")
		}
	} else if t.Due > 0 {
		add("acknowledged", thousands(math.Round(t.AckRate())), "/s")
		add("delivered", thousands(math.Round(t.DeliveryRate())), "/s")
	}
	if r.Sweep == nil {
		for _, d := range t.Distributions() {
			if d.Name != "resumed" {
				add(d.Name+" p99", d.P99.String(), "")
			}
		}
	}
	if s := t.Server; s != nil {
		if t.Delivered > 0 {
			add("deliveries a core-second", thousands(math.Round(s.PerCoreSecond)), "")
		}
		if s.PerConnection > 0 {
			add("memory a connection", size(s.PerConnection), "")
		}
	}
	if r.Check.Acknowledged > 0 {
		add("lost, doubled, reordered", fmt.Sprintf("%d, %d, %d", r.Check.Lost, r.Check.Duplicated, r.Check.Reordered), "")
	}
	return tiles
}

// milliseconds writes a time without the zeros that say nothing at an axis.
func milliseconds(v float64) string {
	text := Duration(v * float64(time.Millisecond)).String()
	number := strings.TrimRight(text, "msµ")
	if !strings.Contains(number, ".") {
		return text
	}
	return strings.TrimRight(strings.TrimRight(number, "0"), ".") + text[len(number):]
}

// LoadChart is a sweep's response time, throughput and latency against load.
func (r *Report) LoadChart() template.HTML {
	if r.Sweep == nil || len(r.Steps) < 2 {
		return ""
	}
	c := chart{
		label:  "Response time, throughput and delivery latency against load",
		xLabel: "load offered, messages a second", format: thousands,
	}
	n := len(r.Steps)
	response50, response99 := make([]float64, n), make([]float64, n)
	delivery50, delivery99 := make([]float64, n), make([]float64, n)
	delivered, ideal := make([]float64, n), make([]float64, n)
	copies := 1.0 // deliveries a message
	if first := &r.Steps[0]; first.Acknowledged > 0 {
		copies = float64(first.Delivered) / float64(first.Acknowledged)
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		c.x = append(c.x, s.Offered)
		response50[i], response99[i] = both(s.Response)
		delivery50[i], delivery99[i] = both(s.Delivery)
		delivered[i], ideal[i] = s.DeliveryRate(), s.Offered*copies
	}
	c.panels = []panel{
		{"Response time: until a message is acknowledged", milliseconds, []line{{"p50", "median", response50}, {"p99", "tail", response99}}, true},
		{"Throughput: messages delivered a second", thousands, []line{{"all of it", "ideal", ideal}, {"delivered", "flow", delivered}}, false},
		{"Latency: until a message is delivered", milliseconds, []line{{"p50", "median", delivery50}, {"p99", "tail", delivery99}}, true},
	}
	if r.Sweep.Saturated > 0 {
		c.marks = []mark{{c.x[n-1], "more than is served"}}
	}
	return c.svg()
}

func both(l *Latency) (p50, p99 float64) {
	if l == nil {
		return math.NaN(), math.NaN()
	}
	return l.P50.Milliseconds(), l.P99.Milliseconds()
}

// TimeChart is the run second by second.
func (r *Report) TimeChart() template.HTML {
	if len(r.Series) < 3 {
		return ""
	}
	c := chart{
		label: "The run, second by second", xLabel: "time",
		format: func(v float64) string { return time.Duration(v * float64(time.Second)).Round(time.Second).String() },
	}
	n := len(r.Series)
	connected, delivered := make([]float64, n), make([]float64, n)
	p50, p99 := make([]float64, n), make([]float64, n)
	phase := ""
	anything := false
	for i, s := range r.Series {
		c.x = append(c.x, s.At)
		connected[i], delivered[i] = float64(s.Connected), float64(s.Delivered)
		p50[i], p99[i] = math.NaN(), math.NaN()
		if s.P99 > 0 {
			p50[i], p99[i] = s.P50.Milliseconds(), s.P99.Milliseconds()
			anything = true
		}
		if s.Phase != phase && r.Sweep == nil {
			c.marks = append(c.marks, mark{s.At, s.Phase})
		}
		phase = s.Phase
	}
	c.panels = []panel{{"Connections in all of their rooms", thousands, []line{{"connected", "flow", connected}}, false}}
	if anything {
		c.panels = append(c.panels,
			panel{"Messages delivered a second", thousands, []line{{"delivered", "flow", delivered}}, false},
			panel{"Time until a message is delivered", milliseconds, []line{{"p50", "median", p50}, {"p99", "tail", p99}}, true})
	}
	return c.svg()
}
