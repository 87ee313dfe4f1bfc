package line

import (
	"bufio"
	"errors"
	"io"
)

// reader reads lines of a bounded length. It keeps a small buffer only: a line
// that is longer takes memory for as long as it is being read.
type reader struct {
	buf   *bufio.Reader
	limit int // bytes of a line, its ending aside

	line    []byte // of the present line, what has come so far
	tooLong bool   // the present line is being skipped
}

const readBuffer = 512 // bytes

func newReader(r io.Reader, limit int) *reader {
	return &reader{buf: bufio.NewReaderSize(r, readBuffer), limit: limit}
}

// errTooLong is a line over the limit. It was skipped: the next one can be read.
var errTooLong = errors.New("the line is too long")

// next is the next line without its ending. What stands before the end of the
// input is no line. After an error that passes, such as a deadline, next goes
// on where it was.
func (r *reader) next() (string, error) {
	for {
		part, err := r.buf.ReadSlice('\n')
		r.line = append(r.line, part...)
		if len(r.line) > r.limit+len("\r\n") {
			r.tooLong, r.line = true, r.line[:0]
		}
		if err == nil {
			return r.take()
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
}

// take ends the present line.
func (r *reader) take() (string, error) {
	line, tooLong := trimEnding(r.line), r.tooLong
	r.line, r.tooLong = nil, false
	if tooLong || len(line) > r.limit {
		return "", errTooLong
	}
	return string(line), nil
}

func trimEnding(line []byte) []byte {
	for _, b := range []byte("\n\r") {
		if n := len(line); n > 0 && line[n-1] == b {
			line = line[:n-1]
		}
	}
	return line
}
