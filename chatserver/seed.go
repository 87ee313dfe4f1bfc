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
	secret string     // a password, or its bcrypt hash
	role   store.Role // counts if ranked
	ranked bool       // the role was given
}

// demoSeeds are for trying things out; anybody can log in as them.
var demoSeeds = []seed{
	{user: "alice", secret: "password123"}, {user: "bob", secret: "letmein"}, {user: "dave", secret: "123456"},
}

// readSeeds reads lines of "user:password" or "user:<bcrypt hash>", each with
// ":<role>" at its end or not. Empty lines and those that start with '#' are skipped.
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
		s, err := parseSeed(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", file, n, err)
		}
		seeds = append(seeds, s)
	}
	return seeds, lines.Err()
}

// parseSeed reads a line. Passwords may have colons: what stands behind the last
// one is a role only if it is the name of one.
func parseSeed(line string) (seed, error) {
	user, secret, _ := strings.Cut(line, ":")
	s := seed{user: user, secret: secret}
	if i := strings.LastIndexByte(secret, ':'); i >= 0 {
		if role, err := store.ParseRole(secret[i+1:]); err == nil {
			s.secret, s.role, s.ranked = secret[:i], role, true
		}
	}
	if s.secret == "" {
		return seed{}, errors.New("write user:password or user:<bcrypt hash>, with :moderator or :admin at the end for a role")
	}
	return s, auth.ValidateUsername(user)
}

// plant makes the account unless there is one of that name already, whose
// password is its owner's business. The role is the file's business: where it
// gives one, that is the user's at every start.
func (s seed) plant(ctx context.Context, st *store.Store, passwords *auth.Passwords) error {
	_, err := st.PasswordHash(ctx, s.user)
	if errors.Is(err, store.ErrNoUser) {
		err = s.create(ctx, st, passwords)
	}
	if err == nil && s.ranked {
		err = st.SetRole(ctx, s.user, s.role)
	}
	return err
}

func (s seed) create(ctx context.Context, st *store.Store, passwords *auth.Passwords) error {
	hash := s.secret
	if _, err := bcrypt.Cost([]byte(hash)); err != nil {
		if hash, err = passwords.Hash(ctx, s.secret); err != nil {
			return fmt.Errorf("hash the password of %s: %w", s.user, err)
		}
	}
	err := st.CreateUser(ctx, s.user, hash)
	if errors.Is(err, store.ErrUserExists) {
		return nil // another server was faster
	}
	return err
}
