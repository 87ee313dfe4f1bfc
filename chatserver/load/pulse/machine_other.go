//go:build !linux

package pulse

import "time"

// machineTimes are not known here.
func machineTimes() (busy, all time.Duration) { return 0, 0 }
