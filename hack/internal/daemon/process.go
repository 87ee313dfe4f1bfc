//go:build linux

package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is one process for certain: its id together with its start time.
type Process struct {
	PID int `json:"pid"`
	// Start is in clock ticks since the machine booted (proc(5), field 22).
	Start uint64 `json:"start"`
}

// Find returns the process that now has the id.
func Find(pid int) (Process, error) {
	start, _, err := stat(pid)
	return Process{PID: pid, Start: start}, err
}

// Alive tells whether the process still runs. One that has ended and only
// waits for its parent to take note (a zombie) does not.
func (p Process) Alive() bool {
	start, state, err := stat(p.PID)
	return err == nil && start == p.Start && state != 'Z' && state != 'X'
}

// End asks the process to end, kills it when it has not after grace, and
// returns when it is gone.
func (p Process) End(ctx context.Context, grace time.Duration) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if p.waitGone(ctx, grace) {
		return nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if p.waitGone(ctx, 10*time.Second) {
		return nil
	}
	return fmt.Errorf("process %d does not end, even when killed", p.PID)
}

// signal sends to the process if it is still the same one; FindProcess holds it
// by a descriptor, so it cannot change between the look and the signal.
func (p Process) signal(s os.Signal) error {
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return nil
	}
	defer handle.Release()
	if !p.Alive() {
		return nil
	}
	if err := handle.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

func (p Process) waitGone(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for p.Alive() {
		select {
		case <-ctx.Done():
			return !p.Alive()
		case <-t.C:
		}
	}
	return true
}

// stat reads a process's start time and state.
func stat(pid int) (start uint64, state byte, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name, in parentheses, may itself hold spaces and parentheses.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const stateField, startField = 3, 22 // proc(5) counts from 1; the first here is the third
	if len(fields) <= startField-stateField {
		return 0, 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	start, err = strconv.ParseUint(fields[startField-stateField], 10, 64)
	return start, fields[0][0], err
}

// Kill ends the process without asking.
func (p Process) Kill() error { return p.signal(syscall.SIGKILL) }
