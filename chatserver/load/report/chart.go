package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// chart is panels one above the other that share their x axis: what belongs
// together is read on one vertical line, and no panel has two scales.
type chart struct {
	label  string // for those who hear it
	xLabel string
	x      []float64
	format func(float64) string // of x
	panels []panel
	marks  []mark
}

// panel is one scale and what is drawn on it.
type panel struct {
	title  string
	format func(float64) string
	lines  []line
	log    bool // the scale, if the values differ much
}

// line is one value for each x; NaN where there is none.
type line struct {
	name  string
	class string // of the style sheet
	y     []float64
}

// mark is a moment or a load to point out.
type mark struct {
	x    float64
	text string
}

// Sizes of a chart in the units of its view box, which are pixels where there is room.
const (
	chartWidth  = 880.0
	panelHeight = 150.0
	panelGap    = 46.0 // above each panel, for its title
	leftMargin  = 76.0
	rightMargin = 96.0 // for the lines' names
	axisHeight  = 44.0
)

// svg draws the chart. All text is escaped; nothing is fetched.
func (c *chart) svg() template.HTML {
	if len(c.x) == 0 {
		return ""
	}
	var b strings.Builder
	height := float64(len(c.panels))*(panelGap+panelHeight) + axisHeight
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, chartWidth, height, escape(c.label))
	xs := newScale(c.x, true, false)
	at := func(x float64) float64 { return leftMargin + xs.at(x)*(chartWidth-leftMargin-rightMargin) }
	bottom := 0.0
	for i, p := range c.panels {
		top := float64(i)*(panelGap+panelHeight) + panelGap
		bottom = top + panelHeight
		p.svg(&b, c.x, at, top)
	}
	for i, m := range c.marks {
		x := at(m.x)
		fmt.Fprintf(&b, `<line class="mark" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x, x, panelGap, bottom)
		anchor, dx := "start", 5.0
		if xs.at(m.x) > .7 {
			anchor, dx = "end", -5
		}
		fmt.Fprintf(&b, `<text class="mark" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x+dx, panelGap+11+float64(i)*13, anchor, escape(m.text))
	}
	for _, x := range xs.ticks {
		fmt.Fprintf(&b, `<text class="tick" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`, at(x), bottom+17, escape(c.format(x)))
	}
	fmt.Fprintf(&b, `<text class="axis" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
		(leftMargin+chartWidth-rightMargin)/2, bottom+38, escape(c.xLabel))
	c.tips(&b, at, bottom)
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // every text in it went through escape
}

// tips tell all values at an x to whoever points there.
func (c *chart) tips(b *strings.Builder, at func(float64) float64, bottom float64) {
	for i, x := range c.x {
		left, right := at(x), at(x)
		if i > 0 {
			left = (at(c.x[i-1]) + at(x)) / 2
		}
		if i < len(c.x)-1 {
			right = (at(x) + at(c.x[i+1])) / 2
		}
		left, right = min(left, at(x)-4), max(right, at(x)+4)
		tip := c.xLabel + ": " + c.format(x)
		for _, p := range c.panels {
			for _, l := range p.lines {
				if !math.IsNaN(l.y[i]) {
					tip += fmt.Sprintf("\n%s, %s: %s", p.title, l.name, p.format(l.y[i]))
				}
			}
		}
		fmt.Fprintf(b, `<g class="tip"><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"/><line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><title>%s</title></g>`,
			left, panelGap, right-left, bottom-panelGap, at(x), at(x), panelGap, bottom, escape(tip))
	}
}

func (p *panel) svg(b *strings.Builder, xs []float64, at func(float64) float64, top float64) {
	var values []float64
	for _, l := range p.lines {
		values = append(values, l.y...)
	}
	scale := newScale(values, true, p.log)
	y := func(v float64) float64 { return top + panelHeight*(1-scale.at(v)) }
	title := p.title
	if scale.log {
		title += " (logarithmic)"
	}
	fmt.Fprintf(b, `<text class="title" x="%.0f" y="%.1f">%s</text>`, leftMargin-66, top-14, escape(title))
	for _, tick := range scale.ticks {
		fmt.Fprintf(b, `<line class="grid" x1="%.0f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, leftMargin, chartWidth-rightMargin, y(tick), y(tick))
		fmt.Fprintf(b, `<text class="tick" x="%.0f" y="%.1f" text-anchor="end">%s</text>`, leftMargin-8, y(tick)+4, escape(p.format(tick)))
	}
	var names []label
	for _, l := range p.lines {
		var path strings.Builder
		pen := "M"
		last := -1
		for i, v := range l.y {
			if math.IsNaN(v) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, at(xs[i]), y(v))
			pen, last = "L", i
		}
		fmt.Fprintf(b, `<path class="line %s" d="%s"/>`, l.class, path.String())
		if len(xs) <= 40 && l.class != "ideal" {
			for i, v := range l.y {
				if !math.IsNaN(v) {
					fmt.Fprintf(b, `<circle class="%s" cx="%.1f" cy="%.1f" r="3"/>`, l.class, at(xs[i]), y(v))
				}
			}
		}
		if last >= 0 {
			names = append(names, label{l.name, l.class, y(l.y[last])})
		}
	}
	for _, n := range spread(names) {
		fmt.Fprintf(b, `<text class="name %s" x="%.1f" y="%.1f">%s</text>`, n.class, chartWidth-rightMargin+10, n.y+4, escape(n.text))
	}
}

// label is the name of a line at its end.
type label struct {
	text, class string
	y           float64
}

// spread moves labels apart that would cover one another.
func spread(labels []label) []label {
	const apart = 15
	slices.SortFunc(labels, func(a, b label) int { return int(a.y - b.y) })
	for i := 1; i < len(labels); i++ {
		labels[i].y = max(labels[i].y, labels[i-1].y+apart)
	}
	return labels
}

// scale maps values to 0 to 1.
type scale struct {
	from, to float64
	log      bool
	ticks    []float64
}

// manyTimes is how much values must differ for a logarithmic scale to tell more.
const manyTimes = 20

// newScale fits values, with round numbers at its ends. Of a scale from zero
// the lengths can be compared.
func newScale(values []float64, fromZero, mayLog bool) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && (v > 0 || !mayLog) {
			low, high = min(low, v), max(high, v)
		}
	}
	if math.IsInf(low, 1) {
		low, high = 0, 1
	}
	if mayLog && low > 0 && high/low > manyTimes {
		s := scale{from: math.Floor(math.Log10(low)), to: math.Ceil(math.Log10(high)), log: true}
		for e := s.from; e <= s.to; e++ {
			s.ticks = append(s.ticks, math.Pow(10, e))
		}
		return s
	}
	if fromZero {
		low = 0
	}
	if high <= low {
		high = low + 1
	}
	step := roundStep((high - low) / 5)
	s := scale{from: low, to: high}
	if fromZero {
		s.to = math.Ceil(high/step-1e-9) * step
	}
	for n := math.Ceil(s.from/step - 1e-9); n*step <= s.to+step/1e6; n++ {
		s.ticks = append(s.ticks, max(n, 0)*step)
	}
	return s
}

// roundStep is 1, 2 or 5 times a power of ten, and not below v.
func roundStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func (s *scale) at(v float64) float64 {
	if s.log {
		v = math.Log10(max(v, math.Pow(10, s.from)))
	}
	return (v - s.from) / (s.to - s.from)
}

func escape(text string) string { return template.HTMLEscapeString(text) }
