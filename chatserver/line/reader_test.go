package line

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLinesAreReadUpToTheLimitAndTooLongOnesSkipped(t *testing.T) {
	t.Parallel()
	const limit = 1000
	exact, over, far := strings.Repeat("a", limit), strings.Repeat("b", limit+1), strings.Repeat("c", 100*limit)
	input := "one\ntwo\r\n\n" + exact + "\n" + exact + "\r\n" + over + "\n" + far + "\r\nlast\nunfinished"
	want := []string{"one", "two", "", exact, exact, "<too long>", "<too long>", "last"}

	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once":      func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReader(wrap(strings.NewReader(input)), limit)
			for i, w := range want {
				got, err := r.next()
				if errors.Is(err, errTooLong) {
					got, err = "<too long>", nil
				}
				if err != nil || got != w {
					t.Fatalf("line %d: got %.20q (%d bytes), %v; want %.20q (%d bytes)", i, got, len(got), err, w, len(w))
				}
			}
			if line, err := r.next(); !errors.Is(err, io.EOF) {
				t.Errorf("the end gave %q, %v; want io.EOF", line, err)
			}
		})
	}
}

func FuzzReader(f *testing.F) {
	f.Add("a\nb\r\n", 3)
	f.Add(strings.Repeat("x", 2000)+"\n\n", 700)
	f.Fuzz(func(t *testing.T, input string, limit int) {
		limit = limit&0xfff + 1
		r := newReader(strings.NewReader(input), limit)
		lines := 0
		for {
			line, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			lines++
			if len(line) > limit {
				t.Fatalf("a line of %d bytes came through a limit of %d", len(line), limit)
			}
		}
		if want := strings.Count(input, "\n"); lines != want {
			t.Fatalf("%d lines of %d", lines, want)
		}
	})
}
