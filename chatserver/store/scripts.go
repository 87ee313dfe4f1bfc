package store

import (
	"context"
	"embed"
	"iter"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua
var lua embed.FS

// script is lua/<name>.lua, after the libraries that it uses. Comments stay here: Redis keeps
// the text, and the embedded one of development reads it anew at each call.
func script(name string, libs ...string) *redis.Script {
	var code strings.Builder
	for _, file := range append(libs, name) {
		text, err := lua.ReadFile("lua/" + file + ".lua")
		if err != nil {
			panic(err) // the file is compiled in
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
				code.WriteString(line + "\n")
			}
		}
	}
	return redis.NewScript(code.String())
}

// pipelined is how many commands go into one pipeline: enough to hide the round trip, few
// enough that other clients of Redis are served in between.
const pipelined = 256

func chunks[T any](all []T) iter.Seq[[]T] { return slices.Chunk(all, pipelined) }

// call is one run of a script.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
}

// runAll runs the calls in pipelines and returns their results in order. The error of each
// is its own.
func (s *Store) runAll(ctx context.Context, calls []call) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	pipe := s.client.Pipeline()
	for i, c := range calls {
		cmds[i] = pipe.EvalSha(ctx, c.script.Hash(), c.keys, c.args...)
	}
	_, _ = pipe.Exec(ctx) // each command carries its error
	for i, c := range calls {
		if redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT") {
			cmds[i] = c.script.Eval(ctx, s.client, c.keys, c.args...)
		}
	}
	return cmds
}
