//go:build !unix

package watchdog

import (
	"net"
	"syscall"

	"github.com/chatcluster/chatcluster/chatserver/poller"
)

// rawConn is nil: here connections only know how to wait.
func rawConn(net.Conn) syscall.RawConn { return nil }

func tryWrite(syscall.RawConn, []byte) (int, error) { return 0, nil }

func tryRead(syscall.RawConn, []byte) (int, error) { return 0, ErrNothing }

func await(syscall.RawConn, *poller.Poller, uint64) error { return poller.ErrUnsupported }
