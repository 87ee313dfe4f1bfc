//go:build unix

package load

import (
	"fmt"
	"syscall"
)

// spareDescriptors are for what is no chat connection.
const spareDescriptors = 128

// enoughDescriptors says whether this program may open so many connections. The
// runtime has raised the limit to what the system allows.
func enoughDescriptors(connections int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil //nolint:nilerr // then connecting will tell
	}
	if need := uint64(connections + spareDescriptors); limit.Cur < need {
		return fmt.Errorf("%d connections need %d open files and this program may have %d: run it after ulimit -n %d", connections, need, limit.Cur, need)
	}
	return nil
}
