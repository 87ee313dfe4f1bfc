//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a server under test, the baseline, or the load.
type process struct {
	*exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer // the last of what it wrote to stderr
}

// serving is the line by which a server tells that it serves, and where.
type serving struct {
	Msg   string `json:"msg"`
	HTTPS string `json:"https"`
	Admin string `json:"admin"`
}

// start runs a program until the benchmark ends.
func start(path string, args ...string) *process {
	p := &process{Cmd: exec.Command(path, args...)}
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p
}

// startServer runs a server and waits until it serves.
func startServer(path string, args ...string) (*process, serving, error) {
	p := start(path, args...)
	stderr, err := p.StderrPipe()
	if err != nil {
		return nil, serving{}, err
	}
	if err := p.Start(); err != nil {
		return nil, serving{}, err
	}
	found := make(chan serving, 1)
	go p.follow(stderr, found)
	select {
	case s, ok := <-found:
		if !ok {
			return nil, serving{}, fmt.Errorf("%s ended:\n%s", path, p.logs())
		}
		return p, s, nil
	case <-time.After(patience):
		p.stop()
		return nil, serving{}, fmt.Errorf("%s does not serve:\n%s", path, p.logs())
	}
}

func (p *process) follow(r io.Reader, found chan<- serving) {
	defer close(found)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p.mu.Lock()
		if p.log.Len() > 64<<10 {
			p.log.Reset()
		}
		p.log.Write(lines.Bytes())
		p.log.WriteByte('\n')
		p.mu.Unlock()
		var s serving
		if json.Unmarshal(lines.Bytes(), &s) == nil && s.Msg == "serving" {
			found <- s
		}
	}
}

func (p *process) logs() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) stop() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

func (p *process) pid() int { return p.Process.Pid }

// startLoad runs this program as a load process.
func startLoad() (*process, *rpc.Client, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	p := start(self, "load")
	p.Stderr = os.Stderr
	in, err1 := p.StdinPipe()
	out, err2 := p.StdoutPipe()
	if err := errors.Join(err1, err2, p.Start()); err != nil {
		return nil, nil, err
	}
	return p, jsonrpc.NewClient(struct {
		io.Reader
		io.WriteCloser
	}{out, in}), nil
}

// ticks is how many of /proc's processor ticks a second has, on Linux always.
const ticks = 100

// processorTime is what a process has used on all cores, in user and kernel mode.
func processorTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may have spaces: count from behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / ticks
}

// resident is a process' resident memory in bytes.
func resident(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kilobytes << 10
}
