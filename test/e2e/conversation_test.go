package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// A conversation is many people in one room, all of whom talk while something
// happens to the cluster. When it is over each of them must have seen every
// message once, in the same order, whatever happened.
type conversation struct {
	chat    *chat
	number  int
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
	sent   []said // its talker's, until that ends

	mu     sync.Mutex
	since  uint64 // the offset at which the member came in; what was said before is not for it
	joined bool
	heard  []heard
	gaps   int
	breaks map[websocket.StatusCode]int // ends of connections, by close code; -1: none was given, or none was made
	last   time.Time                    // when something was heard
	silent time.Duration                // the longest time between two things heard
}

type said struct {
	text string
	*client.Sent
}

type heard struct {
	offset uint64
	text   string
	late   time.Duration // after it was sent
}

// converse brings n members into the room, who send messagesPerSecond together.
func (c *chat) converse(t *testing.T, n int, messagesPerSecond float64) *conversation {
	t.Helper()
	c.talks++
	talk := &conversation{chat: c, number: c.talks}
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
			more[i], err = talk.chat.join(ctx, h, fmt.Sprintf("member%d_%d", talk.number, len(talk.members)+i))
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
func (c *chat) join(ctx context.Context, h *http.Client, name string) (*member, error) {
	var answer struct{ Token, Message string }
	credentials := map[string]string{"username": name, "password": plainPassword}
	if status, err := c.post(ctx, h, "/register", credentials, &answer); err != nil || status != http.StatusCreated {
		return nil, fmt.Errorf("register %s: %d %s (%w)", name, status, answer.Message, err)
	}
	if status, err := c.post(ctx, h, "/login", credentials, &answer); err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("log %s in: %d %s (%w)", name, status, answer.Message, err)
	}
	m := &member{name: name, breaks: make(map[websocket.StatusCode]int)}
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
		m.sent = append(m.sent, said{text, sent})
		wait.Reset(talk.wait())
	}
}

func (m *member) hear(e client.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Gap {
		m.gaps++
	}
	if e.Room != conversationRoom {
		return
	}
	if e.Type == protocol.TypeJoined && !m.joined {
		m.since, m.joined = e.Offset, true
	}
	if e.Type != protocol.TypeMessage {
		return
	}
	now := time.Now()
	if !m.last.IsZero() {
		m.silent = max(m.silent, now.Sub(m.last))
	}
	m.last = now
	h := heard{offset: e.Offset, text: e.Message}
	var n, at int64
	var who string
	if _, err := fmt.Sscan(e.Message, &who, &n, &at); err == nil {
		h.late = now.Sub(time.Unix(0, at))
	}
	m.heard = append(m.heard, h)
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
	acked := talk.acknowledged(t)
	last := slices.Max(append([]uint64{0}, offsets(acked)...))
	eventually(t, time.Minute, "everyone to hear the last message", func(context.Context) error {
		for _, m := range talk.members {
			if got := m.lastOffset(); got < last {
				return fmt.Errorf("%s has heard up to message %d of %d (%v)", m.name, got, last, m.client.Err())
			}
		}
		return nil
	})
	talk.judge(acked).report(t, len(talk.members), took, talk.breaks())
}

type acknowledged struct {
	text   string
	offset uint64
}

func offsets(all []acknowledged) []uint64 {
	var list []uint64
	for _, a := range all {
		list = append(list, a.offset)
	}
	return list
}

// acknowledged waits for every message that was sent.
func (talk *conversation) acknowledged(t *testing.T) []acknowledged {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []acknowledged
	for _, m := range talk.members {
		for _, s := range m.sent {
			ack, err := s.Wait(ctx)
			if err != nil {
				t.Fatalf("%s said %q and got no acknowledgement: %v", m.name, s.text, err)
			}
			all = append(all, acknowledged{s.text, ack.Offset})
		}
	}
	return all
}

func (m *member) lastOffset() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.heard) == 0 {
		return 0
	}
	return m.heard[len(m.heard)-1].offset
}

// verdict is what everyone heard, compared with what was acknowledged.
type verdict struct {
	acked, heard                     int
	lost, duplicated, disordered     int
	gaps                             int
	median, percentile99, silentMost time.Duration
}

func (talk *conversation) judge(acked []acknowledged) verdict {
	v := verdict{acked: len(acked)}
	var late []time.Duration
	for _, m := range talk.members {
		m.mu.Lock()
		v.gaps += m.gaps
		v.silentMost = max(v.silentMost, m.silent)
		v.add(m.since, m.heard, acked)
		for _, h := range m.heard {
			late = append(late, h.late)
		}
		m.mu.Unlock()
	}
	slices.Sort(late)
	if len(late) > 0 {
		v.median, v.percentile99 = late[len(late)/2], late[len(late)*99/100]
	}
	return v
}

// add judges what one member heard: each message that was acknowledged since it
// came in must be there, at the offset that its sender was told, once; offsets
// and each sender's own numbers must rise.
func (v *verdict) add(since uint64, all []heard, acked []acknowledged) {
	v.heard += len(all)
	at := make(map[string]uint64, len(all))
	number := make(map[string]int)
	last := since
	for _, h := range all {
		if _, again := at[h.text]; again {
			v.duplicated++
		}
		at[h.text] = h.offset
		who, rest, _ := strings.Cut(h.text, " ")
		n := -1
		_, _ = fmt.Sscan(rest, &n)
		if before, known := number[who]; h.offset <= last || known && n <= before || n < 0 {
			v.disordered++
		}
		number[who], last = n, h.offset
	}
	for _, a := range acked {
		if offset, ok := at[a.text]; a.offset > since && (!ok || offset != a.offset) {
			v.lost++
		}
	}
}

func (v verdict) report(t *testing.T, members int, took time.Duration, breaks map[websocket.StatusCode]int) {
	t.Helper()
	t.Logf("%d clients, %.0f messages/s for %v: %d acknowledged, %d heard; %d lost, %d duplicated, %d out of order, %d gaps",
		members, float64(v.acked)/took.Seconds(), took.Round(time.Second), v.acked, v.heard, v.lost, v.duplicated, v.disordered, v.gaps)
	t.Logf("from sent to heard: median %v, 99th percentile %v; the longest silence anyone heard: %v; connections ended or refused, by close code: %v",
		v.median.Round(100*time.Microsecond), v.percentile99.Round(100*time.Microsecond), v.silentMost.Round(time.Millisecond), breaks)
	if v.acked < members || v.heard < v.acked {
		t.Errorf("%d messages were acknowledged and %d heard by %d members: that is no conversation", v.acked, v.heard, members)
	}
	if v.lost+v.duplicated+v.disordered+v.gaps > 0 {
		t.Errorf("lost %d, duplicated %d, out of order %d, gaps %d; all must be 0", v.lost, v.duplicated, v.disordered, v.gaps)
	}
}
