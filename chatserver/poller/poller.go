// Package poller waits for many descriptors to have something to read, on one
// goroutine. Go's own way takes one for each, whose stack is most of what an idle
// connection costs.
//
// It knows the operating system's interface and nothing of connections.
package poller

import "errors"

// ErrUnsupported says that this system has no poller: there a goroutine has to wait
// for each connection.
var ErrUnsupported = errors.New("waiting for many connections on one goroutine is not supported on this system")
