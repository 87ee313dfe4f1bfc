// Package notify tells people who are not connected that there is something for them: by
// Web Push to their browsers, and by a signed webhook to whatever the operator runs.
//
// Who is told: the other user of a direct message, and members of a room whom a message
// mentions; never who is online, for they get the message itself. What was missed is in
// the rooms' logs, so a notification says that there is something, not what.
//
// A message is handed over in memory and costs its sender nothing. What has to be sent
// then waits in Redis, and any server sends it: a server that dies leaves its work to the
// others. So a notification arrives at least once, and carries an id.
//
// It must not know connections, nor who may read a room: the store says who is a member.
package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatcluster/chatcluster/chatserver/chat"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

const (
	queuers     = 4
	backlog     = 1024             // messages handed over that no one has looked at yet
	atOnce      = 16               // notifications that one server sends at once
	sendTimeout = 10 * time.Second // for one try
	// lease has to outlast a try, or another server would begin the next one meanwhile.
	lease = 2 * sendTimeout
	look  = time.Second      // between two looks for what is due
	grace = 3 * time.Second  // for what is under way when the server ends
	soon  = time.Second      // the first delay before another try; each is twice the last,
	late  = 30 * time.Minute // up to this
)

// Config is what a Notifier has to be told. With neither a key nor a webhook there is
// nothing to notify by: see Enabled.
type Config struct {
	VAPIDKeyFile string // PEM, P-256; empty: no Web Push
	VAPIDContact string // mailto: or https: URL, by which push services reach the operator
	// AllowPrivate lets browsers subscribe with addresses that are not public. It is for
	// tests: users could have the server call what only the server can reach.
	AllowPrivate bool

	WebhookURL        string // https, or http on this machine; empty: none
	WebhookSecretFile string

	Text  bool // notifications may have the text of messages
	Tries int  // before a notification is given up; default 12

	Roots *x509.CertPool // of receivers' certificates; nil: the system's

	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Enabled says whether there is anything to notify by.
func (c Config) Enabled() bool { return c.VAPIDKeyFile != "" || c.WebhookURL != "" }

// Notifier sends notifications. Make it with New, then Run it once.
type Notifier struct {
	cfg     Config
	store   *store.Store // from Run on
	log     *slog.Logger
	metrics *metrics
	push    *pusher  // nil: no Web Push
	webhook *webhook // nil: none

	messages chan chat.Record
	wake     chan struct{} // something is due
}

// New reads the files that the configuration names, or says what is wrong with it.
func New(cfg Config) (*Notifier, error) {
	if cfg.Tries <= 0 {
		cfg.Tries = 12
	}
	n := &Notifier{
		cfg: cfg, log: cfg.Log, metrics: newMetrics(cfg.Registerer),
		messages: make(chan chat.Record, backlog), wake: make(chan struct{}, 1),
	}
	trust := &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}
	var err error
	if cfg.VAPIDKeyFile != "" {
		if n.push, err = newPusher(cfg, trust); err != nil {
			return nil, err
		}
	}
	if cfg.WebhookURL != "" {
		if n.webhook, err = newWebhook(cfg, trust); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Message takes a message that was stored, with its room and offset. It never waits: if
// more come than can be looked at, their notifications are lost, and counted.
func (n *Notifier) Message(r chat.Record) {
	if len(concerned(r)) == 0 {
		return
	}
	select {
	case n.messages <- r:
	default:
		n.metrics.lost.Inc()
	}
}

// Run sends until ctx ends. What was handed over before that still gets into the queue.
func (n *Notifier) Run(ctx context.Context, st *store.Store) {
	n.store = st
	var running sync.WaitGroup
	for range queuers {
		running.Go(func() { n.queueAll(ctx) })
	}
	n.deliverAll(ctx)
	running.Wait()
}

// queueAll finds out who has to be told of each message, and puts that into the queue.
func (n *Notifier) queueAll(ctx context.Context) {
	for {
		select {
		case r := <-n.messages:
			n.queue(ctx, r)
			continue
		default:
		}
		select {
		case r := <-n.messages:
			n.queue(ctx, r)
		case <-ctx.Done():
			if len(n.messages) == 0 {
				return
			}
		}
	}
}

func (n *Notifier) queue(ctx context.Context, r chat.Record) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()
	ctx = bounded
	notices, err := chat.Retry(ctx, func() ([]store.Notice, error) { return n.notices(ctx, r) })
	if err == nil && len(notices) > 0 {
		var dropped int
		// Adding the same ones again is harmless.
		dropped, err = chat.Retry(ctx, func() (int, error) { return n.store.AddNotices(ctx, notices) })
		n.metrics.dropped("full", dropped)
	}
	if err != nil {
		n.metrics.lost.Inc()
		n.log.Warn("nobody is notified of a message: Redis does not answer", "room", r.Room, "offset", r.Offset, "error", err)
		return
	}
	if len(notices) > 0 {
		n.nudge()
	}
}

func (n *Notifier) nudge() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// deliverAll takes what is due and sends it. When ctx ends, what is under way has a
// moment left; then it goes back into the queue for the other servers.
func (n *Notifier) deliverAll(ctx context.Context) {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	free := make(chan struct{}, atOnce)
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var under sync.WaitGroup
	for ctx.Err() == nil {
		taken, err := n.store.TakeNotices(ctx, atOnce-len(free), lease)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("notifications wait: Redis does not answer", "error", err)
		}
		for _, notice := range taken {
			free <- struct{}{}
			under.Go(func() {
				defer func() { <-free; n.nudge() }()
				n.deliver(sending, notice)
			})
		}
		select {
		case <-ctx.Done():
		case <-n.wake:
		case <-ticker.C:
		}
	}
	defer time.AfterFunc(grace, cut).Stop()
	under.Wait()
}

// errGone means that the receiver does not exist any more.
var errGone = errors.New("the receiver is gone")

// refusedError is an answer that another try would not change.
type refusedError struct{ error }

// laterError is an answer that asks for time.
type laterError struct {
	error
	after time.Duration
}

// deliver makes one try, and has the queue forget the notice or bring it back.
func (n *Notifier) deliver(ctx context.Context, notice store.Notice) {
	by, err := n.try(ctx, notice)
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	var refused refusedError
	switch {
	case err == nil, errors.Is(err, errGone):
		err = n.store.DropNotice(record, notice.ID)
	case ctx.Err() != nil:
		err = n.store.DelayNotice(record, notice.ID, 0)
	case errors.As(err, &refused), notice.Tries >= n.cfg.Tries:
		n.metrics.sent(by, "dropped")
		n.log.Warn("a notification is given up", "by", by, "id", notice.ID, "tries", notice.Tries, "error", err)
		err = n.store.DropNotice(record, notice.ID)
	default:
		n.metrics.sent(by, "retried")
		in := delay(notice.Tries, err)
		n.log.Debug("a notification will be tried again", "by", by, "id", notice.ID, "tries", notice.Tries, "in", in, "error", err)
		err = n.store.DelayNotice(record, notice.ID, in)
	}
	if err != nil {
		n.log.Warn("a notification may be sent twice: Redis does not answer", "id", notice.ID, "error", err)
	}
}

// try sends a notice, unless there is no need any more.
func (n *Notifier) try(ctx context.Context, notice store.Notice) (by string, err error) {
	t, err := parseTask(notice.Body)
	if err != nil {
		return "unknown", refusedError{err}
	}
	by = t.by()
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if notice.Tries > 1 {
		online, err := n.store.Online(ctx, []string{t.User})
		if err != nil {
			return by, err
		}
		if online[0] {
			n.metrics.sent(by, "needless")
			return by, nil
		}
	}
	switch {
	case t.Subscription == "" && n.webhook != nil:
		err = n.webhook.send(ctx, notice.ID, t.Body)
	case t.Subscription != "" && n.push != nil:
		err = n.sendPush(ctx, t)
	default:
		err = refusedError{fmt.Errorf("this server has no %s", by)}
	}
	switch {
	case err == nil:
		n.metrics.sent(by, "delivered")
	case errors.Is(err, errGone):
		n.metrics.sent(by, "gone")
	}
	return by, err
}

func (n *Notifier) sendPush(ctx context.Context, t task) error {
	subs, err := n.store.Subscriptions(ctx, t.User)
	if err != nil {
		return err
	}
	for _, sub := range subs {
		if sub.ID() != t.Subscription {
			continue
		}
		err := n.push.send(ctx, sub, t)
		if errors.Is(err, errGone) {
			if _, err := n.store.RemoveSubscription(ctx, t.User, sub.ID()); err != nil {
				return err
			}
		}
		return err
	}
	return errGone // unsubscribed, or logged out
}
