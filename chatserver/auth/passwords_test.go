package auth

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestOnlyTheRightPasswordIsVerified(t *testing.T) {
	t.Parallel()
	p := NewPasswords(bcrypt.MinCost, 2)
	long := strings.Repeat("x", 100)
	for name, c := range map[string]struct{ password, wrong string }{
		"short":                          {"letmein", "letmeout"},
		"72 bytes":                       {long[:72], long[:71]},
		"last byte beyond bcrypt's 72":   {long + "a", long + "b"},
		"cut to bcrypt's 72":             {long, long[:72]},
		"its own digest in place of it":  {long, string(fit(long))[:43]},
		"a zero byte ends no comparison": {"abcdefgh\x00one", "abcdefgh\x00two"},
	} {
		t.Run(name, func(t *testing.T) {
			hash, err := p.Hash(t.Context(), c.password)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Verify(t.Context(), hash, c.password); err != nil {
				t.Errorf("the right password: %v", err)
			}
			if err := p.Verify(t.Context(), hash, c.wrong); !errors.Is(err, ErrWrongPassword) {
				t.Errorf("a wrong password: %v", err)
			}
		})
	}
}

func TestUnknownUserCostsAsMuchAsAWrongPassword(t *testing.T) {
	t.Parallel()
	p := NewPasswords(6, 1)
	if cost, err := bcrypt.Cost(p.none); err != nil || cost != 6 {
		t.Errorf("the stand-in hash has cost %d (%v), the others 6", cost, err)
	}
	if err := p.VerifyNone(t.Context(), "anything"); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("got %v", err)
	}
}

func TestLoginStormIsBounded(t *testing.T) {
	t.Parallel()
	p := NewPasswords(bcrypt.MinCost, 2)
	for range cap(p.slots) { // all are at work
		p.slots <- struct{}{}
		p.line <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var waiting atomic.Int32
	results := make(chan error, 2*waitLine)
	for range 2 * waitLine {
		go func() {
			waiting.Add(1)
			_, err := p.Hash(ctx, "password")
			results <- err
		}()
	}
	await(t, "the line to be full", func() bool { return waiting.Load() == 2*waitLine && len(p.line) == cap(p.line) })

	if _, err := p.Hash(t.Context(), "one too many"); !errors.Is(err, ErrBusy) {
		t.Errorf("beyond the line: %v, want ErrBusy", err)
	}
	cancel()
	for range 2 * waitLine {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("waiting when the caller left: %v", err)
		}
	}
	<-p.slots
	<-p.line
	if _, err := p.Hash(t.Context(), "after the storm"); err != nil {
		t.Errorf("after the storm: %v", err)
	}
}

func TestNamesAndPasswordsAreChecked(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"bob": true, "Alice_99": true, strings.Repeat("a", 50): true,
		"": false, "al": false, strings.Repeat("a", 51): false, "a b c": false, "a}b{c": false, "bob\n": false, "ålice": false,
	} {
		if err := ValidateUsername(name); (err == nil) != ok {
			t.Errorf("user name %q: %v", name, err)
		}
	}
	for length, ok := range map[int]bool{0: false, 7: false, 8: true, 128: true, 129: false} {
		if err := ValidatePassword(strings.Repeat("p", length)); (err == nil) != ok {
			t.Errorf("password of %d bytes: %v", length, err)
		}
	}
}

// await waits for a condition, generously: tests share the machine.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
