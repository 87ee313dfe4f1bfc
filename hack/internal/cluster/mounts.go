//go:build linux

package cluster

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// mountpoints lists where file systems of the wanted types are mounted, in the
// order in which they were.
func mountpoints(wanted func(fstype string) bool) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(data), wanted), nil
}

// parseMounts reads lines such as "tmpfs /run tmpfs rw 0 0", in which spaces
// within names are written \040.
func parseMounts(table string, wanted func(fstype string) bool) []string {
	var points []string
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) >= 3 && wanted(f[2]) {
			points = append(points, unescape.Replace(f[1]))
		}
	}
	return points
}

// unmountUnder unmounts all that is mounted at or under the directories, the
// newest first.
func unmountUnder(dirs ...string) error {
	points, err := mountpoints(func(string) bool { return true })
	if err != nil {
		return err
	}
	for i := len(points) - 1; i >= 0; i-- {
		if !under(points[i], dirs) {
			continue
		}
		if err := syscall.Unmount(points[i], syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", points[i], err)
		}
	}
	return nil
}

func under(path string, dirs []string) bool {
	for _, d := range dirs {
		if path == d || strings.HasPrefix(path, d+"/") {
			return true
		}
	}
	return false
}
