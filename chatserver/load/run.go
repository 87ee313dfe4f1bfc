package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/ledger"
	"github.com/chatcluster/chatcluster/chatserver/load/light"
	"github.com/chatcluster/chatcluster/chatserver/load/pulse"
	"github.com/chatcluster/chatcluster/chatserver/load/report"
	"github.com/chatcluster/chatcluster/chatserver/load/scrape"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
)

// run is a run under way.
type run struct {
	config Config
	plan   plan
	name   string // that no other run has
	began  time.Time

	urls     []*url.URL
	dialer   light.Dialer
	accounts accounts
	memo     *memo
	ledger   *ledger.Ledger
	pulse    *pulse.Pulse
	text     string // of all messages

	rooms   []string
	users   []*user
	spare   []*account // without a seat, for logins
	phases  []*phase
	current atomic.Pointer[phase]

	inside   atomic.Int64 // users in all of their rooms
	hopeless atomic.Int64 // users who will not be back
	refused  atomic.Int64 // messages that the server did not take

	saying sync.Mutex // of progress

	mu       sync.Mutex
	closes   map[string]int
	problems map[string]int
	attempts int // that failed
	broken   int
	conns    map[*light.Conn]struct{}
	series   []report.Second

	baseline []scrape.Sample
	opened   time.Duration // how long it took to open the connections,
	open     int           // and how many there were then
}

// Run puts the load on and tells what came of it. A run that ctx ends early
// reports what there is. An error means that there is nothing to report.
func Run(ctx context.Context, c Config) (*report.Report, error) {
	r, err := newRun(c)
	if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	defer r.accounts.http.CloseIdleConnections()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var watching sync.WaitGroup
	watching.Go(func() { r.pulse.Watch(life) })
	watching.Go(func() { r.pingSilent(life) })
	defer r.tellProgress()()

	var living sync.WaitGroup
	connected, disconnect := context.WithCancel(life)
	defer disconnect()
	if err := r.connectAll(ctx, connected, &living); err != nil {
		disconnect()
		living.Wait()
		return nil, err
	}
	for i, p := range r.phases[1 : len(r.phases)-1] {
		if ctx.Err() != nil || r.saturation(r.phases[i]) != "" {
			break
		}
		r.perform(ctx, p)
	}
	r.settle()
	result := r.report()
	disconnect()
	living.Wait()
	end()
	watching.Wait()
	return result, nil
}

func newRun(c Config) (*run, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := enoughDescriptors(c.Connections + c.Bystanders); err != nil {
		return nil, err
	}
	urls, err := c.urls()
	if err != nil {
		return nil, err
	}
	name := strconv.FormatUint(rand.Uint64N(1<<40), 36)
	network := newNetwork(c.Resolve, c.Sources)
	r := &run{
		config: c, plan: scenarios[c.Scenario](&c), name: name, began: time.Now(),
		urls: urls, dialer: light.Dialer{TLS: c.TLS, NetDial: network.dial},
		accounts: accounts{http: network.http(c.TLS), urls: urls},
		ledger:   ledger.New(), pulse: pulse.New(), text: strings.Repeat("chat", c.Size/4+1)[:c.Size],
		closes: make(map[string]int), problems: make(map[string]int), conns: make(map[*light.Conn]struct{}),
	}
	r.memo = newMemo(name, r.began)
	r.phases = phases(c, len(r.plan.turns) > 0)
	r.current.Store(r.phases[0])
	return r, nil
}

// phases are the run's. In the first one connections are opened, in the last one
// what is on its way arrives.
func phases(c Config, speaking bool) []*phase {
	all := []*phase{{name: "connect"}}
	rates := c.Rates
	if len(rates) == 0 {
		rates = []float64{c.Rate}
	}
	if !speaking {
		rates = []float64{0}
	}
	if c.Ramp > 0 && speaking {
		all = append(all, &phase{name: "ramp", pace: pace{0, rates[0], c.Ramp}})
	}
	for _, rate := range rates {
		name := "load"
		if len(rates) > 1 {
			name = fmt.Sprintf("%g/s", rate)
		}
		all = append(all, &phase{name: name, pace: pace{rate, rate, c.Duration}, measured: true})
	}
	all = append(all, &phase{name: "settle"})
	for i, p := range all {
		p.index = i
	}
	return all
}

func (r *run) now() *phase { return r.current.Load() }

// loginUsers is how many users log in again and again where that is measured.
const loginUsers = 20

// prepare gets the accounts and looks at the servers before there is any load.
func (r *run) prepare(ctx context.Context) error {
	spare := 0
	if r.plan.logins > 0 {
		if len(r.config.Accounts.Tokens) > 0 {
			return errors.New("logins need passwords: give users, or --register, and not tokens")
		}
		spare = loginUsers
	}
	n := len(r.plan.seats) + spare
	var done atomic.Int64
	stop := r.every(time.Second, func() { r.say("%d of %d users are ready", done.Load(), n) })
	all, err := r.accounts.prepare(ctx, r.config.Accounts, r.name, n, func() { done.Add(1) })
	stop()
	if err != nil {
		return fmt.Errorf("get users: %w", err)
	}
	r.spare = all[len(r.plan.seats):]
	for i, s := range r.plan.seats {
		u := &user{run: r, index: i, seat: s, account: all[i]}
		for _, room := range s.rooms {
			for len(r.rooms) <= room {
				r.rooms = append(r.rooms, fmt.Sprintf("load-%s-%d", r.name, len(r.rooms)))
			}
			u.places = append(u.places, place{room: r.rooms[room]})
		}
		r.users = append(r.users, u)
	}
	r.baseline, err = r.scrape(ctx)
	return err
}

func (r *run) scrape(ctx context.Context) ([]scrape.Sample, error) {
	return scrape.All(ctx, http.DefaultClient, r.config.Metrics)
}

// connectMargin is how long connections may take beyond when the last one was due.
const connectMargin = 30 * time.Second

// connectAll opens the connections at their rate and waits until all are there.
// They live as long as life does.
func (r *run) connectAll(ctx, life context.Context, living *sync.WaitGroup) error {
	began := time.Now()
	n := len(r.users)
	opening := pace{r.config.ConnectRate, r.config.ConnectRate, time.Duration(float64(n) / r.config.ConnectRate * float64(time.Second))}
	opening.keep(ctx, func(i int, due time.Time) {
		if i < n {
			living.Go(func() { r.users[i].live(life, due) })
		}
	})
	deadline, cancel := context.WithTimeout(ctx, connectMargin)
	defer cancel()
	for r.inside.Load()+r.hopeless.Load() < int64(n) && deadline.Err() == nil {
		wait(deadline, time.Now().Add(10*time.Millisecond))
	}
	r.opened, r.open = time.Since(began), int(r.inside.Load())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if r.open == 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return fmt.Errorf("no connection could be opened: %v", r.problems)
	}
	return nil
}

// perform is one phase.
func (r *run) perform(ctx context.Context, p *phase) {
	before, err := r.scrape(ctx)
	r.noteError(err)
	r.current.Store(p)
	usage := r.pulse.Begin()
	began := time.Now()
	var extras sync.WaitGroup
	bounded, cancel := context.WithTimeout(ctx, p.pace.during)
	defer cancel()
	if p.measured {
		r.extras(bounded, &extras)
	}
	r.speak(ctx, p)
	p.took, p.ended = time.Since(began), p.counts()
	p.usage = r.pulse.Since(usage)
	after, err := r.scrape(context.WithoutCancel(ctx))
	r.noteError(err)
	if len(before) > 0 && len(after) > 0 {
		server := scrape.Between(before, after)
		p.server = &server
	}
	extras.Wait()
	if len(r.config.Rates) > 0 && p.measured {
		r.endStep(ctx, p)
	}
}

const (
	// graceTime is how long the last messages of a step may take to count as served in it.
	graceTime = 500 * time.Millisecond
	// quietTime is how long what is on its way after a step may take.
	quietTime = 5 * time.Second
)

// endStep has a step of a sweep end before the next one begins.
func (r *run) endStep(ctx context.Context, p *phase) {
	grace, cancel := context.WithTimeout(ctx, graceTime)
	defer cancel()
	served := func() int64 { return p.response.Total().Count() }
	for served() < p.ended.due && grace.Err() == nil {
		wait(grace, time.Now().Add(10*time.Millisecond))
	}
	p.served = served()
	quiet, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	r.drain(quiet)
}

// speak has the messages of a phase sent, each when it is due. One that is late
// because this program is slow is sent all the same.
func (r *run) speak(ctx context.Context, p *phase) {
	p.pace.keep(ctx, func(n int, due time.Time) {
		t := r.plan.turns[n%len(r.plan.turns)]
		p.due.Add(1)
		r.users[t.seat].post(&message{
			request: protocol.Request{
				Type: protocol.TypeMessage, ID: r.memo.id(p.index, n, due), Room: r.rooms[t.room], Message: r.text,
			},
			phase: p.index, due: due,
		})
	})
}

// extras is what else happens while a phase is measured.
func (r *run) extras(ctx context.Context, under *sync.WaitGroup) {
	var movers []*user
	for _, u := range r.users {
		if !u.seat.bystander {
			movers = append(movers, u)
		}
	}
	during := r.config.Duration
	if r.plan.churn > 0 && len(movers) > 0 {
		under.Go(func() {
			pace{r.plan.churn, r.plan.churn, during}.keep(ctx, func(n int, _ time.Time) {
				movers[n%len(movers)].leave(true, rand.N(time.Second))
			})
		})
	}
	for _, after := range r.plan.storms {
		began := time.Now()
		under.Go(func() {
			if wait(ctx, began.Add(after)) {
				r.say("storm: %d connections are cut", len(movers))
				for _, u := range movers {
					u.leave(false, 0)
				}
			}
		})
	}
	if r.plan.logins > 0 {
		under.Go(func() {
			pace{r.plan.logins, r.plan.logins, during}.keep(ctx, func(n int, due time.Time) {
				under.Go(func() { r.login(r.spare[n%len(r.spare)], due) })
			})
		})
	}
}

// login logs in once more, and out again so that sessions do not pile up.
func (r *run) login(a *account, due time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), attemptTime)
	defer cancel()
	of := r.now()
	var g grant
	if err := r.accounts.post(ctx, a.index, "/login", a.credentials(), &g); err != nil {
		r.problem("login: " + reason(err))
		return
	}
	of.login.Record(a.index, time.Since(due))
	if err := r.accounts.post(ctx, a.index, "/logout", map[string]string{"token": g.Token}, &struct{}{}); err != nil {
		r.problem("logout: " + reason(err))
	}
}

// settle waits until everybody has all messages, or for as long as that may
// take, even if the run was ended early: what is on its way is not lost.
func (r *run) settle() {
	r.current.Store(r.phases[len(r.phases)-1])
	ctx, cancel := context.WithTimeout(context.Background(), r.config.Settle)
	defer cancel()
	r.drain(ctx)
}

// drain waits until nothing is on its way.
func (r *run) drain(ctx context.Context) {
	for ctx.Err() == nil {
		queued, pending := r.waiting()
		if queued+pending == 0 && r.ledger.Missing() == 0 {
			return
		}
		wait(ctx, time.Now().Add(50*time.Millisecond))
	}
}

func (r *run) waiting() (queued, pending int) {
	for _, u := range r.users {
		q, p := u.waiting()
		queued, pending = queued+q, pending+p
	}
	return queued, pending
}

func (r *run) closed(code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closes[strconv.Itoa(code)]++
	if code == cutWithout {
		r.broken++
	}
}

// failed notes an attempt to connect that did not succeed.
func (r *run) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts++
	r.problems["connect: "+reason(err)]++
}

// maxProblems is how many different ones are kept apart.
const maxProblems = 50

func (r *run) problem(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.problems[what]; !known && len(r.problems) >= maxProblems {
		what = "others"
	}
	r.problems[what]++
}

func (r *run) noteError(err error) {
	if err != nil {
		r.problem(reason(err))
	}
}

func (r *run) watch(c *light.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = struct{}{}
}

func (r *run) unwatch(c *light.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

const (
	silentEvery = 5 * time.Second  // how often connections are looked at
	pingAfter   = 20 * time.Second // of silence
	cutAfter    = 35 * time.Second
)

// pingSilent finds connections whose other end is gone: it says nothing. Nor
// does a program that was stopped, whose kernel still acknowledges.
func (r *run) pingSilent(ctx context.Context) {
	ticker := time.NewTicker(silentEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		for c := range r.conns {
			switch silent := c.Silent(); {
			case silent > cutAfter:
				c.Abort()
			case silent > pingAfter:
				go func() { _ = c.Ping() }()
			}
		}
		r.mu.Unlock()
	}
}

// reason is what went wrong, without addresses, so that equal ones are counted
// as one.
func reason(err error) string {
	var op *net.OpError
	var refused *light.Refused
	var closed *light.Closed
	switch {
	case errors.As(err, &refused):
		return refused.Error()
	case errors.As(err, &closed):
		return closed.Error()
	case errors.As(err, &op):
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}
