package poller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// batch is how many descriptors are told of at a time.
const batch = 128

// Poller is an epoll instance.
type Poller struct {
	file   *os.File // the instance, itself waited for by Go's own poller
	raw    syscall.RawConn
	fd     int
	events [batch]syscall.EpollEvent
}

// New makes a poller; Run has to run for it to tell anything.
func New() (*Poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("wait for epoll: %w", err)
	}
	return &Poller{file: file, raw: raw, fd: fd}, nil
}

// Await has ready told once that fd has something to read, or has ended, by the id
// given here; at once, if it has already. It may be called from any goroutine, while
// fd is open; when fd is closed it is forgotten. A descriptor that is waited for
// already is waited for no more than once.
func (p *Poller) Await(fd int, id uint64) error {
	e := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLONESHOT, Fd: int32(id), Pad: int32(id >> 32)}
	err := syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_MOD, fd, &e)
	if errors.Is(err, syscall.ENOENT) {
		err = syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, fd, &e)
	}
	return os.NewSyscallError("epoll_ctl", err)
}

// Run calls ready with the ids of what is ready, until ctx ends. The slice is used
// again afterwards. An id may come although nothing is there.
func (p *Poller) Run(ctx context.Context, ready func(ids []uint64)) error {
	stop := context.AfterFunc(ctx, func() { _ = p.file.Close() })
	defer stop()
	ids := make([]uint64, 0, batch)
	for {
		n, err := p.wait()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for connections: %w", err)
		}
		ids = ids[:0]
		for _, e := range p.events[:n] {
			ids = append(ids, uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32)
		}
		ready(ids)
	}
}

// wait waits until something is ready, and returns how many events there are.
func (p *Poller) wait() (n int, err error) {
	waiting := p.raw.Read(func(fd uintptr) (done bool) {
		n, err = syscall.EpollWait(int(fd), p.events[:], 0)
		if errors.Is(err, syscall.EINTR) {
			n, err = 0, nil
		}
		return n > 0 || err != nil
	})
	if waiting != nil {
		return 0, waiting
	}
	return n, os.NewSyscallError("epoll_wait", err)
}
