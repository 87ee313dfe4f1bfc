//go:build linux

package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testHost(t *testing.T) Host {
	dir := t.TempDir()
	return Host{LogDir: filepath.Join(dir, "logs"), PidDir: filepath.Join(dir, "pids"), WorkDir: dir}
}

// sleeper is a daemon that says hello and waits until it is ended.
func sleeper(name string, env ...string) Daemon {
	return Daemon{Name: name, Path: "/bin/sh", Args: []string{"-c", "echo hello; exec sleep 600"}, Env: env}
}

func TestEnsureStartsOnceAndReplacesWhatChanged(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), testHost(t)
	defer h.Stop(ctx, "one", time.Second)

	if err := h.Ensure(ctx, sleeper("one")); err != nil {
		t.Fatal(err)
	}
	first, ok := h.Running("one")
	if !ok {
		t.Fatal("not running after Ensure")
	}
	if err := h.Ensure(ctx, sleeper("one")); err != nil {
		t.Fatal(err)
	}
	if again, _ := h.Running("one"); again != first {
		t.Errorf("a second Ensure replaced process %d by %d", first, again)
	}
	if err := h.Ensure(ctx, sleeper("one", "X=1")); err != nil {
		t.Fatal(err)
	}
	if changed, _ := h.Running("one"); changed == first {
		t.Error("a changed daemon was not restarted")
	}
}

func TestStopEndsTheProcessAndIsRepeatable(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), testHost(t)
	if err := h.Ensure(ctx, sleeper("one")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Stop(ctx, "one", 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if pid, ok := h.Running("one"); ok {
		t.Errorf("process %d still runs", pid)
	}
}

func TestStopKillsWhatIgnoresTheRequest(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), testHost(t)
	deaf := Daemon{Name: "deaf", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo ready; while :; do sleep 1; done"}}
	if err := h.Ensure(ctx, deaf); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(h.Tail("deaf", 5), "ready"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the daemon did not start")
		}
	}
	if err := h.Stop(ctx, "deaf", 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Running("deaf"); ok {
		t.Error("still running")
	}
}

func TestRecycledProcessIDIsNeverTouched(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), testHost(t)
	// A record that has this very test's id but another start time: were the
	// time not compared, Stop would end the test.
	self, err := Find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(h.PidDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.write("old", record{Process: Process{PID: self.PID, Start: self.Start - 1}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Running("old"); ok {
		t.Error("another process passes for the daemon")
	}
	if err := h.Stop(ctx, "old", time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestHalfWrittenRecordIsNoObstacle(t *testing.T) {
	t.Parallel()
	ctx, h := t.Context(), testHost(t)
	if err := os.MkdirAll(h.PidDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.pidFile("one"), []byte(`{"pid":`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.Stop(ctx, "one", time.Second); err != nil {
		t.Error(err)
	}
}

func TestTailGivesTheLastLines(t *testing.T) {
	t.Parallel()
	h := testHost(t)
	if err := os.MkdirAll(h.LogDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.LogFile("one"), []byte("a\nb\nc\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := h.Tail("one", 2); got != "b\nc" {
		t.Errorf("Tail = %q", got)
	}
}
