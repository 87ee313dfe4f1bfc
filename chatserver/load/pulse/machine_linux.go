package pulse

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// machineTimes are how much processor time was used on the machine, and how much
// of it there was, since it started.
func machineTimes() (busy, all time.Duration) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	// cpu user nice system idle iowait irq softirq steal; guest time is in user already.
	for i, field := range strings.Fields(strings.TrimPrefix(line, "cpu")) {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil || i > 7 {
			break
		}
		all += time.Duration(ticks) * tick
		if i != 3 && i != 4 {
			busy += time.Duration(ticks) * tick
		}
	}
	return busy, all
}
