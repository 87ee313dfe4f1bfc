//go:build !linux

package poller

import "context"

// Poller is none.
type Poller struct{}

// New says that there is none here.
func New() (*Poller, error) { return nil, ErrUnsupported }

// Await is never called.
func (*Poller) Await(int, uint64) error { return ErrUnsupported }

// Run is never called.
func (*Poller) Run(context.Context, func([]uint64)) error { return ErrUnsupported }
