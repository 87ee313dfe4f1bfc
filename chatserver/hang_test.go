package chatserver_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// A Redis that hangs keeps its connections and answers nothing.

func TestServerSaysWhyItIsNotReadyWhileRedisHangs(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	s := run(t, r, "hang")
	t.Cleanup(r.Nodes[0].Freeze())
	// A kubelet waits this long at most for an answer, and shows the reason if it gets one.
	kubelet := http.Client{Timeout: 2 * time.Second}
	var reason string
	for ctx := waiting(t); reason == ""; {
		if ctx.Err() != nil {
			t.Fatal("the server stayed ready")
		}
		resp, err := kubelet.Get("http://" + s.admin + "/readyz")
		if err != nil {
			t.Fatalf("the probe got no answer: %v", err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			reason = string(body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !strings.Contains(reason, "Redis") && !strings.Contains(reason, "probe") {
		t.Errorf("the reason does not lead to Redis: %q", reason)
	}
}

func TestServerEndsThoughRedisHangs(t *testing.T) {
	t.Parallel()
	r := redistest.Standalone(t)
	s := run(t, r, "hang", "--drain-window=1s", "--demo-users")
	l := terminal(t, s)
	say(t, l, "LOGIN alice password123")
	expect(t, l, "you are logged in")
	say(t, l, "/join Lobby")
	expect(t, l, "you are in Lobby")
	bob, err := client.NewAccount(s.url(), clientTLS()).Login(waiting(t), "bob", "letmein")
	if err != nil {
		t.Fatal(err)
	}
	attach(t, s, bob)
	t.Cleanup(r.Nodes[0].Freeze())
	ended := make(chan int, 1)
	go func() { ended <- s.terminate() }()
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("the server exited with %d", code)
		}
	case <-waiting(t).Done():
		t.Error("the server does not end")
	}
}
