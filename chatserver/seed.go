package chatserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// seed is an account to make at start. Its password need not meet the rules for
// those that people choose.
type seed struct {
	user   string
	secret string // a password, or its bcrypt hash
}

// demoSeeds are for trying things out; anybody can log in as them.
var demoSeeds = []seed{{"alice", "password123"}, {"bob", "letmein"}, {"dave", "123456"}}

// readSeeds reads lines of "user:password" or "user:<bcrypt hash>". Empty lines
// and those that start with '#' are skipped.
func readSeeds(file string) ([]seed, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the users file: %w", err)
	}
	defer func() { _ = f.Close() }()
	var seeds []seed
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		user, secret, ok := strings.Cut(line, ":")
		if !ok || secret == "" {
			return nil, fmt.Errorf("%s, line %d: write user:password or user:<bcrypt hash>", file, n)
		}
		if err := auth.ValidateUsername(user); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", file, n, err)
		}
		seeds = append(seeds, seed{user, secret})
	}
	return seeds, lines.Err()
}

// plant makes the account unless there is one of that name already, whose
// password is its owner's business.
func (s seed) plant(ctx context.Context, st *store.Store, passwords *auth.Passwords) error {
	_, err := st.PasswordHash(ctx, s.user)
	if !errors.Is(err, store.ErrNoUser) {
		return err
	}
	hash := s.secret
	if _, err := bcrypt.Cost([]byte(hash)); err != nil {
		if hash, err = passwords.Hash(ctx, s.secret); err != nil {
			return fmt.Errorf("hash the password of %s: %w", s.user, err)
		}
	}
	err = st.CreateUser(ctx, s.user, hash)
	if errors.Is(err, store.ErrUserExists) {
		return nil // another server was faster
	}
	return err
}
