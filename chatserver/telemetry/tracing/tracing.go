// Package tracing sends traces to a collector, by OTLP over HTTP. Who begins a
// span needs the API of OpenTelemetry alone, and nothing of this package: where
// no collector is set there is no provider, and spans cost next to nothing.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Options say where traces go and which.
type Options struct {
	// Endpoint is the collector's base URL, as OTEL_EXPORTER_OTLP_ENDPOINT has it:
	// http://collector:4318. Headers, timeouts and certificates are taken from that
	// variable's siblings.
	Endpoint string
	Ratio    float64 // of the traces that begin here, from 0 to 1

	Service, Version, Instance string // who this is

	Log *slog.Logger
}

// Check tells what is wrong with the options.
func (o Options) Check() error {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q is no URL of a collector: write it like http://collector:4318", o.Endpoint)
	}
	if o.Ratio < 0 || o.Ratio > 1 {
		return fmt.Errorf("%v of the traces cannot be sent: say a number from 0 to 1", o.Ratio)
	}
	return nil
}

// Start makes a provider of tracers. What they end is sent in batches, and dropped
// if the collector does not take it. Shutdown sends what is left.
func Start(ctx context.Context, o Options) (*trace.TracerProvider, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	endpoint, err := url.JoinPath(o.Endpoint, "v1/traces")
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", o.Endpoint, err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		o.Log.Warn("traces were lost", "error", err)
	}))
	self := resource.NewSchemaless(
		attribute.String("service.name", o.Service),
		attribute.String("service.version", o.Version),
		attribute.String("service.instance.id", o.Instance))
	return trace.NewTracerProvider(
		trace.WithBatcher(exporter),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(o.Ratio))),
		trace.WithResource(self)), nil
}
