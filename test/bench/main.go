//go:build linux

// The bench command measures the real chat server against what it has to reach.
// It starts a Redis, the server and the load as processes of their own, and for
// comparison, in the same run, the baseline and redis-benchmark: on a machine
// that is shared only ratios mean something.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// measurements in the order they are made.
var measurements = []struct {
	name string
	run  func(context.Context, *world, *table) error
}{
	{"fanout", fanOut},
	{"latency", latencies},
	{"publish", publish},
	{"storm", storms},
	{"idle", idle},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "load":
			return serveLoad()
		case "baseline":
			return serveBaseline()
		}
	}
	only := flag.String("only", "", "measure only these, separated by commas")
	chatserver := flag.String("chatserver", "", "the program to measure; default: it is built")
	against := flag.String("against", "", "another build of the program, to compare the fan-out with")
	strict := flag.Bool("strict", false, "fail if a bar is missed")
	verbose := flag.Bool("v", false, "tell of every run")
	t := newTable(os.Stdout)
	flag.IntVar(&t.rounds, "rounds", t.rounds, "how often each comparison is made; the median counts")
	flag.DurationVar(&t.long, "long", t.long, "how long a measurement takes")
	flag.Parse()
	t.verbose = *verbose

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	w, err := newWorld(ctx, *chatserver, *against)
	if err != nil {
		return err
	}
	defer w.stop()
	began := time.Now()
	for _, m := range measurements {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), m.name) {
			continue
		}
		if err := m.run(ctx, w, t); err != nil {
			_ = t.out.Flush()
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	_ = t.out.Flush()
	fmt.Printf("\n%s, in %s\n", machine(), time.Since(began).Round(time.Second))
	if len(t.missed) > 0 {
		fmt.Printf("missed: %s\n", strings.Join(t.missed, "; "))
		if *strict {
			os.Exit(1)
		}
	}
	return nil
}

// machine tells how busy it was: other work makes every absolute figure worse.
func machine() string {
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("load average %s", strings.Join(strings.Fields(string(load))[:3], " "))
}
