package load

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// accounts makes the calls about accounts.
type accounts struct {
	http *http.Client
	urls []*url.URL
}

// account is who a connection is. Its tokens are renewed when they end.
type account struct {
	calls *accounts
	index int
	Credentials

	mu      sync.Mutex
	token   string
	refresh string    // "": the token cannot be renewed
	stale   time.Time // renew it after that; zero: never
}

// grant is what the server gives to whoever logs in.
type grant struct {
	Token        string `json:"token"`
	RefreshToken string `json:"refreshToken"`
	ExpiresIn    int    `json:"expiresIn"` // seconds
	Username     string `json:"username"`
}

// atOnce is how many accounts are made at once: more than servers check
// passwords at once, so that none of them waits for us.
const atOnce = 16

// prepare makes or logs in n accounts. Every one of them is a user of its own,
// because a user can be online once.
func (a *accounts) prepare(ctx context.Context, from Accounts, run string, n int, done func()) ([]*account, error) {
	all := make([]*account, n)
	for i := range all {
		all[i] = &account{calls: a, index: i}
		switch {
		case from.Register:
			all[i].Credentials = Credentials{fmt.Sprintf("load_%s_%d", run, i), rand.Text()}
		case i < len(from.Logins):
			all[i].Credentials = from.Logins[i]
		case i < len(from.Tokens):
			all[i].token = from.Tokens[i]
		default:
			return nil, fmt.Errorf("%d users are needed and %d were given: a user can be online once; give more, or --register to make them",
				n, max(len(from.Logins), len(from.Tokens)))
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, u := range all {
		g.Go(func() (err error) {
			switch {
			case from.Register:
				err = u.call(ctx, "/api/auth/register", u.credentials())
			case u.Password != "":
				err = u.call(ctx, "/login", u.credentials())
			}
			done()
			return err
		})
	}
	return all, g.Wait()
}

func (u *account) credentials() map[string]string {
	return map[string]string{"username": u.User, "password": u.Password}
}

// access is a token that is good now.
func (u *account) access(ctx context.Context) (string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stale.IsZero() || time.Now().Before(u.stale) {
		return u.token, nil
	}
	err := u.callLocked(ctx, "/api/refresh", map[string]string{"refreshToken": u.refresh})
	return u.token, err
}

// renewable notes that the server takes the token no more, and says whether
// there is a way to another.
func (u *account) renewable() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.refresh == "" {
		return false
	}
	u.stale = time.Unix(1, 0)
	return true
}

func (u *account) call(ctx context.Context, path string, body map[string]string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.callLocked(ctx, path, body)
}

// callLocked gets tokens. Callers hold u.mu.
func (u *account) callLocked(ctx context.Context, path string, body map[string]string) error {
	g, err := u.calls.grant(ctx, u.index, path, body)
	if err != nil {
		return err
	}
	u.token, u.refresh = g.Token, g.RefreshToken
	u.stale = time.Time{}
	if g.RefreshToken != "" && g.ExpiresIn > 0 {
		u.stale = time.Now().Add(time.Duration(g.ExpiresIn) * time.Second * 8 / 10)
	}
	return nil
}

// answerError is an answer that is no success.
type answerError struct {
	path       string
	status     int
	message    string
	retryAfter time.Duration
}

func (e *answerError) Error() string {
	text := fmt.Sprintf("POST %s is answered %d: %s", e.path, e.status, e.message)
	if e.status == http.StatusTooManyRequests {
		text += "; raise the server's limits for a load test (--requests-per-hour, --auth-requests-per-minute, --api-requests-per-minute), or use more --source addresses"
	}
	return text
}

// tries is how often a call is made that a busy server asked to make later.
const tries = 20

func (a *accounts) grant(ctx context.Context, index int, path string, body map[string]string) (g grant, err error) {
	for range tries {
		var answer *answerError
		if err = a.post(ctx, index, path, body, &g); !errors.As(err, &answer) || answer.status != http.StatusServiceUnavailable {
			return g, err
		}
		select {
		case <-ctx.Done():
			return g, context.Cause(ctx)
		case <-time.After(max(answer.retryAfter, 100*time.Millisecond)):
		}
	}
	return g, err
}

// post makes one call, of one of the servers.
func (a *accounts) post(ctx context.Context, index int, path string, body map[string]string, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write the body of %s: %w", path, err)
	}
	u := a.urls[index%len(a.urls)]
	target := url.URL{Scheme: u.Scheme, Host: u.Host, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() {
		_, _ = io.Copy(io.Discard, resp.Body) // so that the connection can be used again
		_ = resp.Body.Close()
	}()
	if resp.StatusCode/100 != 2 {
		e := &answerError{path: path, status: resp.StatusCode, message: resp.Status}
		var said struct{ Message string }
		if json.NewDecoder(resp.Body).Decode(&said) == nil && said.Message != "" {
			e.message = said.Message
		}
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			e.retryAfter = time.Duration(seconds) * time.Second
		}
		return e
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return nil
}
