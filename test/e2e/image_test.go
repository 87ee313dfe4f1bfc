package e2e

import (
	"debug/elf"
	"os"
	"testing"
)

// maxImage is what an image of ours may weigh; it is its binary and nothing else.
const maxImage = 60_000_000 // bytes

func TestImagesAreSmallAndStatic(t *testing.T) {
	t.Parallel()
	local(t) // whose images are made of these
	for _, file := range []string{"../../bin/operator", "../../bin/chatserver"} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		binary, err := elf.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer binary.Close()
		for _, p := range binary.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s is not static: an image without libraries cannot run it", file)
			}
		}
		t.Logf("%s: %.1f MB", file, float64(info.Size())/1e6)
		if info.Size() > maxImage {
			t.Errorf("%s is larger than %d bytes", file, maxImage)
		}
	}
}
