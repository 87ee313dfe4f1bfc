package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// maxText is how much of a text a notification has, in bytes: it has to fit into the
// 4096 that push services take, whatever JSON makes of it.
const maxText = 500

// Notification is what is sent, as JSON.
type Notification struct {
	Type      string `json:"type"` // "direct" or "mention"; more may come
	User      string `json:"user"` // who is told
	Sender    string `json:"sender"`
	Room      string `json:"room"`
	Offset    uint64 `json:"offset"` // of the message, in the room
	Unread    uint64 `json:"unread"` // messages of the room that the user has not read
	Timestamp string `json:"timestamp"`
	Encrypted bool   `json:"encrypted,omitempty"`
	Text      string `json:"text,omitempty"` // its beginning, if the operator wants that
}

// task is one notification for one receiver.
type task struct {
	User         string          `json:"u"`
	Room         string          `json:"r"`
	Subscription string          `json:"s,omitempty"` // id; empty: the webhook
	Body         json.RawMessage `json:"b"`
}

func parseTask(body []byte) (t task, err error) {
	if err := json.Unmarshal(body, &t); err != nil {
		return task{}, fmt.Errorf("read a notice of the queue: %w", err)
	}
	return t, nil
}

func (t task) by() string {
	if t.Subscription == "" {
		return "webhook"
	}
	return "push"
}

// concerned are the users that a message is for in particular, without its sender.
func concerned(r chat.Record) []string {
	if a, b, direct := protocol.DirectUsers(r.Room); direct {
		if a == r.User {
			a = b
		}
		return []string{a}
	}
	return slices.DeleteFunc(slices.Clone(r.Mentions), func(name string) bool { return name == "" || name == r.User })
}

// notices are what there is to send about a message.
func (n *Notifier) notices(ctx context.Context, r chat.Record) ([]store.Notice, error) {
	users := concerned(r)
	online, err := n.store.Online(ctx, users)
	if err != nil {
		return nil, err
	}
	var notices []store.Notice
	for i, user := range users {
		if online[i] {
			continue
		}
		some, err := n.noticesFor(ctx, r, user)
		if err != nil {
			return nil, err
		}
		notices = append(notices, some...)
	}
	return notices, nil
}

func (n *Notifier) noticesFor(ctx context.Context, r chat.Record, user string) ([]store.Notice, error) {
	readings, err := n.store.Readings(ctx, user, []string{r.Room})
	if err != nil {
		return nil, err
	}
	direct := protocol.IsDirect(r.Room)
	// Whoever is no member must not learn from a mention that a private room exists.
	if !direct && !readings[0].Member {
		return nil, nil
	}
	body, err := json.Marshal(n.notification(r, user, direct, readings[0].Unread))
	if err != nil {
		return nil, fmt.Errorf("encode a notification: %w", err)
	}
	var notices []store.Notice
	add := func(subscription string) error {
		text, err := json.Marshal(task{User: user, Room: r.Room, Subscription: subscription, Body: body})
		// The message and the receiver name it: who gets it twice can tell.
		id := fmt.Sprintf("%s/%d/%d/%s/%s", r.Room, r.Offset, r.Time, user, subscription)
		notices = append(notices, store.Notice{ID: hash(id), Body: text})
		return err
	}
	if n.webhook != nil {
		if err := add(""); err != nil {
			return nil, err
		}
	}
	if n.push != nil {
		subs, err := n.store.Subscriptions(ctx, user)
		if err != nil {
			return nil, err
		}
		for _, sub := range subs {
			if err := add(sub.ID()); err != nil {
				return nil, err
			}
		}
	}
	return notices, nil
}

func (n *Notifier) notification(r chat.Record, user string, direct bool, unread uint64) Notification {
	note := Notification{
		Type: "mention", User: user, Sender: r.User, Room: r.Room, Offset: r.Offset, Unread: unread,
		Timestamp: time.UnixMilli(r.Time).UTC().Format(time.RFC3339), Encrypted: r.Ciphertext != "",
	}
	if direct {
		note.Type = "direct"
	}
	if n.cfg.Text {
		note.Text = cut(r.Text)
	}
	return note
}

// cut shortens a text to maxText bytes, between two characters.
func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// delay is how long to wait after so many tries. It is spread, so that a receiver that was
// away does not get everything in one moment, and longer if the receiver asked for it.
func delay(tries int, err error) time.Duration {
	d := min(soon<<min(tries-1, 20), late)
	d += rand.N(d / 4)
	var asked laterError
	if errors.As(err, &asked) {
		d = max(d, min(asked.after, late))
	}
	return d
}
