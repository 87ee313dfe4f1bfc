package hub

import (
	"bytes"
	"testing"

	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

func TestABurstHasForEachEncodingWhatItsPartsHave(t *testing.T) {
	t.Parallel()
	burst := func() *Frame {
		list := newFrame(protocol.Event{Type: protocol.TypeUserList, Room: "Lobby", Users: []string{"alice"}})
		list.jsonOnly = true
		return joined([]*Frame{
			newFrame(protocol.Event{Type: protocol.TypeMessage, Room: "Lobby", Username: "alice", Message: "one"}),
			newFrame(protocol.Event{Type: protocol.TypeEdited, Room: "Lobby", Username: "alice", Message: "mended", Ref: 1}),
			list,
			newFrame(protocol.Event{Type: protocol.TypeMessage, Room: "Lobby", Username: "alice", Message: "two"}),
		})
	}
	// Whichever encoding is asked for first must not decide for the others.
	for _, order := range [][]Encoding{{JSON, Plain, Line}, {Plain, Line, JSON}, {Line, JSON, Plain}} {
		f := burst()
		for _, enc := range order {
			var want []byte
			for _, part := range f.parts {
				want = append(want, part.bytes(enc)...)
			}
			if got := f.bytes(enc); !bytes.Equal(got, want) {
				t.Errorf("in the order %v, encoding %d is\n%q, want\n%q", order, enc, got, want)
			}
		}
		if bytes.Contains(f.bytes(Plain), []byte("mended")) || !bytes.Contains(f.bytes(JSON), []byte("mended")) {
			t.Errorf("in the order %v, an edit is for clients of the full protocol alone", order)
		}
	}
}
