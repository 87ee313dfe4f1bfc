//go:build race

package chatserver_test

func init() { buildFlags = append(buildFlags, "-race") }
