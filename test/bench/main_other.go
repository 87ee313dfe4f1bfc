//go:build !linux

// The bench command measures the real chat server. It reads what processes use
// from /proc, so it runs on Linux alone.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: it measures processes by what Linux tells of them in /proc: run it there")
	os.Exit(1)
}
