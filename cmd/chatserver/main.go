// The chatserver command runs one chat server: flags and wiring only.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/chatcluster/chatcluster/chatserver"
)

// version is set by the linker.
var version = "0.1.0"

func main() {
	var f flags
	parser := kong.Must(&f,
		kong.Name("chatserver"),
		kong.Description(description),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.DefaultEnvars("CHATSERVER"),
		kong.Configuration(readFile),
		kong.Vars{"version": versionText()},
	)
	_, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	if err := run(f); err != nil {
		fmt.Fprintln(os.Stderr, "chatserver:", err)
		os.Exit(1)
	}
}

// run serves until the first SIGTERM or SIGINT and then drains; a second one
// ends the process at once.
func run(f flags) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)

	config, err := f.config(logger(f))
	if err != nil {
		return err
	}
	server, err := chatserver.New(config)
	if err != nil {
		return err
	}
	if f.Dev {
		printDev(os.Stdout, server)
	}
	if err := server.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// logger writes JSON, for machines to collect; on a terminal, for people.
func logger(f flags) *slog.Logger {
	o := &slog.HandlerOptions{Level: f.LogLevel}
	if f.Dev {
		return slog.New(slog.NewTextHandler(os.Stderr, o))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, o))
}

func versionText() string {
	text := "chatserver " + version
	if info, ok := debug.ReadBuildInfo(); ok {
		text += " " + info.GoVersion
	}
	return text
}
