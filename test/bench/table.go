//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// table is what is printed at the end, and how thorough the runs are.
type table struct {
	rounds  int           // how often a comparison is made; the median counts
	long    time.Duration // of a measurement
	verbose bool
	out     *tabwriter.Writer
	missed  []string
}

func newTable(w io.Writer) *table {
	return &table{rounds: 3, long: 5 * time.Second, out: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
}

func (t *table) section(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, "\n%s\n", fmt.Sprintf(format, args...))
	t.log("== "+format, args...)
}

func (t *table) figure(name, format string, args ...any) {
	value := fmt.Sprintf(format, args...)
	_, _ = fmt.Fprintf(t.out, "  %s\t%s\n", name, value)
	t.log("   %s: %s", name, value)
}

// bar is a figure that has to reach something.
func (t *table) bar(ok bool, name, want, format string, args ...any) {
	verdict := "reached"
	if !ok {
		verdict = "MISSED"
		t.missed = append(t.missed, name)
	}
	_, _ = fmt.Fprintf(t.out, "  %s\t%s\t(%s: %s)\n", name, fmt.Sprintf(format, args...), want, verdict)
	t.log("   %s: %s (%s: %s)", name, fmt.Sprintf(format, args...), want, verdict)
}

// log tells on stderr what is going on.
func (t *table) log(format string, args ...any) {
	if t.verbose {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}
