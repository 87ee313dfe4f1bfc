//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/store"
)

// publishers is how many users send as fast as they are acknowledged, each in a
// room of their own.
const publishers = 256

// publish compares what the server stores, acknowledges and delivers with what
// redis-benchmark gets for the same script on the same Redis.
func publish(ctx context.Context, w *world, t *table) error {
	t.section("Publish: %d users, each in a room of their own, one message at a time and user; log, acknowledgement and delivery", publishers)
	s, err := w.startChatServer("publish", false)
	if err != nil {
		return err
	}
	defer s.stop()
	members, err := w.members(ctx, "publisher", publishers, func(i int) string { return fmt.Sprint("publish", i) })
	if err != nil {
		return err
	}
	if err := w.connect("publish", s, members); err != nil {
		return err
	}
	script, err := overheard(ctx, w)
	if err != nil {
		return err
	}
	// What is stored for the first 64 messages of each is not yet what there is
	// from then on: the ids of a user's last messages.
	if _, err := w.publish(s, PublishArgs{Group: "publish", Publishers: publishers, Window: 1, For: t.long, Bytes: textBytes}); err != nil {
		return err
	}
	figures := map[string][]float64{}
	var ratios []float64
	for range t.rounds {
		best := 0.0
		for _, shape := range []struct{ clients, pipeline int }{{publishers, 1}, {50, 1}, {4, 64}} {
			rate, err := redisBenchmark(ctx, w.redis.Nodes[0].Addr, shape.clients, shape.pipeline, script)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("redis-benchmark, %d clients, pipelines of %d", shape.clients, shape.pipeline)
			t.log("%s: %.0f/s", name, rate)
			figures[name] = append(figures[name], rate)
			best = max(best, rate)
		}
		m, err := w.publish(s, PublishArgs{Group: "publish", Publishers: publishers, Window: 1, For: t.long, Bytes: textBytes})
		if err != nil {
			return err
		}
		rate := float64(m.Acks.Count) / m.Took.Seconds()
		t.log("chatserver: %.0f acknowledged/s, p50 %s, p99 %s, server %.2f cores, load %.2f", rate, m.Acks.P50, m.Acks.P99,
			m.serverCPU.Seconds()/m.Took.Seconds(), m.CPU.Seconds()/m.Took.Seconds())
		figures["chatserver"] = append(figures["chatserver"], rate)
		ratios = append(ratios, rate/best)
		alone, err := storeAlone(ctx, w, t.long)
		if err != nil {
			return err
		}
		figures["store.Publish alone, without server and clients"] = append(figures["store.Publish alone, without server and clients"], alone)
	}
	for name, of := range figures {
		t.figure(name, "%.0f/s", median(of))
	}
	t.bar(median(ratios) >= 0.6, "chatserver, of redis-benchmark's best", "at least 60 %", "%.0f %%", 100*median(ratios))
	return w.disconnect("publish")
}

// overheard is the command by which a server publishes, as Redis gets it, in a
// room that nobody else uses. One subscriber stays: each message of the others
// has one too.
func overheard(ctx context.Context, w *world) ([]string, error) {
	s, err := w.startChatServer("overheard", false)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	members, err := w.members(ctx, "overheard", 1, everyone("overheard"))
	if err != nil {
		return nil, err
	}
	if err := w.connect("overheard", s, members); err != nil {
		return nil, err
	}
	lines, err := w.redisSays(ctx, "MONITOR")
	if err != nil {
		return nil, err
	}
	if _, err := w.publish(s, PublishArgs{Group: "overheard", Publishers: 1, Rate: 1, For: time.Second, Bytes: textBytes}); err != nil {
		return nil, err
	}
	script, err := publishCommand(bufio.NewScanner(lines))
	if err != nil {
		return nil, err
	}
	heard, err := w.redisSays(ctx, "SSUBSCRIBE "+script[6])
	if err != nil {
		return nil, err
	}
	go func() { _, _ = io.Copy(io.Discard, heard) }()
	return script, w.disconnect("overheard")
}

// redisSays connects to Redis and gives it one command.
func (w *world) redisSays(ctx context.Context, command string) (net.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.redis.Nodes[0].Addr)
	if err != nil {
		return nil, err
	}
	w.stops = append(w.stops, func() { _ = nc.Close() })
	_, err = fmt.Fprint(nc, command+"\r\n")
	return nc, err
}

// publishCommand finds it in what MONITOR tells.
func publishCommand(lines *bufio.Scanner) ([]string, error) {
	for lines.Scan() {
		_, command, _ := strings.Cut(lines.Text(), "] ")
		args, err := unquote(command)
		if err != nil || len(args) == 0 || !strings.EqualFold(args[0], "evalsha") || !strings.Contains(command, `:log"`) {
			continue
		}
		// The id and the payload have the time in them; the rest stays as it is. One
		// id is never used twice.
		for i, arg := range args {
			if isID(arg) {
				args[i] = "__rand_int__"
			}
		}
		return args, nil
	}
	return nil, errors.Join(errors.New("no publish was overheard"), lines.Err())
}

// isID says whether an argument is the id of a message of the load: "<time> <number>".
func isID(arg string) bool {
	at, n, _ := strings.Cut(arg, " ")
	_, err1 := strconv.ParseInt(at, 10, 64)
	_, err2 := strconv.Atoi(n)
	return err1 == nil && err2 == nil
}

// unquote takes a line of MONITOR apart: "EVALSHA" "..." "4".
func unquote(line string) (args []string, err error) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, err
		}
		arg, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		args, line = append(args, arg), line[len(quoted):]
	}
	return args, nil
}

func redisBenchmark(ctx context.Context, addr string, clients, pipeline int, command []string) (float64, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	args := []string{"-h", host, "-p", port, "-c", strconv.Itoa(clients), "-P", strconv.Itoa(pipeline),
		"-n", "60000", "-r", "1000000000", "--csv"}
	out, err := exec.CommandContext(ctx, "redis-benchmark", append(args, command...)...).Output()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w", err)
	}
	// Its last line is "<command>","<requests a second>" and six latencies; it
	// does not mind quotes within the command.
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Split(lines[len(lines)-1], `","`)
	if len(fields) < 8 {
		return 0, fmt.Errorf("redis-benchmark says %q", out)
	}
	return strconv.ParseFloat(fields[len(fields)-7], 64)
}

// storeAlone is what the package that talks to Redis does by itself.
func storeAlone(ctx context.Context, w *world, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	payload := []byte(strings.Repeat("x", 150))
	began := time.Now()
	for i := range publishers {
		wg.Go(func() {
			user, room := fmt.Sprintf("publisher_%05d", i), fmt.Sprint("alone", i) // where no server listens
			for ctx.Err() == nil {
				_, err := w.store.Publish(ctx, store.Message{Room: room, User: user, Payload: payload})
				if err != nil && ctx.Err() == nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(began).Seconds(), nil
}
