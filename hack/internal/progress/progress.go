// Package progress prints the steps of a long run as they happen: which of how
// many, what, and how long it took. It must not know what the steps do.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Printer prints one line a step. On a terminal the line of the running step
// shows its elapsed time; elsewhere a line is printed when there is something
// new to say, so that a log has no control characters.
type Printer struct {
	out      io.Writer
	terminal bool
	total    int
	width    int // of the steps' names, so that the results line up

	mu   sync.Mutex // guards what follows and the writes to out
	done int
	note string
}

// New returns a Printer for steps with these names; the names are only counted
// and measured here.
func New(out io.Writer, terminal bool, names []string) *Printer {
	p := &Printer{out: out, terminal: terminal, total: len(names)}
	for _, n := range names {
		p.width = max(p.width, len(n))
	}
	return p
}

// Step runs one step. The step returns what to print as its result, for
// example "cached"; say tells what it is at when it takes long.
func (p *Printer) Step(name string, step func(say func(string)) (string, error)) error {
	p.mu.Lock()
	p.done++
	head := fmt.Sprintf("[%2d/%d] %-*s", p.done, p.total, p.width, name)
	p.note = "..."
	p.mu.Unlock()

	start := time.Now()
	stop := p.tick(head, start)
	result, err := step(func(note string) { p.say(head, note) })
	stop()

	if err != nil {
		result = "FAILED after"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rewind()
	fmt.Fprintf(p.out, "%s  %s %s\n", head, result, Elapsed(time.Since(start)))
	return err
}

// say replaces the note of the running step.
func (p *Printer) say(head, note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = note
	if !p.terminal {
		fmt.Fprintf(p.out, "%s  %s\n", head, note)
	}
}

// tick redraws the running step's line each second until stop is called; stop
// returns when no more will be drawn.
func (p *Printer) tick(head string, start time.Time) (stop func()) {
	if !p.terminal {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			p.mu.Lock()
			p.rewind()
			fmt.Fprintf(p.out, "%s  %s %s", head, p.note, Elapsed(time.Since(start)))
			p.mu.Unlock()
			select {
			case <-end:
				return
			case <-t.C:
			}
		}
	}()
	return func() { close(end); <-ended }
}

// rewind clears the terminal's present line.
func (p *Printer) rewind() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// Elapsed writes a duration as people say it: 0.4s, 12s, 5m31s.
func Elapsed(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	default:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
}
