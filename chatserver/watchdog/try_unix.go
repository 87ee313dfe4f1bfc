//go:build unix

package watchdog

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/chatcluster/chatcluster/chatserver/poller"
)

// rawConn gives access to the system call below a connection; nil if there is none.
func rawConn(nc net.Conn) syscall.RawConn {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// tryWrite writes what fits into the socket's buffer now; that may be nothing.
func tryWrite(raw syscall.RawConn, p []byte) (int, error) {
	a := attempts.Get().(*attempt)
	defer a.done()
	a.p = p
	if err := raw.Write(a.write); err != nil {
		return 0, err
	}
	if errors.Is(a.err, syscall.EAGAIN) {
		return 0, nil
	}
	return a.n, a.err
}

// tryRead reads what is there now; if that is nothing it returns ErrNothing.
func tryRead(raw syscall.RawConn, p []byte) (int, error) {
	a := attempts.Get().(*attempt)
	defer a.done()
	a.p = p
	if err := raw.Read(a.read); err != nil {
		return 0, err
	}
	switch {
	case errors.Is(a.err, syscall.EAGAIN):
		return 0, ErrNothing
	case a.err != nil:
		return 0, os.NewSyscallError("read", a.err)
	case a.n == 0:
		return 0, io.EOF
	}
	return a.n, nil
}

// await has the poller tell of id when there is something to read.
func await(raw syscall.RawConn, p *poller.Poller, id uint64) error {
	a := attempts.Get().(*attempt)
	defer a.done()
	a.poller, a.id = p, id
	err := raw.Control(a.control)
	return errors.Join(err, a.err)
}

// attempt is what these hand to the runtime. They are shared, so that to write,
// read and wait allocates nothing.
type attempt struct {
	p      []byte
	n      int
	poller *poller.Poller
	id     uint64
	err    error

	write, read func(fd uintptr) (done bool) // always true, whatever came of it: false would wait
	control     func(fd uintptr)
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.write = func(fd uintptr) bool { return a.call(fd, syscall.Write) }
	a.read = func(fd uintptr) bool { return a.call(fd, syscall.Read) }
	a.control = func(fd uintptr) { a.err = a.poller.Await(int(fd), a.id) }
	return a
}}

func (a *attempt) call(fd uintptr, what func(fd int, p []byte) (int, error)) (done bool) {
	for {
		a.n, a.err = what(int(fd), a.p)
		if !errors.Is(a.err, syscall.EINTR) {
			break
		}
	}
	a.n = max(a.n, 0)
	return true
}

func (a *attempt) done() {
	a.p, a.poller = nil, nil
	attempts.Put(a)
}
