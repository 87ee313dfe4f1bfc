package chatserver_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

// required are the flags that every server needs, Redis aside.
func required() []string {
	return []string{
		"--node-id=" + unique("configured"), "--cluster-id=" + clusterID,
		"--listen=127.0.0.1:0", "--line-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0",
		"--tls-cert-file=" + filepath.Join(files, "tls.crt"), "--tls-key-file=" + filepath.Join(files, "tls.key"),
		"--token-keys-dir=" + filepath.Join(files, "keys"),
	}
}

// TestConfigurationThatCannotWorkIsRefusedAtOnce has no Redis to talk to: what
// no Redis would mend must be told before it is waited for.
func TestConfigurationThatCannotWorkIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{
		"--trusted-proxies=router.example.com": "--trusted-proxies",
		"--allowed-origins=app.example.com":    "--allowed-origins",
		"--redis=http://127.0.0.1:1":           "--redis",
		"--node-id=a b":                        "--node-id",
		"--drain-window=-1s":                   "--drain-window",
		"--history-count=0":                    "--history-count",
		"--messages-per-10s=-1":                "--messages-per-10s",
		"--tls-key-file=missing":               "missing",
	} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			args := append(required(), "--redis=redis://user:hidden@127.0.0.1:1")
			cmd := exec.CommandContext(waiting(t), program, append(args, flag)...)
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), want) {
				t.Errorf("it ended with %v and said %q, want an error about %s", err, out, want)
			}
			if strings.Contains(string(out), "hidden") {
				t.Errorf("it tells Redis' password: %s", out)
			}
		})
	}
}

func TestLogLevelChangesWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	redis := redistest.Standalone(t)
	file := filepath.Join(t.TempDir(), "config.yaml")
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("log_level: info\nredis: [" + redis.URLs[0] + "]\n")
	s, err := launch(exec.Command(program, append(required(), "--config="+file)...))
	if err != nil {
		t.Fatal(err)
	}
	s.cleanup(t)
	admin := "http://" + s.admin + "/debug/log-level"

	// told says whether a request, which is logged at debug, leaves a line.
	told := func() bool {
		t.Helper()
		before := strings.Count(s.logs(), `"msg":"request"`)
		call(t, "GET", s.url()+"/health", "")
		return s.await(t, func() bool { return strings.Count(s.logs(), `"msg":"request"`) > before })
	}
	quiet := func() bool {
		t.Helper()
		before := strings.Count(s.logs(), `"msg":"request"`)
		call(t, "GET", s.url()+"/health", "")
		_, _ = call(t, "PUT", admin, `{"level":"info"}`) // logs a line, which comes after the request's
		changed := strings.Count(s.logs(), "log level changed")
		s.await(t, func() bool { return strings.Count(s.logs(), "log level changed") >= changed })
		return strings.Count(s.logs(), `"msg":"request"`) == before
	}

	if !quiet() {
		t.Error("requests are logged at info")
	}
	if resp, answer := call(t, "PUT", admin, `{"level":"debug"}`); resp.StatusCode != 200 || fmt.Sprint(answer) != "map[level:DEBUG]" {
		t.Errorf("PUT answers %d %v", resp.StatusCode, answer)
	}
	if _, answer := call(t, "GET", admin, ""); fmt.Sprint(answer) != "map[level:DEBUG]" {
		t.Errorf("GET answers %v", answer)
	}
	if !told() {
		t.Error("requests are not logged at debug")
	}
	for _, body := range []string{"", "debug", `{}`, `{"level":"loud"}`, `{"level":7}`} {
		if resp, _ := call(t, "PUT", admin, body); resp.StatusCode != 400 {
			t.Errorf("PUT %q answers %d, want 400", body, resp.StatusCode)
		}
	}
	if resp, _ := call(t, "GET", s.url()+"/debug/log-level", ""); resp.StatusCode != 404 {
		t.Errorf("strangers can read the log level: %d", resp.StatusCode)
	}

	hangUp := func(want string) {
		t.Helper()
		before := strings.Count(s.logs(), want)
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if !s.await(t, func() bool { return strings.Count(s.logs(), want) > before }) {
			t.Fatalf("after a SIGHUP the log does not tell: %s", want)
		}
	}
	configure("log_level: loud\n")
	hangUp("cannot be read again")
	if !told() {
		t.Error("a file that cannot be read changed the log level")
	}
	configure("log_level: info\nredis: [" + redis.URLs[0] + "]\n")
	hangUp("configuration read again")
	if !quiet() {
		t.Error("the file says info, but requests are logged")
	}
	configure("log_level: debug\nredis: [" + redis.URLs[0] + "]\n")
	hangUp("configuration read again")
	if !told() {
		t.Error("the file says debug, but requests are not logged")
	}
}

// await waits for a condition, and reports whether it came.
func (s *server) await(t *testing.T, condition func() bool) bool {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}
