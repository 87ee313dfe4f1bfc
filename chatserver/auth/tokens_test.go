package auth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const audience = "chats/acme"

func TestTokenTellsWhoseItIs(t *testing.T) {
	t.Parallel()
	tokens := NewTokens(RandomKeys(), audience)
	token, issued, err := tokens.Issue("alice", "s1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := tokens.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.User != "alice" || parsed.Session != "s1" || parsed != issued {
		t.Errorf("issued %+v, parsed %+v", issued, parsed)
	}
	if left := time.Until(parsed.Expires); left > time.Hour || left < 50*time.Minute {
		t.Errorf("a token for an hour is good for %s", left)
	}
}

func TestBadTokensAreRefusedForTheirReason(t *testing.T) {
	t.Parallel()
	keys := RandomKeys()
	secret := keys.set.Load().secrets["random"]
	tokens := NewTokens(keys, audience)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := func() jwt.MapClaims {
		now := time.Now()
		return jwt.MapClaims{"sub": "alice", "jti": "s1", "aud": audience, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	}
	with := func(name string, value any) jwt.MapClaims {
		c := good()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	sign := func(method jwt.SigningMethod, kid any, claims jwt.MapClaims, key any) string {
		token := jwt.NewWithClaims(method, claims)
		if kid != nil {
			token.Header["kid"] = kid
		}
		signed, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	hs256 := func(claims jwt.MapClaims) string { return sign(jwt.SigningMethodHS256, "random", claims, secret) }
	if _, err := tokens.Parse(hs256(good())); err != nil {
		t.Fatalf("the good token that the bad ones differ from: %v", err)
	}
	past := time.Now().Add(-time.Minute).Unix()
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"expired":                  {hs256(with("exp", past)), ErrExpired},
		"never expires":            {hs256(with("exp", nil)), ErrInvalid},
		"for another cluster":      {hs256(with("aud", "chats/other")), ErrWrongCluster},
		"expired, another cluster": {hs256(with("aud", "chats/other")), ErrWrongCluster},
		"for no cluster":           {hs256(with("aud", nil)), ErrInvalid},
		"no user":                  {hs256(with("sub", nil)), ErrInvalid},
		"user with a brace":        {hs256(with("sub", "ali}ce")), ErrInvalid},
		"no session":               {hs256(with("jti", nil)), ErrInvalid},
		"issued in the future":     {hs256(with("iat", time.Now().Add(time.Hour).Unix())), ErrInvalid},
		"alg none":                 {sign(jwt.SigningMethodNone, "random", good(), jwt.UnsafeAllowNoneSignatureType), ErrInvalid},
		"alg RS256":                {sign(jwt.SigningMethodRS256, "random", good(), rsaKey), ErrInvalid},
		"alg HS512, right secret":  {sign(jwt.SigningMethodHS512, "random", good(), secret), ErrInvalid},
		"unknown kid":              {sign(jwt.SigningMethodHS256, "other", good(), secret), ErrInvalid},
		"no kid":                   {sign(jwt.SigningMethodHS256, nil, good(), secret), ErrInvalid},
		"kid that is a number":     {sign(jwt.SigningMethodHS256, 7, good(), secret), ErrInvalid},
		"wrong secret":             {sign(jwt.SigningMethodHS256, "random", good(), randomSecret()), ErrInvalid},
		"not a token":              {"hello", ErrInvalid},
		"empty":                    {"", ErrInvalid},
		"too long":                 {hs256(with("pad", strings.Repeat("x", maxToken))), ErrInvalid},
	} {
		if _, err := tokens.Parse(c.token); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	tokens := NewTokens(RandomKeys(), audience)
	token, _, err := tokens.Issue("alice", "s1", time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := tokens.Parse(s); err == nil && c.User != "alice" {
			t.Fatalf("a token that was not issued says %+v", c)
		}
	})
}

func TestKeyDirectoriesThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", minSecret)
	for name, files := range map[string]map[string]string{
		"empty":             {},
		"no current":        {"k1": long},
		"current is absent": {"k1": long, "current": "k2"},
		"short secret":      {"k1": long[1:], "current": "k1"},
		"huge secret":       {"k1": strings.Repeat("k", maxSecret+1), "current": "k1"},
	} {
		dir := t.TempDir()
		for file, content := range files {
			write(t, filepath.Join(dir, file), content)
		}
		if _, err := LoadKeys(dir); err == nil || !strings.Contains(err.Error(), "token key") && !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadKeys(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent directory was loaded")
	}
}

// TestRotationIsPickedUpLive changes keys the way the kubelet does: a new directory, and the
// link ..data swapped to it.
func TestRotationIsPickedUpLive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k1, k2 := strings.Repeat("1", minSecret), strings.Repeat("2", minSecret)
	project(t, dir, "v1", map[string]string{"k1": k1, "current": "k1"})
	keys, err := LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	watched := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { watched <- keys.Watch(ctx, slog.New(slog.DiscardHandler)) }()
	tokens := NewTokens(keys, audience)
	old, _, err := tokens.Issue("alice", "s1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	current := func() string { return keys.set.Load().current }

	project(t, dir, "v2", map[string]string{"k1": k1, "k2": k2, "current": "k2\n"})
	await(t, "the new key to sign", func() bool { return current() == "k2" })
	if _, err := tokens.Parse(old); err != nil {
		t.Errorf("a token of the key before: %v", err)
	}
	fresh, _, err := tokens.Issue("bob", "s1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}

	// A bad rotation changes nothing; the good one after it shows that it was read.
	project(t, dir, "v3", map[string]string{"k2": k2, "current": "k3"})
	time.Sleep(3 * settle) // so that v3 is not merely skipped
	if _, err := tokens.Parse(old); err != nil || current() != "k2" {
		t.Errorf("after a bad rotation %s signs, and the old token: %v", current(), err)
	}

	project(t, dir, "v4", map[string]string{"k2": k2, "current": "k2"})
	await(t, "the old key to go", func() bool { return len(keys.set.Load().secrets) == 1 })
	if _, err := tokens.Parse(old); !errors.Is(err, ErrInvalid) {
		t.Errorf("a token of a key that is gone: %v", err)
	}
	if _, err := tokens.Parse(fresh); err != nil {
		t.Errorf("a token of the key that stays: %v", err)
	}
	cancel()
	if err := <-watched; err != nil {
		t.Errorf("the watch ended with %v", err)
	}
}

// project writes a Secret volume the way the kubelet does.
func project(t *testing.T, dir, version string, files map[string]string) {
	t.Helper()
	data := filepath.Join(dir, ".."+version)
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		write(t, filepath.Join(data, name), content)
		link(t, filepath.Join("..data", name), filepath.Join(dir, name))
	}
	link(t, ".."+version, filepath.Join(dir, "..data"))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // links of files that are gone
		if _, err := os.Stat(filepath.Join(dir, e.Name())); err != nil {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// link makes or replaces a symbolic link in one step.
func link(t *testing.T, target, name string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(name), "..tmp")
	if err := os.Symlink(target, tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, name); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
