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
	"time"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"

	"github.com/chatcluster/chatcluster/chatserver"
	"github.com/chatcluster/chatcluster/chatserver/memory"
	"github.com/chatcluster/chatcluster/chatserver/telemetry"
	"github.com/chatcluster/chatcluster/chatserver/telemetry/sentrylog"
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
		kong.ShortUsageOnError(),
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

	level := new(slog.LevelVar)
	level.Set(f.LogLevel)
	log, flush, err := f.log(level)
	if err != nil {
		return err
	}
	defer flush()
	redis.SetLogger(redisLog{log})
	config, err := f.config(log, level)
	if err != nil {
		return err
	}
	if f.Config != "" { // else a SIGHUP is what it is everywhere: the terminal has gone
		go reload(ctx, log, level)
	}
	go memory.GiveBack(ctx)
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

// log makes the server's log; flush sends what is on its way when the process ends.
func (f flags) log(level *slog.LevelVar) (log *slog.Logger, flush func(), err error) {
	if f.SentryDSN == "" {
		return telemetry.NewLog(os.Stderr, f.textLog(), level), func() {}, nil
	}
	node, err := f.node()
	if err != nil {
		return nil, nil, err
	}
	errors, err := sentrylog.New(sentrylog.Options{DSN: f.SentryDSN, Release: "chatserver@" + version, Instance: node})
	if err != nil {
		return nil, nil, fmt.Errorf("--sentry-dsn: %w", err)
	}
	return telemetry.NewLog(os.Stderr, f.textLog(), level, errors), func() { errors.Flush(flushTime) }, nil
}

const flushTime = 2 * time.Second

// reload sets the log level anew with each SIGHUP, as everything says that would
// say it at a start: most likely the file has changed.
func reload(ctx context.Context, log *slog.Logger, level *slog.LevelVar) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		var f flags
		parser, err := newParser(&f)
		if err == nil {
			_, err = parser.Parse(os.Args[1:])
		}
		if err != nil {
			log.ErrorContext(ctx, "the configuration cannot be read again: nothing has changed", "error", err)
			continue
		}
		before := level.Level()
		level.Set(f.LogLevel)
		log.WarnContext(ctx, "configuration read again; only the log level can change without a restart", "level", f.LogLevel, "before", before)
	}
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
