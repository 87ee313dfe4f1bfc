package load

import (
	"syscall"
	"time"
)

// sleep is for short times. The kernel keeps them to some ten microseconds.
func sleep(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
