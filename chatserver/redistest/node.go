package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// startTimeout is generous: tests share the machine.
const startTimeout = 30 * time.Second

// Node is one redis-server process.
type Node struct {
	Addr string // host:port on the loopback interface

	port, bus int
	admin     redis.Options // of a client that may do everything
	binary    string
	args      []string
	dir       string
	log       string // file
	process   *exec.Cmd
	exited    chan struct{} // closed when the process has ended
}

func startNode(dir string, args ...string) (*Node, error) {
	return startNodeAs(dir, &redis.Options{}, args...)
}

// startNodeAs tries several ports, since another process may take a free one first. With a
// TLS configuration in admin, the node takes TLS only.
func startNodeAs(dir string, admin *redis.Options, args ...string) (*Node, error) {
	var errs []error
	for range 5 {
		n, err := tryNode(dir, admin, args)
		if err == nil {
			return n, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func tryNode(dir string, admin *redis.Options, args []string) (*Node, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("the tests need redis-server in PATH, install it (Debian: apt-get install redis-server): %w", err)
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	n := &Node{port: ports[0], bus: ports[1], binary: binary, admin: *admin}
	n.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port))
	n.admin.Addr, n.admin.Protocol, n.admin.DialerRetries = n.Addr, 2, 1
	port := []string{"--port", strconv.Itoa(n.port)}
	if n.admin.TLSConfig != nil {
		port = []string{"--port", "0", "--tls-port", strconv.Itoa(n.port)}
	}
	dir = filepath.Join(dir, strconv.Itoa(n.port))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	n.dir, n.log = dir, filepath.Join(dir, "log")
	n.args = slices.Concat(port, []string{
		"--bind", "127.0.0.1", "--cluster-port", strconv.Itoa(n.bus),
		"--dir", dir, "--logfile", n.log, "--save", "", "--appendonly", "no", "--daemonize", "no",
	}, args)
	if err := n.start(); err != nil {
		return nil, err
	}
	return n, nil
}

// start runs the process until it answers.
func (n *Node) start() error {
	n.process = exec.Command(n.binary, n.args...)
	n.process.SysProcAttr = dieWithParent()
	if err := n.process.Start(); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	exited := make(chan struct{})
	n.exited = exited
	go func() {
		_ = n.process.Wait()
		close(exited)
	}()
	if err := n.awaitPing(); err != nil {
		n.Stop()
		return err
	}
	return nil
}

// Restart starts a stopped node again on its address, with what its append-only file has; one
// without a file is empty.
func (n *Node) Restart() error {
	n.Stop()
	return n.start()
}

// Remember copies the append-only file. What it returns stops the node and starts it again
// with the copy, as if what was written since had never reached the disk.
func (n *Node) Remember() (restart func() error, err error) {
	file, copied := filepath.Join(n.dir, "appendonlydir"), filepath.Join(n.dir, "remembered")
	if err := os.RemoveAll(copied); err != nil {
		return nil, err
	}
	if err := os.CopyFS(copied, os.DirFS(file)); err != nil {
		return nil, fmt.Errorf("copy the append-only file: %w", err)
	}
	return func() error {
		n.Stop()
		if err := os.RemoveAll(file); err != nil {
			return err
		}
		if err := os.Rename(copied, file); err != nil {
			return err
		}
		return n.start()
	}, nil
}

func (n *Node) awaitPing() error {
	c := n.Client()
	defer func() { _ = c.Close() }()
	err := await(func(ctx context.Context) error {
		select {
		case <-n.exited:
			return errExited
		default:
			return c.Ping(ctx).Err()
		}
	})
	if err != nil {
		tail, _ := os.ReadFile(n.log)
		return fmt.Errorf("redis-server on %s: %w; its log:\n%s", n.Addr, err, tail)
	}
	return nil
}

var errExited = errors.New("it exited")

// await calls f until it returns nil.
func await(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil || errors.Is(err, errExited) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// Stop kills the process and waits for its end. It is idempotent.
func (n *Node) Stop() {
	_ = n.process.Process.Kill() // fails if it has ended
	<-n.exited
}

// Terminate asks the process to end, as a service manager does, and waits for it.
func (n *Node) Terminate() {
	_ = n.process.Process.Signal(syscall.SIGTERM)
	<-n.exited
}

// Freeze stops the process without closing its connections, as a machine that hangs does,
// until thaw is called.
func (n *Node) Freeze() (thaw func()) {
	_ = n.process.Process.Signal(syscall.SIGSTOP)
	return func() { _ = n.process.Process.Signal(syscall.SIGCONT) }
}

// Client connects to this node alone, with all rights; the caller closes it.
func (n *Node) Client() *redis.Client {
	o := n.admin
	return redis.NewClient(&o)
}

func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }() // after all are found, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
