package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/ledger"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// A conversation is many people in one room, all of whom talk while something
// happens to the cluster. When it is over each of them must have seen every
// message once, in the same order, whatever happened.
type conversation struct {
	chat    *chat
	number  int
	ledger  *ledger.Ledger
	members []*member
	began   time.Time
	life    context.Context // of the talking
	stop    context.CancelFunc
	talking sync.WaitGroup
	// pause is what a member waits between two messages on average, in nanoseconds.
	pause atomic.Int64
}

// conversationRoom is where it takes place.
const conversationRoom = "conversation"

// member is one of them.
type member struct {
	name   string
	client *client.Client
	ledger *ledger.Member
	sent   []*client.Sent // its talker's, until that ends

	mu         sync.Mutex
	late       []time.Duration              // of what was heard, after it was sent
	numbers    map[string]int               // the last one of each sender
	disordered int                          // messages heard after one that their sender said later
	breaks     map[websocket.StatusCode]int // ends of connections, by close code; -1: none was given, or none was made
	last       time.Time                    // when something was heard
	silent     time.Duration                // the longest time between two things heard
}

// converse brings n members into the room, who send messagesPerSecond together.
func (c *chat) converse(t *testing.T, n int, messagesPerSecond float64) *conversation {
	t.Helper()
	c.talks++
	talk := &conversation{chat: c, number: c.talks, ledger: ledger.New()}
	talk.life, talk.stop = context.WithCancel(context.Background())
	t.Cleanup(talk.close)
	talk.pause.Store(int64(float64(n) / messagesPerSecond * float64(time.Second)))
	talk.add(t, n)
	talk.began = time.Now()
	return talk
}

// add brings n more members into the room.
func (talk *conversation) add(t *testing.T, n int) {
	t.Helper()
	more := make([]*member, n)
	joining, ctx := errgroup.WithContext(t.Context())
	joining.SetLimit(8)
	h := talk.chat.httpClient(t)
	for i := range more {
		joining.Go(func() (err error) {
			more[i], err = talk.join(ctx, h, fmt.Sprintf("member%d_%d", talk.number, len(talk.members)+i))
			return err
		})
	}
	if err := joining.Wait(); err != nil {
		t.Fatalf("bring members into the room: %v", err)
	}
	for _, m := range more {
		talk.talking.Go(func() { m.talk(talk) })
	}
	talk.members = append(talk.members, more...)
}

// speed is how many messages all members together send a second.
func (talk *conversation) speed(messagesPerSecond float64) {
	talk.pause.Store(int64(float64(len(talk.members)) / messagesPerSecond * float64(time.Second)))
}

// wait is a time between two messages of a member. No two are alike, so that
// the members do not talk all at once and then all keep silent.
func (talk *conversation) wait() time.Duration {
	return rand.N(2 * time.Duration(talk.pause.Load()))
}

func (talk *conversation) close() {
	talk.stop()
	talk.talking.Wait()
	for _, m := range talk.members {
		_ = m.client.Close()
	}
}

// join makes an account, logs in and enters the room.
func (talk *conversation) join(ctx context.Context, h *http.Client, name string) (*member, error) {
	c := talk.chat
	var answer struct{ Token, Message string }
	credentials := map[string]string{"username": name, "password": plainPassword}
	if status, err := c.post(ctx, h, "/register", credentials, &answer); err != nil || status != http.StatusCreated {
		return nil, fmt.Errorf("register %s: %d %s (%w)", name, status, answer.Message, err)
	}
	if status, err := c.post(ctx, h, "/login", credentials, &answer); err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("log %s in: %d %s (%w)", name, status, answer.Message, err)
	}
	m := &member{
		name: name, ledger: talk.ledger.Member(name),
		numbers: make(map[string]int), breaks: make(map[websocket.StatusCode]int),
	}
	var err error
	m.client, err = client.Dial(ctx, client.Options{
		URL: "https://" + c.host, TLS: c.tls(), Dial: c.dial, Token: client.StaticToken(answer.Token),
		Handle: m.hear, Disconnected: m.broke, MaxBackoff: 2 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	return m, m.client.Join(ctx, conversationRoom)
}

// talk says something again and again. What is said tells who, when and which.
func (m *member) talk(talk *conversation) {
	wait := time.NewTimer(talk.wait())
	defer wait.Stop()
	for {
		select {
		case <-talk.life.Done():
			return
		case <-wait.C:
		}
		text := fmt.Sprintf("%s %d %d", m.name, len(m.sent), time.Now().UnixNano())
		sent, err := m.client.Post(conversationRoom, text)
		if err != nil {
			return // finish finds out: the client has ended, and with it all it had to say
		}
		m.sent = append(m.sent, sent)
		wait.Reset(talk.wait())
	}
}

func (m *member) hear(e client.Event) {
	m.ledger.Observe(e.Event)
	if e.Type != protocol.TypeMessage || e.Room != conversationRoom {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !m.last.IsZero() {
		m.silent = max(m.silent, now.Sub(m.last))
	}
	m.last = now
	var who string
	var n int
	var at int64
	if _, err := fmt.Sscan(e.Message, &who, &n, &at); err != nil {
		m.disordered++ // nobody says such a thing
		return
	}
	m.late = append(m.late, now.Sub(time.Unix(0, at)))
	if before, known := m.numbers[who]; known && n <= before {
		m.disordered++
	}
	m.numbers[who] = n
}

func (m *member) broke(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.breaks[websocket.CloseStatus(err)]++
}

// everyoneHears waits until everyone has heard something that is said from now on.
func (talk *conversation) everyoneHears(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	now := time.Now()
	return eventually(t, limit, "everyone to hear the others again", func(context.Context) error {
		for _, m := range talk.members {
			m.mu.Lock()
			last := m.last
			m.mu.Unlock()
			if !last.After(now) {
				return fmt.Errorf("%s has heard nothing", m.name)
			}
		}
		return nil
	})
}

// breaks is how many connections ended, by close code.
func (talk *conversation) breaks() map[websocket.StatusCode]int {
	sum := make(map[websocket.StatusCode]int)
	for _, m := range talk.members {
		m.mu.Lock()
		for code, n := range m.breaks {
			sum[code] += n
		}
		m.mu.Unlock()
	}
	return sum
}

// finish ends the talking, waits until all that was said is acknowledged and
// heard, and fails the test if anybody heard anything but the truth.
func (talk *conversation) finish(t *testing.T) {
	t.Helper()
	talk.stop()
	talk.talking.Wait()
	took := time.Since(talk.began)
	talk.acknowledged(t)
	eventually(t, time.Minute, "everyone to hear all that was acknowledged", func(context.Context) error {
		if missing := talk.ledger.Missing(); missing > 0 {
			return fmt.Errorf("%d are missing: %s", missing, talk.ledger.Report())
		}
		return nil
	})
	talk.report(t, took)
}

// acknowledged waits for the acknowledgement of every message that was sent.
func (talk *conversation) acknowledged(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, m := range talk.members {
		for _, s := range m.sent {
			if _, err := s.Wait(ctx); err != nil {
				t.Fatalf("%s said %s and got no acknowledgement: %v", m.name, s.ID(), err)
			}
		}
	}
}

func (talk *conversation) report(t *testing.T, took time.Duration) {
	t.Helper()
	var late []time.Duration
	var silence time.Duration
	disordered := 0
	for _, m := range talk.members {
		m.mu.Lock()
		late = append(late, m.late...)
		silence = max(silence, m.silent)
		disordered += m.disordered
		m.mu.Unlock()
	}
	r := talk.ledger.Report()
	t.Logf("%d clients, %.0f messages/s for %v: %s",
		len(talk.members), float64(r.Acknowledged)/took.Seconds(), took.Round(time.Second), r)
	if r.Acknowledged < len(talk.members) || len(late) < r.Acknowledged {
		t.Fatalf("%d messages were acknowledged and %d heard by %d members: that is no conversation", r.Acknowledged, len(late), len(talk.members))
	}
	slices.Sort(late)
	t.Logf("from sent to heard: median %v, 99th percentile %v; the longest silence anyone heard: %v; connections ended or refused, by close code: %v",
		late[len(late)/2].Round(100*time.Microsecond), late[len(late)*99/100].Round(100*time.Microsecond), silence.Round(time.Millisecond), talk.breaks())
	if !r.Clean() || r.Declared+disordered > 0 {
		t.Errorf("%d heard out of the order they were said in; %s", disordered, r)
	}
}
