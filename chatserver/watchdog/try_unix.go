//go:build unix

package watchdog

import (
	"errors"
	"net"
	"sync"
	"syscall"
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
	defer attempts.Put(a)
	a.p = p
	err := raw.Write(a.call)
	a.p = nil
	return a.n, errors.Join(err, a.err)
}

// attempt is what a tryWrite hands to the runtime. They are shared, so that a
// write allocates nothing.
type attempt struct {
	p    []byte
	n    int
	err  error
	call func(fd uintptr) bool // the method write
}

var attempts = sync.Pool{New: func() any {
	a := new(attempt)
	a.call = a.write
	return a
}}

func (a *attempt) write(fd uintptr) (done bool) {
	for {
		a.n, a.err = syscall.Write(int(fd), a.p)
		if !errors.Is(a.err, syscall.EINTR) {
			break
		}
	}
	a.n = max(a.n, 0)
	if errors.Is(a.err, syscall.EAGAIN) {
		a.err = nil
	}
	return true // whatever came of it: false would wait
}
