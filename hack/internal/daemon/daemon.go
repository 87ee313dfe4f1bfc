//go:build linux

// Package daemon starts processes that outlive the program, finds them again
// and ends them. It knows processes and files, nothing of Kubernetes.
//
// What is running is remembered in one file a process, with the time at which
// the kernel started it: a process id alone may since belong to somebody else.
package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Daemon is a program that runs in the background.
type Daemon struct {
	Name string
	Path string
	Args []string
	Env  []string // added to the caller's environment
}

// Host runs daemons: in one network namespace, with their logs and records in
// one place.
type Host struct {
	NetNS   string // path of the network namespace; empty: the caller's
	LogDir  string
	PidDir  string
	WorkDir string // in which they start
}

// record is what is known of a started daemon.
type record struct {
	Process
	Spec string `json:"spec"` // digest of what was started, to notice a change
}

// Ensure starts the daemon unless the same one is running; one that was
// started differently is replaced.
func (h Host) Ensure(ctx context.Context, d Daemon) error {
	spec := d.digest()
	if r, err := h.read(d.Name); err == nil && r.Alive() {
		if r.Spec == spec {
			return nil
		}
		if err := h.Stop(ctx, d.Name, 10*time.Second); err != nil {
			return err
		}
	}
	p, err := h.start(d)
	if err != nil {
		return fmt.Errorf("start %s: %w", d.Name, err)
	}
	return h.write(d.Name, record{Process: p, Spec: spec})
}

func (h Host) start(d Daemon) (Process, error) {
	for _, dir := range []string{h.LogDir, h.PidDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return Process{}, err
		}
	}
	log, err := os.OpenFile(h.LogFile(d.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return Process{}, err
	}
	defer log.Close()

	argv := append([]string{d.Path}, d.Args...)
	if h.NetNS != "" {
		// nsenter replaces itself with the program, so the process id stays.
		// "ip netns exec" would also remount /sys and hide the cgroups.
		argv = append([]string{"nsenter", "--net=" + h.NetNS, "--"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...) // no context: it shall outlive us
	cmd.Dir = h.WorkDir
	cmd.Env = append(os.Environ(), d.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Process{}, err
	}
	go cmd.Wait() // only so that one that dies early is not left a zombie
	return Find(cmd.Process.Pid)
}

// Stop asks the daemon to end, kills it when it has not after grace, and
// returns when it is gone. One that is not running is no error.
func (h Host) Stop(ctx context.Context, name string, grace time.Duration) error {
	r, err := h.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if err := r.End(ctx, grace); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
	}
	// A record that cannot be read is half-written: nothing can be ended by it.
	return os.Remove(h.pidFile(name))
}

// Running tells whether the daemon of that name runs, and its process id.
func (h Host) Running(name string) (pid int, ok bool) {
	r, err := h.read(name)
	if err != nil || !r.Alive() {
		return 0, false
	}
	return r.PID, true
}

// LogFile is where the daemon of that name writes.
func (h Host) LogFile(name string) string { return filepath.Join(h.LogDir, name+".log") }

// Tail returns the last lines of a daemon's log, for an error message.
func (h Host) Tail(name string, lines int) string {
	data, err := os.ReadFile(h.LogFile(name))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (h Host) pidFile(name string) string { return filepath.Join(h.PidDir, name+".json") }

func (h Host) read(name string) (record, error) {
	var r record
	data, err := os.ReadFile(h.pidFile(name))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

func (h Host) write(name string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	temp := h.pidFile(name) + ".new"
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temp, h.pidFile(name))
}

func (d Daemon) digest() string {
	sum := sha256.Sum256([]byte(strings.Join(append(append([]string{d.Path}, d.Args...), d.Env...), "\x00")))
	return hex.EncodeToString(sum[:8])
}
