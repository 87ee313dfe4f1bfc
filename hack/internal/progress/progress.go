// Package progress prints the steps of a long run as they happen: which of how
// many, what, and how long it took. It must not know what the steps do.
package progress

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Step is one line of progress.
type Step struct {
	Name string
	// Do returns what to print as its result, for example "cached"; say tells
	// what it is at when it takes long.
	Do func(ctx context.Context, say func(string)) (result string, err error)
}

// Run does the steps one after another, up to the first that fails.
func Run(ctx context.Context, out io.Writer, terminal bool, steps []Step) error {
	p := newPrinter(out, terminal, steps)
	for _, s := range steps {
		if err := p.run(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// printer prints one line a step. On a terminal the line of the running step
// shows its elapsed time; elsewhere a line is printed when there is something
// new to say, so that a log has no control characters.
type printer struct {
	out      io.Writer
	terminal bool
	total    int
	width    int // of the steps' names, so that the results line up

	mu   sync.Mutex // guards what follows and the writes to out
	done int
	note string
}

func newPrinter(out io.Writer, terminal bool, steps []Step) *printer {
	p := &printer{out: out, terminal: terminal, total: len(steps)}
	for _, s := range steps {
		p.width = max(p.width, len(s.Name))
	}
	return p
}

func (p *printer) run(ctx context.Context, s Step) error {
	p.mu.Lock()
	p.done++
	head := fmt.Sprintf("[%2d/%d] %-*s", p.done, p.total, p.width, s.Name)
	p.note = "..."
	p.mu.Unlock()

	start := time.Now()
	stop := p.tick(head, start)
	result, err := s.Do(ctx, func(note string) { p.say(head, note) })
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
func (p *printer) say(head, note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = note
	if !p.terminal {
		fmt.Fprintf(p.out, "%s  %s\n", head, note)
	}
}

// tick redraws the running step's line each second until stop is called; stop
// returns when no more will be drawn.
func (p *printer) tick(head string, start time.Time) (stop func()) {
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
func (p *printer) rewind() {
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
