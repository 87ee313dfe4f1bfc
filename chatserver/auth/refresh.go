package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

const (
	familyBytes = 16
	secretBytes = 24
	// RefreshTokenLength is how many characters a refresh token has, all of them hexadecimal.
	RefreshTokenLength = 2 * (familyBytes + secretBytes)
)

// Refresh is what a server keeps of a refresh token: SHA-256 sums, in hex, of its two parts.
// The parts are random and long, so that nothing slower than SHA-256 is needed, and whoever
// reads the sums cannot make a token of them. A comparison of sums needs no constant time
// either: how far a guess's sum agrees tells nothing about the secret.
//
// All tokens that descend from one login share the family and differ in the secret.
type Refresh struct{ Family, Secret string }

// NewRefreshToken makes the first token of a new family.
func NewRefreshToken() (token string, r Refresh) {
	return withSecret(random(familyBytes))
}

// NextRefreshToken makes another token of token's family, or fails with ErrInvalid.
func NextRefreshToken(token string) (next string, r Refresh, err error) {
	parts, err := refreshParts(token)
	if err != nil {
		return "", Refresh{}, err
	}
	next, r = withSecret(parts[:familyBytes])
	return next, r, nil
}

// ParseRefreshToken fails with ErrInvalid if token cannot be a refresh token. Whether it is
// good only the store of families knows.
func ParseRefreshToken(token string) (Refresh, error) {
	parts, err := refreshParts(token)
	if err != nil {
		return Refresh{}, err
	}
	return sums(parts), nil
}

func refreshParts(token string) ([]byte, error) {
	if len(token) != RefreshTokenLength {
		return nil, ErrInvalid
	}
	parts, err := hex.DecodeString(token)
	if err != nil {
		return nil, ErrInvalid
	}
	return parts, nil
}

func withSecret(family []byte) (token string, r Refresh) {
	parts := append(family[:familyBytes:familyBytes], random(secretBytes)...)
	return hex.EncodeToString(parts), sums(parts)
}

func sums(parts []byte) Refresh {
	family, secret := sha256.Sum256(parts[:familyBytes]), sha256.Sum256(parts[familyBytes:])
	return Refresh{Family: hex.EncodeToString(family[:]), Secret: hex.EncodeToString(secret[:])}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
