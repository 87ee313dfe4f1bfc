// Command router is the local cluster's ingress controller and gateway: it makes
// Ingresses of class "local" and routes at Gateways of class "local" work, and
// writes the statuses that say so. It is small on purpose, and refuses in a
// status what it does not know.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/chatcluster/chatcluster/hack/router/proxy"
	"github.com/chatcluster/chatcluster/hack/router/table"
)

type options struct {
	address string // that clients reach the router at
	health  string
	ports   table.Ports
}

func main() {
	var o options
	flag.StringVar(&o.address, "address", "", "IP address at which clients reach the router; written into statuses")
	flag.StringVar(&o.health, "health-listen", ":8086", "address on which /readyz answers")
	https := flag.Int("https-port", 443, "port for HTTPS")
	line := flag.Int("line-port", 1222, "port for TLS that is passed through")
	debug := flag.Bool("debug", false, "log also what single clients do wrong")
	flag.Parse()
	o.ports = table.Ports{HTTPS: int32(*https), Line: int32(*line)}

	level := slog.LevelInfo
	if *debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, log); err != nil {
		fmt.Fprintln(os.Stderr, "router:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, log *slog.Logger) error {
	if net.ParseIP(o.address) == nil {
		return errors.New("--address must be an IP address")
	}
	p := proxy.New(log)
	w, err := newWatcher(o, p, log)
	if err != nil {
		return err
	}
	https, err := net.Listen("tcp", fmt.Sprintf(":%d", o.ports.HTTPS))
	if err != nil {
		return err
	}
	line, err := net.Listen("tcp", fmt.Sprintf(":%d", o.ports.Line))
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.ServeHTTPS(ctx, https) })
	group.Go(func() error { return p.ServeLine(ctx, line) })
	group.Go(func() error { return w.run(ctx) })
	group.Go(func() error { return serveHealth(ctx, o.health, w.ready) })
	return group.Wait()
}

// serveHealth answers 200 once the routes are known.
func serveHealth(ctx context.Context, address string, ready func() bool) error {
	server := &http.Server{Addr: address, ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !ready() {
				http.Error(w, "no routes yet", http.StatusServiceUnavailable)
			}
		})}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}
