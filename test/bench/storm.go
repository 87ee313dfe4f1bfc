//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/rpc"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	steady    = 200 // members who stay, and whose messages are measured
	calmRate  = 20  // messages a second
	loginRate = 50
)

// storms measures what others notice of many who come at once.
func storms(ctx context.Context, w *world, t *table) error {
	t.section("Storms, with TLS, while %d messages a second go to everybody", calmRate)
	s, err := w.startChatServer("storm", true)
	if err != nil {
		return err
	}
	defer s.stop()
	// The herd has a process of its own: in one with those who measure, they would
	// wait for the herd's dialling and not for the server.
	p, herd, err := startLoad()
	if err != nil {
		return err
	}
	defer p.stop()
	for name, group := range map[string]struct {
		load  *rpc.Client
		count int
	}{"steady": {w.load, steady}, "herd": {herd, crowd}} {
		members, err := w.members(ctx, name, group.count, everyone("storm"))
		if err != nil {
			return err
		}
		if err := connect(group.load, name, s, members); err != nil {
			return err
		}
	}
	if err := reconnects(w, herd, t, s); err != nil {
		return err
	}
	if err := herd.Call("Load.Disconnect", "herd", nil); err != nil {
		return err
	}
	return errors.Join(logins(ctx, w, t, s), w.disconnect("steady"))
}

func reconnects(w *world, herd *rpc.Client, t *table, s *server) error {
	var worst, took []time.Duration
	back := crowd
	for range t.rounds {
		var c Connected
		storm := herd.Go("Load.Storm", "herd", &c, nil)
		var p99 time.Duration
		for under := true; under; {
			select {
			case <-storm.Done:
				under = false
			default:
				m, err := w.publish(s, PublishArgs{Group: "steady", Publishers: 8, Rate: calmRate, For: time.Second, Bytes: textBytes})
				if err != nil {
					return err
				}
				t.log("a second of the storm: p50 %s, p99 %s, max %s, %d of %d", m.Deliveries.P50, m.Deliveries.P99, m.Deliveries.Max, m.Deliveries.Count, m.Expected)
				p99 = max(p99, m.Deliveries.P99)
			}
		}
		if storm.Error != nil {
			return storm.Error
		}
		t.log("%d are back after %s %q", c.Count, c.Took, c.Failed)
		worst, took, back = append(worst, p99), append(took, c.Took), min(back, c.Count)
	}
	t.bar(back == crowd && median(took) < 10*time.Second, fmt.Sprintf("%d cut connections are back with tokens, all resumed", crowd), "within 10 s",
		"%d in %.1f s", back, median(took).Seconds())
	t.bar(median(worst) < 250*time.Millisecond, "p99 of a message in the storm's worst second", "below 250 ms", "%.0f ms", ms(median(worst)))
	return nil
}

// logins has many log in with their passwords at once, and again.
func logins(ctx context.Context, w *world, t *table, s *server) error {
	const password = "correct horse battery"
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return err
	}
	const users = 64
	for i := range users {
		if err := w.store.CreateUser(ctx, fmt.Sprint("login", i), string(hash)); err != nil {
			return err
		}
	}
	speak := PublishArgs{Group: "steady", Publishers: 8, Rate: loginRate, For: t.long, Bytes: textBytes}
	calm, err := w.publish(s, speak)
	if err != nil {
		return err
	}
	storm, cancel := context.WithCancel(ctx)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: users,
	}}
	var in, busy atomic.Int64
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() {
			body := encode(map[string]string{"username": fmt.Sprint("login", i), "password": password})
			for storm.Err() == nil {
				switch logIn(storm, client, s, body) {
				case http.StatusOK:
					in.Add(1)
				case http.StatusServiceUnavailable:
					busy.Add(1)
				}
			}
		})
	}
	began := time.Now()
	m, err := w.publish(s, speak)
	took := time.Since(began)
	cancel()
	wg.Wait()
	if err != nil {
		return err
	}
	t.figure(fmt.Sprintf("logins of %d who try again and again", users), "%.0f/s let in, %.0f/s told to wait", float64(in.Load())/took.Seconds(), float64(busy.Load())/took.Seconds())
	rate := func(m measured) float64 { return float64(m.Deliveries.Count) / steady / m.Took.Seconds() }
	t.bar(m.Deliveries.Count == m.Expected && rate(m) > 0.95*rate(calm), "messages while they do", "at their rate",
		"%.1f/s of %.1f/s, p99 %.0f ms (%.0f ms without)", rate(m), rate(calm), ms(m.Deliveries.P99), ms(calm.Deliveries.P99))
	return nil
}

func logIn(ctx context.Context, client *http.Client, s *server, body []byte) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.target.Addr+"/login", bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}
