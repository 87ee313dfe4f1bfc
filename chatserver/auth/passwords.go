// Package auth proves who somebody is: passwords, and access tokens for the time after.
//
// It knows no storage and no wire: whoever calls it keeps the hashes and carries the tokens.
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"

	"golang.org/x/crypto/bcrypt"
)

// What a check of a password can end with.
var (
	ErrWrongPassword = errors.New("wrong user name or password")
	ErrBusy          = errors.New("too many logins at once, try again in a few seconds")
)

const (
	// waitLine is how many may wait for each slot. At bcrypt's cost 10 (some 60 ms) the last
	// of them waits about 2 seconds.
	waitLine = 32
	// bcryptLimit is how many bytes bcrypt looks at.
	bcryptLimit = 72
)

// Passwords hashes and verifies with bcrypt, few at a time: a storm of logins must not take
// the processor from the messages of those who are online. It is safe for concurrent use.
type Passwords struct {
	cost  int
	slots chan struct{} // held while hashing
	line  chan struct{} // held while waiting or hashing
	none  []byte        // hash of a password that nobody has
}

// NewPasswords makes hashes of a bcrypt cost (4 to 31; others become the default, 10), at
// most concurrency at a time (at least 1).
func NewPasswords(cost, concurrency int) *Passwords {
	if cost < bcrypt.MinCost || cost > bcrypt.MaxCost {
		cost = bcrypt.DefaultCost
	}
	concurrency = max(concurrency, 1)
	none, err := bcrypt.GenerateFromPassword(randomSecret(), cost)
	if err != nil {
		panic(err) // cost and length are right
	}
	return &Passwords{
		cost:  cost,
		slots: make(chan struct{}, concurrency),
		line:  make(chan struct{}, concurrency*(1+waitLine)),
		none:  none,
	}
}

// Load is how many passwords are being hashed, and how many wait for it.
func (p *Passwords) Load() (hashing, waiting int) {
	hashing = len(p.slots)
	return hashing, max(0, len(p.line)-hashing)
}

// Hash is what to store for a password. It fails with ErrBusy when too many wait already.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	done, err := p.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	hash, err := bcrypt.GenerateFromPassword(fit(password), p.cost)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return string(hash), nil
}

// Verify fails with ErrWrongPassword, or with ErrBusy when too many wait already.
func (p *Passwords) Verify(ctx context.Context, hash, password string) error {
	done, err := p.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	err = bcrypt.CompareHashAndPassword([]byte(hash), fit(password))
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return ErrWrongPassword
	}
	if err != nil {
		return fmt.Errorf("verify a password: %w", err)
	}
	return nil
}

// VerifyNone takes as long as Verify and fails as it does. It is for users who do not exist,
// so that the time of the answer does not tell.
func (p *Passwords) VerifyNone(ctx context.Context, password string) error {
	if err := p.Verify(ctx, string(p.none), password); err != nil {
		return err
	}
	return ErrWrongPassword
}

// turn waits for a slot; call done to give it back.
func (p *Passwords) turn(ctx context.Context) (done func(), err error) {
	select {
	case p.line <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots; <-p.line }, nil
	case <-ctx.Done():
		<-p.line
		return nil, context.Cause(ctx)
	}
}

// fit makes a password that is longer than bcrypt looks at fit, with no byte ignored. The
// key keeps SHA-256 sums that leaked elsewhere from being tried as passwords here.
func fit(password string) []byte {
	if len(password) <= bcryptLimit {
		return []byte(password)
	}
	mac := hmac.New(sha256.New, []byte("chatcluster long password"))
	mac.Write([]byte(password))
	return base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
}

var username = regexp.MustCompile(`^[A-Za-z0-9_]{3,50}$`)

// ValidateUsername tells what is wrong with a user name.
func ValidateUsername(s string) error {
	if !username.MatchString(s) {
		return errors.New("a user name has 3 to 50 characters, each a letter, a digit or _")
	}
	return nil
}

// ValidatePassword tells what is wrong with a new password.
func ValidatePassword(s string) error {
	if len(s) < 8 || len(s) > 128 {
		return errors.New("a password has 8 to 128 bytes")
	}
	return nil
}
