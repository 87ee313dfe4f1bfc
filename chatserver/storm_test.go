package chatserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMessagesFlowThroughAStormOfLogins has a hundred people log in again and
// again, each against a hash as dear as those of real accounts, while two others
// talk. If logins could take the processors, each message would wait for those
// in line; as it is, more messages are delivered than passwords checked.
func TestMessagesFlowThroughAStormOfLogins(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := run(t, w.redis, unique("stormy"), "--login-attempts-per-hour=0")
		alice, bob := connect(t, s, newUser(t, w.store, "alice")), connect(t, s, newUser(t, w.store, "bob"))
		alice.expect(map[string]any{"type": "userList"})
		bob.expect(map[string]any{"type": "userList"})

		storm := startStorm(t, s, 100)
		await(t, "more people to wait than the server lets", func() bool { return storm.answered(http.StatusServiceUnavailable) > 0 })
		checked := func() int { return storm.answered(http.StatusUnauthorized) }
		before, began, messages := checked(), time.Now(), 0
		for pace := time.Tick(10 * time.Millisecond); checked() < before+5 && time.Since(began) < patience; messages++ {
			text := fmt.Sprint("message ", messages)
			alice.send(`{"type":"message","message":"` + text + `"}`)
			bob.expect(map[string]any{"type": "message", "message": text})
			<-pace
		}
		checks := checked() - before
		t.Logf("%d messages went one after the other in %s, while %d passwords were checked", messages, time.Since(began).Round(time.Millisecond), checks)
		if messages <= checks {
			t.Errorf("%d messages were delivered while %d passwords were checked", messages, checks)
		}
	})
}

// storm is people who log in again and again, until the test ends.
type storm struct {
	mu       sync.Mutex
	statuses map[int]int
}

func startStorm(t *testing.T, s *server, people int) *storm {
	st := &storm{statuses: map[int]int{}}
	ctx, calm := context.WithCancel(t.Context())
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(calm)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS(), MaxIdleConnsPerHost: people}}
	body := fmt.Sprintf(`{"username":%q,"password":%q}`, unique("stranger"), password)
	for range people {
		all.Go(func() {
			for ctx.Err() == nil {
				st.logIn(ctx, client, s.url(), body)
			}
		})
	}
	return st
}

func (st *storm) logIn(ctx context.Context, client *http.Client, url, body string) {
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/login", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return // the test has ended
	}
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	resp.Body.Close()
	st.mu.Lock()
	st.statuses[resp.StatusCode]++
	st.mu.Unlock()
	if resp.Header.Get("Retry-After") != "" { // as it asks to be treated
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (st *storm) answered(status int) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.statuses[status]
}
