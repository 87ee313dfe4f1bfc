package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What can be wrong with a token.
var (
	ErrExpired      = errors.New("the token has expired, log in again")
	ErrWrongCluster = errors.New("the token belongs to another chat cluster")
	ErrInvalid      = errors.New("the token is invalid, log in again")
)

const (
	// maxToken bounds what is parsed; ours have some 300 bytes.
	maxToken = 4 << 10
	// leeway allows for servers whose clocks differ.
	leeway = 5 * time.Second
)

// Claims are what a token says.
type Claims struct {
	User    string
	Session string // of the login; a token that was refreshed keeps it
	Expires time.Time
}

// Tokens issues and reads access tokens: JSON Web Tokens signed with HMAC SHA-256, good in
// one chat cluster. It is safe for concurrent use.
type Tokens struct {
	keys     *Keys
	audience string
	parser   *jwt.Parser
}

// NewTokens makes tokens for an audience, the id of the cluster.
func NewTokens(keys *Keys, audience string) *Tokens {
	return &Tokens{
		keys:     keys,
		audience: audience,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithAudience(audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(leeway),
		),
	}
}

// Issue makes a token for a session of user that expires after ttl.
func (t *Tokens) Issue(user, session string, ttl time.Duration) (token string, c Claims, err error) {
	now := time.Now()
	c = Claims{User: user, Session: session, Expires: now.Add(ttl).Truncate(time.Second)}
	set := t.keys.set.Load()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   c.User,
		ID:        c.Session,
		Audience:  jwt.ClaimStrings{t.audience},
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(c.Expires),
	})
	unsigned.Header["kid"] = set.current
	token, err = unsigned.SignedString(set.secrets[set.current])
	if err != nil {
		return "", Claims{}, fmt.Errorf("sign a token for %s: %w", user, err)
	}
	return token, c, nil
}

// Parse fails with ErrExpired, ErrWrongCluster or ErrInvalid. The first two tell of tokens
// whose signature is right; with ErrExpired come the claims, for ending the session.
func (t *Tokens) Parse(token string) (Claims, error) {
	if len(token) > maxToken {
		return Claims{}, ErrInvalid
	}
	var claims jwt.RegisteredClaims
	_, err := t.parser.ParseWithClaims(token, &claims, t.secret)
	expired := errors.Is(err, jwt.ErrTokenExpired)
	switch {
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return Claims{}, ErrWrongCluster
	case err != nil && !expired, ValidateUsername(claims.Subject) != nil, claims.ID == "":
		return Claims{}, ErrInvalid
	}
	c := Claims{User: claims.Subject, Session: claims.ID, Expires: claims.ExpiresAt.Time}
	if expired {
		return c, ErrExpired
	}
	return c, nil
}

var errUnknownKey = errors.New("no such key")

// secret finds the key that a token names.
func (t *Tokens) secret(token *jwt.Token) (any, error) {
	kid, _ := token.Header["kid"].(string)
	secret := t.keys.set.Load().secrets[kid]
	if secret == nil {
		return nil, errUnknownKey
	}
	return secret, nil
}
