// The chatload command puts load on chat servers: flags and wiring only.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/chatcluster/chatcluster/chatserver/load"
	"github.com/chatcluster/chatcluster/chatserver/load/report"
)

// version is set by the linker.
var version = "0.1.0"

// Exit codes; --help explains them.
const (
	exitFailed    = 1
	exitUsage     = 80
	exitUntrusted = 98
	exitCrossed   = 99
)

// lazyGC is how much the heap may grow before it is collected, in percent: this
// program should spend its time on the load.
const lazyGC = 400

func main() {
	debug.SetGCPercent(lazyGC)
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

func newParser(f *flags) (*kong.Kong, error) {
	return kong.New(f,
		kong.Name("chatload"),
		kong.Description(description),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.Vars{"version": "chatload " + version},
	)
}

// command is one of those that put on load.
type command interface {
	config() (load.Config, *run, error)
}

func execute(args []string, stdout, stderr io.Writer) (code int) {
	var f flags
	parser, err := newParser(&f)
	if err != nil {
		panic(err) // the flags themselves are wrong
	}
	parser.Stdout, parser.Stderr = stdout, stderr
	parsed, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "chatload: %v\nchatload --help explains all there is\n", err)
		return exitUsage
	}
	switch c := parsed.Selected().Target.Addr().Interface().(type) {
	case command:
		code, err = measure(c, stdout)
	case *usersCommand:
		err = c.print(stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "chatload:", err)
		return max(code, exitFailed)
	}
	return code
}

// measure does a run until it ends or is interrupted; a second interrupt ends
// the process at once.
func measure(c command, stdout io.Writer) (code int, err error) {
	config, run, err := c.config()
	if err != nil {
		return exitUsage, err
	}
	thresholds, err := run.thresholds()
	if err != nil {
		return exitUsage, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	result, err := load.Run(ctx, config)
	if err != nil {
		return exitFailed, err
	}
	result.Judge(thresholds)
	return exitCode(result), write(result, run, stdout)
}

func exitCode(r *report.Report) int {
	switch {
	case !r.Passed():
		return exitCrossed
	case !r.Trusted():
		return exitUntrusted
	}
	return 0
}

// write gives the result to a person, and to the files that were asked for.
func write(r *report.Report, o *run, stdout io.Writer) error {
	var failed error
	if o.JSON != "-" {
		failed = r.Text(stdout)
	}
	if o.JSON != "" {
		text, err := r.JSON()
		failed = errors.Join(failed, err, put(o.JSON, text, stdout))
	}
	if o.HTML != "" {
		text, err := r.HTML()
		failed = errors.Join(failed, err, put(o.HTML, text, stdout))
	}
	return failed
}

func put(path string, text []byte, stdout io.Writer) error {
	if path == "-" {
		_, err := stdout.Write(text)
		return err
	}
	return os.WriteFile(path, text, 0o644) //nolint:gosec // a report is for others to read
}
