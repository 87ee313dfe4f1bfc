package host

import (
	"errors"
	"slices"
	"testing"
)

func TestMissingNamesThePackagesOfMissingPrograms(t *testing.T) {
	t.Parallel()
	look := func(program string) (string, error) {
		if program == "nft" || program == "ip" {
			return "", errors.New("not found")
		}
		return "/usr/sbin/" + program, nil
	}
	if got, want := missing(look), []string{"iproute2", "nftables"}; !slices.Equal(got, want) {
		t.Errorf("missing = %q, want %q", got, want)
	}
	if got := missing(func(string) (string, error) { return "/bin/x", nil }); len(got) != 0 {
		t.Errorf("nothing is missing, but %q", got)
	}
}
