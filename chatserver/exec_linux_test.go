package chatserver_test

import "syscall"

// dieWithTests ends the servers even if the tests are killed.
func dieWithTests() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
