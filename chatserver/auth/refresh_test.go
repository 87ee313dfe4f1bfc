package auth

import (
	"errors"
	"strings"
	"testing"
)

func TestRefreshTokensOfAFamilyShareItAndNothingElse(t *testing.T) {
	t.Parallel()
	first, a := NewRefreshToken()
	second, b, err := NextRefreshToken(first)
	if err != nil {
		t.Fatal(err)
	}
	other, c := NewRefreshToken()
	if a.Family != b.Family || a.Secret == b.Secret || a.Family == c.Family || a.Secret == c.Secret {
		t.Errorf("%+v, %+v and %+v", a, b, c)
	}
	for token, want := range map[string]Refresh{first: a, second: b, other: c, strings.ToUpper(first): a} {
		if r, err := ParseRefreshToken(token); r != want || err != nil || len(token) != 80 {
			t.Errorf("%s is %+v (%v), want %+v", token, r, err, want)
		}
		for _, sum := range []string{want.Family, want.Secret} {
			if strings.Contains(token, sum[:16]) {
				t.Errorf("what is kept gives a part of the token away")
			}
		}
	}
}

func TestWhatIsNoRefreshTokenIsInvalid(t *testing.T) {
	t.Parallel()
	good, _ := NewRefreshToken()
	for _, token := range []string{"", good[1:], good + "00", "g" + good[1:], good[:79] + "\n", strings.Repeat("é", 40)} {
		if _, err := ParseRefreshToken(token); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", token, err)
		}
		if _, _, err := NextRefreshToken(token); !errors.Is(err, ErrInvalid) {
			t.Errorf("a token after %q: %v", token, err)
		}
	}
}

func FuzzParseRefreshToken(f *testing.F) {
	good, _ := NewRefreshToken()
	f.Add(good)
	f.Add(good[:79])
	f.Fuzz(func(t *testing.T, token string) {
		r, err := ParseRefreshToken(token)
		if (err == nil) != (len(r.Family) == 64 && len(r.Secret) == 64) {
			t.Errorf("%q: %+v, %v", token, r, err)
		}
	})
}
