package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Account makes the HTTP calls about one account.
type Account struct {
	url  string
	http *http.Client
}

// NewAccount is for the service at url, like https://chat.example.com. A nil
// config trusts the system's roots.
func NewAccount(url string, config *tls.Config) *Account {
	return &Account{url: strings.TrimSuffix(url, "/"), http: httpClient(Options{TLS: config})}
}

// StatusError is an answer of the server that is not a success.
type StatusError struct {
	Status     int
	Message    string        // the server's sentence
	RetryAfter time.Duration // 0: not given
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s (%d %s)", e.Message, e.Status, http.StatusText(e.Status))
}

type credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Register makes an account.
func (a *Account) Register(ctx context.Context, user, password string) error {
	return a.post(ctx, "/register", credentials{user, password}, nil)
}

// Login gives an access token.
func (a *Account) Login(ctx context.Context, user, password string) (token string, err error) {
	var answer struct {
		Token string `json:"token"`
	}
	err = a.post(ctx, "/login", credentials{user, password}, &answer)
	return answer.Token, err
}

// Logout ends the token's session on every server.
func (a *Account) Logout(ctx context.Context, token string) error {
	return a.post(ctx, "/logout", map[string]string{"token": token}, nil)
}

// TokenSource logs in when a token is first needed and again when the one it
// has is older than life.
func (a *Account) TokenSource(user, password string, life time.Duration) func(context.Context) (string, error) {
	var mu sync.Mutex
	var token string
	var since time.Time
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if token != "" && time.Since(since) < life {
			return token, nil
		}
		fresh, err := a.Login(ctx, user, password)
		if err != nil {
			return "", err
		}
		token, since = fresh, time.Now()
		return token, nil
	}
}

func (a *Account) post(ctx context.Context, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the body of %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		return statusError(resp)
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return nil
}

func statusError(resp *http.Response) *StatusError {
	e := &StatusError{Status: resp.StatusCode, Message: resp.Status}
	var body struct {
		Message string `json:"message"`
	}
	if json.NewDecoder(resp.Body).Decode(&body) == nil && body.Message != "" {
		e.Message = body.Message
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}
