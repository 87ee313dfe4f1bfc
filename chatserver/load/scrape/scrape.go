// Package scrape reads from servers' /metrics what they use of their machines.
package scrape

import (
	"context"
	"fmt"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sync/errgroup"
)

// timeout bounds one reading of one server.
const timeout = 5 * time.Second

// Sample is what one process said at one moment. Every Go program that exports
// the usual process metrics says this.
type Sample struct {
	Started    float64 // Unix seconds; another one is another process
	CPU        float64 // seconds used
	RSS        float64 // bytes
	Goroutines float64
	FDs        float64
}

// All reads all URLs at once. Samples are in their order.
func All(ctx context.Context, client *http.Client, urls []string) ([]Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	samples := make([]Sample, len(urls))
	g, ctx := errgroup.WithContext(ctx)
	for i, url := range urls {
		g.Go(func() (err error) {
			samples[i], err = read(ctx, client, url)
			return err
		})
	}
	return samples, g.Wait()
}

func read(ctx context.Context, client *http.Client, url string) (Sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return Sample{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Sample{}, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return Sample{}, fmt.Errorf("read metrics from %s: %s", url, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return Sample{}, fmt.Errorf("read metrics from %s: %w", url, err)
	}
	s := Sample{
		Started: value(families, "process_start_time_seconds"), CPU: value(families, "process_cpu_seconds_total"),
		RSS: value(families, "process_resident_memory_bytes"), Goroutines: value(families, "go_goroutines"),
		FDs: value(families, "process_open_fds"),
	}
	if s.CPU == 0 || s.RSS == 0 {
		return Sample{}, fmt.Errorf("%s has no process_cpu_seconds_total and process_resident_memory_bytes: is it a server's /metrics?", url)
	}
	return s, nil
}

func value(families map[string]*dto.MetricFamily, name string) (sum float64) {
	for _, m := range families[name].GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
	}
	return sum
}

// Usage is what all servers together did between two readings.
type Usage struct {
	CPU        float64 // seconds
	RSS        float64 // bytes, at the end
	Goroutines float64
	FDs        float64
	Restarts   int // servers that are other processes now; their CPU is counted since they started
}

// Between compares two readings of the same servers.
func Between(before, after []Sample) Usage {
	var u Usage
	for i, s := range after {
		u.CPU += s.CPU
		if i < len(before) && before[i].Started == s.Started {
			u.CPU -= before[i].CPU
		} else {
			u.Restarts++
		}
		u.RSS += s.RSS
		u.Goroutines += s.Goroutines
		u.FDs += s.FDs
	}
	return u
}

// RSS is that of all servers together, in bytes.
func RSS(samples []Sample) (sum float64) {
	for _, s := range samples {
		sum += s.RSS
	}
	return sum
}
