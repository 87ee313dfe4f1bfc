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
	"github.com/redis/go-redis/v9"

	"github.com/chatcluster/chatcluster/chatserver"
)

// version is set by the linker.
var version = "0.1.0"

func main() {
	var f flags
	parser, err := newParser(&f)
	if err != nil {
		panic(err) // the flags themselves are wrong
	}
	_, err = parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	if err := run(f); err != nil {
		fmt.Fprintln(os.Stderr, "chatserver:", err)
		os.Exit(1)
	}
}

func newParser(f *flags) (*kong.Kong, error) {
	return kong.New(f,
		kong.Name("chatserver"),
		kong.Description(description),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.DefaultEnvars("CHATSERVER"),
		kong.Configuration(readFile),
		kong.Vars{"version": versionText()},
	)
}

// run serves until the first SIGTERM or SIGINT and then drains; a second one
// ends the process at once.
func run(f flags) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)

	log := logger(f)
	redis.SetLogger(redisLog{log})
	config, err := f.config(log)
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

// redisLog puts what the Redis client has to say into the log. What it cannot
// mend itself is an error of some call, which is told elsewhere.
type redisLog struct{ *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.DebugContext(ctx, fmt.Sprintf(format, v...))
}

func versionText() string {
	text := "chatserver " + version
	if info, ok := debug.ReadBuildInfo(); ok {
		text += " " + info.GoVersion
	}
	return text
}
