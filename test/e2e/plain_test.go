package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// plainClient is a web page of the simplest kind: JSON over HTTP and a WebSocket
// with the token in the address, no rooms, no subprotocol. It shares no code
// with the project's own clients.
type plainClient struct {
	t     *testing.T
	chat  *chat
	http  *http.Client
	user  string
	token string
	conn  *websocket.Conn
}

// plainEvent is what it understands.
type plainEvent struct {
	Type, Username, Message, Timestamp string
	Users                              []string
}

func (c *chat) plainClient(t *testing.T, user string) *plainClient {
	return &plainClient{t: t, chat: c, user: user, http: c.httpClient(t)}
}

func (c *chat) httpClient(t *testing.T) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return c.dial(ctx, addr)
	}, TLSClientConfig: c.tls()}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: answerWithin}
}

// post gives the status and fills answer.
func (c *chat) post(ctx context.Context, h *http.Client, path string, body, answer any) (int, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.host+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, json.NewDecoder(resp.Body).Decode(answer)
}

// plainAnswer is what such a client looks at; it ignores what else there is.
type plainAnswer struct{ Message, Username, Token string }

// posts fails the test if the answer has another status.
func (p *plainClient) posts(path string, body map[string]string, status int) (answer plainAnswer) {
	p.t.Helper()
	got, err := p.chat.post(p.t.Context(), p.http, path, body, &answer)
	if err != nil || got != status {
		p.t.Fatalf("%s: POST %s answers %d %+v (%v); want %d", p.user, path, got, answer, err, status)
	}
	return answer
}

// isHealthy asks the service itself.
func (p *plainClient) isHealthy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.chat.host+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var health struct {
		Status    string
		TimeStamp time.Time
	}
	if err := json.NewDecoder(resp.Body).Decode(&health); err != nil || health.Status != "ok" || health.TimeStamp.IsZero() {
		return fmt.Errorf("GET /health answers %s %+v (%w)", resp.Status, health, err)
	}
	return nil
}

const plainPassword = "correct horse"

func (p *plainClient) registers() {
	p.t.Helper()
	answer := p.posts("/register", map[string]string{"username": p.user, "password": plainPassword}, http.StatusCreated)
	if answer.Message != "User created successfully" || answer.Username != p.user {
		p.t.Fatalf("POST /register answers %v", answer)
	}
}

func (p *plainClient) logsIn() {
	p.t.Helper()
	answer := p.posts("/login", map[string]string{"username": p.user, "password": plainPassword}, http.StatusOK)
	if answer.Username != p.user || answer.Token == "" {
		p.t.Fatalf("POST /login answers %v", answer)
	}
	p.token = answer.Token
}

// connects opens the WebSocket; it gives the status of a refusal, else 0.
func (p *plainClient) connects() (refused int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), answerWithin)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, "wss://"+p.chat.host+"/?token="+p.token, &websocket.DialOptions{HTTPClient: p.http})
	if err != nil {
		if resp == nil {
			p.t.Fatalf("%s connects: %v", p.user, err)
		}
		return resp.StatusCode
	}
	p.conn = conn
	p.t.Cleanup(func() { _ = conn.CloseNow() })
	return 0
}

func (p *plainClient) sends(frame string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), answerWithin)
	defer cancel()
	if err := p.conn.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
		p.t.Fatalf("%s sends %s: %v", p.user, frame, err)
	}
}

// receives waits for an event that is wanted; others are passed over.
func (p *plainClient) receives(what string, wanted func(plainEvent) bool) plainEvent {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), answerWithin)
	defer cancel()
	for {
		_, frame, err := p.conn.Read(ctx)
		if err != nil {
			p.t.Fatalf("%s waits for %s: %v", p.user, what, err)
		}
		var e plainEvent
		if err := json.Unmarshal(frame, &e); err != nil {
			p.t.Fatalf("%s got %q, which is not JSON: %v", p.user, frame, err)
		}
		if wanted(e) {
			return e
		}
	}
}

func (p *plainClient) receivesMessage(from, text string) {
	p.t.Helper()
	e := p.receives("the message "+text, func(e plainEvent) bool { return e.Type == "message" && e.Message == text })
	if e.Username != from {
		p.t.Errorf("the message is from %q, want %q", e.Username, from)
	}
	if _, err := time.Parse(time.RFC3339, e.Timestamp); err != nil {
		p.t.Errorf("the message's timestamp: %v", err)
	}
}
