//go:build !linux

package chatserver_test

import "syscall"

func dieWithTests() *syscall.SysProcAttr { return nil }
