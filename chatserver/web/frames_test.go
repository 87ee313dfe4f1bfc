package web

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/watchdog"
)

// trickle is a connection on which bytes come a few at a time.
type trickle struct {
	all     []byte
	at      int
	random  *rand.Rand
	nothing bool // the next TryRead finds nothing
}

func (r *trickle) Read(p []byte) (int, error) {
	if r.at == len(r.all) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+r.random.IntN(5))], r.all[r.at:])
	r.at += n
	return n, nil
}

func (r *trickle) TryRead(p []byte) (int, error) {
	if r.nothing = !r.nothing; r.nothing {
		return 0, watchdog.ErrNothing
	}
	return r.Read(p)
}

// starts are the places where a message, or a control frame between messages, begins.
func starts(b []byte) map[int]bool {
	at := map[int]bool{}
	more := false
	for i := uint64(0); i < uint64(len(b)); {
		if !more {
			at[int(i)] = true
		}
		rest := b[i:]
		if len(rest) < 2 {
			return at
		}
		head, length := uint64(2), uint64(rest[1]&0x7f)
		extended := map[uint64]int{126: 2, 127: 8}[length]
		if len(rest) < 2+extended {
			return at
		}
		if extended > 0 {
			length = 0
			for _, digit := range rest[2 : 2+extended] {
				length = length<<8 | uint64(digit)
			}
			head += uint64(extended)
		}
		if rest[1]&0x80 != 0 {
			head += 4
		}
		if rest[0]&0x0f < 8 {
			more = rest[0]&0x80 == 0
		}
		if length > uint64(len(b)) {
			return at
		}
		i += head + length
	}
	if !more {
		at[len(b)] = true
	}
	return at
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x81, 0x82, 1, 2, 3, 4, 5, 6, 0x8a, 0x80, 1, 2, 3, 4}, uint64(1), uint8(16))
	f.Add([]byte{0x01, 0x80, 1, 2, 3, 4, 0x89, 0x00, 0x80, 0x01, 'x'}, uint64(2), uint8(3))
	f.Add(append([]byte{0x82, 126, 0, 200}, make([]byte, 203)...), uint64(3), uint8(255))
	f.Add([]byte{0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2}, uint64(4), uint8(1))
	f.Add(append([]byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4}, "abc\x88\x80\x01"...), uint64(5), uint8(9))
	f.Fuzz(func(t *testing.T, sent []byte, seed uint64, most uint8) {
		r := &trickle{all: sent, random: rand.New(rand.NewPCG(seed, 0))}
		fr := &frames{conn: r}
		boundary := starts(sent)
		var got bytes.Buffer
		buf := make([]byte, max(int(most), 1))
		for {
			n, err := fr.Read(buf)
			got.Write(buf[:n])
			switch {
			case errors.Is(err, watchdog.ErrNothing):
				if !boundary[got.Len()] {
					t.Fatalf("after %d bytes there may be nothing to read, in the midst of a message", got.Len())
				}
			case errors.Is(err, io.EOF):
				if !bytes.Equal(got.Bytes(), sent) {
					t.Fatalf("%d bytes were read of %d, or others", got.Len(), len(sent))
				}
				return
			case err != nil:
				t.Fatal(err)
			case n == 0:
				t.Fatal("a read of nothing")
			}
		}
	})
}
