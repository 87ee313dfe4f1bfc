package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/chatcluster/chatcluster/chatserver/load"
	"github.com/chatcluster/chatcluster/chatserver/load/report"
)

const description = `Puts load on chat servers as their users would, measures what these notice, and checks that nobody misses a message.

Messages leave at times that were fixed before, however slow the servers are, and every time is measured from there.

Try it, with a server that has no limits:

    export CHATSERVER_MESSAGES_PER_10S=0 CHATSERVER_REQUESTS_PER_HOUR=0 \
        CHATSERVER_AUTH_REQUESTS_PER_MINUTE=0 CHATSERVER_API_REQUESTS_PER_MINUTE=0
    make run

and in another terminal:

    chatload fanout --register --insecure --metrics http://127.0.0.1:9090/metrics

A room of 2,000, a report to keep, and an exit code for CI:

    chatload fanout --register --insecure --connections 2000 --rate 20 --duration 1m \
        --threshold 'delivery.p99<50ms' --threshold 'lost==0' --html fanout.html --json fanout.json

How much it can take, as a chart of response time, throughput and latency against load:

    chatload sweep fanout --register --insecure --from 20 --to 200 --steps 10 --html sweep.html

Many cheap accounts for a server to start with, and a run as these users:

    chatload users 2000 --password 'correct horse' >users.txt
    chatserver --dev --users-file users.txt
    chatload storm --insecure --users 2000 --password 'correct horse'

Exit codes: 0, all is well; 1, the run could not be done; 80, the command line is wrong; 98, nothing to complain of but the result is not to be trusted, because this program was the bottleneck; 99, a threshold was crossed, or messages were lost, doubled or out of order.`

// flags is the command line. The defaults are in the tags, so that --help shows them.
type flags struct {
	Version kong.VersionFlag `help:"Print the version."`

	Idle       idleCommand       `cmd:"" help:"Connections that say nothing: what does one cost?"`
	Fanout     fanoutCommand     `cmd:"" help:"One room, of which everybody gets every message."`
	Rooms      roomsCommand      `cmd:"" help:"Many small rooms, in which everybody speaks."`
	Churn      churnCommand      `cmd:"" help:"Connections leave and come back all the time, while others speak."`
	Storm      stormCommand      `cmd:"" help:"All connections are cut and come back at once, while others speak."`
	LoginStorm loginStormCommand `cmd:"" help:"Passwords are checked while messages flow."`
	Mixed      mixedCommand      `cmd:"" help:"A bit of everything: small rooms, a hall, churn and logins."`
	Sweep      sweepCommand      `cmd:"" help:"Rising load, to find out how much is served."`
	Users      usersCommand      `cmd:"" help:"Print accounts for the servers' --users-file. Their hashes are cheap: for tests only."`
}

// target is where the load goes, and as whom.
type target struct {
	URL      []string `help:"URL of a server, http or https; several are used in turn." default:"https://127.0.0.1:8443" placeholder:"URL" group:"Servers"`
	Metrics  []string `help:"URL of a server's /metrics, to read its CPU and memory from; one for each server." placeholder:"URL" group:"Servers"`
	CAFile   string   `name:"ca-file" help:"File with the CAs that the servers' certificates may come from." type:"existingfile" placeholder:"FILE" group:"Servers"`
	Insecure bool     `help:"Take any certificate." group:"Servers"`
	Resolve  []string `help:"Connect to another address instead: HOST[:PORT]=ADDRESS:PORT." placeholder:"HOST=ADDRESS" group:"Servers"`
	Source   []string `help:"Local addresses to connect from, in turn: one, or a range like 127.0.0.2-127.0.0.50. Each has some 28,000 ports, and limits that servers set an address." placeholder:"ADDRESSES" group:"Servers"`

	Register  bool   `help:"Make an account for each connection." xor:"who" required:"" group:"Users"`
	Users     int    `help:"Be so many users named load_0, load_1 and so on, as made by the users command." xor:"who" required:"" placeholder:"COUNT" group:"Users"`
	UserFile  string `help:"Be the users of this file: lines of user:password." xor:"who" required:"" type:"existingfile" placeholder:"FILE" group:"Users"`
	TokenFile string `help:"Be the users of the access tokens in this file, one a line." xor:"who" required:"" type:"existingfile" placeholder:"FILE" group:"Users"`
	Password  string `help:"Password of the users of --users." env:"CHATLOAD_PASSWORD" group:"Users"`
}

// run is how long it goes on, and what becomes of it.
type run struct {
	ConnectRate float64       `help:"Connections opened a second." default:"500" group:"Load"`
	Duration    time.Duration `help:"How long the load lasts that is measured." default:"30s" group:"Load"`
	Settle      time.Duration `help:"How long what is on its way at the end may take." default:"10s" group:"Load"`

	Threshold []string `help:"Something that has to hold, like delivery.p99<50ms or lost==0." placeholder:"RULE" sep:"none" group:"Result"`
	JSON      string   `name:"json" help:"Write the result as JSON; - for the standard output." placeholder:"FILE" group:"Result"`
	HTML      string   `name:"html" help:"Write a report with charts, in one file." placeholder:"FILE" group:"Result"`
	Quiet     bool     `help:"No line a second." short:"q" group:"Result"`
}

// speech is what is said.
type speech struct {
	Rate    float64       `help:"Messages a second, of all together." default:"20" group:"Load"`
	Ramp    time.Duration `help:"How long the rate rises from 0 before anything is measured." default:"3s" group:"Load"`
	Size    int           `help:"Bytes of a message's text." default:"100" group:"Load"`
	Senders int           `help:"How many speak, at most; 0 for all that the scenario lets." default:"0" group:"Load"`
}

type idleCommand struct {
	target
	run
	Connections int `help:"Connections." short:"c" default:"1000" group:"Load"`
	RoomSize    int `help:"Members a room; 0 for no rooms." default:"0" group:"Load"`
}

type fanoutCommand struct {
	target
	run
	speech
	Connections int `help:"Members of the room." short:"c" default:"100" group:"Load"`
}

type roomsCommand struct {
	target
	run
	speech
	Connections int `help:"Connections." short:"c" default:"200" group:"Load"`
	RoomSize    int `help:"Members a room." default:"10" group:"Load"`
}

// crowd is people who come and go among others that stay and speak.
type crowd struct {
	Connections int `help:"Connections that come and go." short:"c" default:"200" group:"Load"`
	Bystanders  int `help:"Members besides that stay and speak." default:"20" group:"Load"`
	RoomSize    int `help:"Members a room." default:"10" group:"Load"`
}

type churnCommand struct {
	target
	run
	speech
	crowd
	Churn float64 `help:"Connections a second that leave and come back." default:"20" group:"Load"`
}

type stormCommand struct {
	target
	run
	speech
	crowd
	Storms int `help:"How often all connections are cut." default:"1" group:"Load"`
}

type loginStormCommand struct {
	roomsCommand
	Logins float64 `help:"Logins a second." default:"20" group:"Load"`
}

type mixedCommand struct {
	target
	run
	speech
	crowd
	Churn  float64 `help:"Connections a second that leave and come back." default:"2" group:"Load"`
	Logins float64 `help:"Logins a second." default:"1" group:"Load"`
}

type sweepCommand struct {
	Scenario string `arg:"" help:"What to sweep: ${enum}." enum:"fanout,rooms" default:"fanout"`
	target
	run
	Connections int           `help:"Connections." short:"c" default:"100" group:"Load"`
	RoomSize    int           `help:"Members a room, of rooms." default:"10" group:"Load"`
	From        float64       `help:"Messages a second of the first step." default:"20" group:"Load"`
	To          float64       `help:"Messages a second of the last step. The sweep ends before, at the first that is not served." default:"200" group:"Load"`
	Steps       int           `help:"Steps." default:"10" group:"Load"`
	Ramp        time.Duration `help:"How long the rate rises to that of the first step." default:"3s" group:"Load"`
	Size        int           `help:"Bytes of a message's text." default:"100" group:"Load"`
	Senders     int           `help:"How many speak, at most; 0 for all." default:"0" group:"Load"`
}

func (c *idleCommand) AfterApply() error { return nil }

// config is what each command makes of its flags. Without an override a field is
// that of the shared groups.
func (c *idleCommand) config() (load.Config, *run, error) {
	l := load.Config{Scenario: "idle", Connections: c.Connections, RoomSize: c.RoomSize, Size: 1}
	return c.with(l, &c.run)
}

func (c *fanoutCommand) config() (load.Config, *run, error) {
	return c.target.with(c.speech.with(load.Config{Scenario: "fanout", Connections: c.Connections}), &c.run)
}

func (c *roomsCommand) config() (load.Config, *run, error) {
	return c.target.with(c.speech.with(load.Config{Scenario: "rooms", Connections: c.Connections, RoomSize: c.RoomSize}), &c.run)
}

func (c *churnCommand) config() (load.Config, *run, error) {
	return c.target.with(c.crowd.with(c.speech.with(load.Config{Scenario: "churn", Churn: c.Churn})), &c.run)
}

func (c *stormCommand) config() (load.Config, *run, error) {
	return c.target.with(c.crowd.with(c.speech.with(load.Config{Scenario: "storm", Storms: c.Storms})), &c.run)
}

func (c *loginStormCommand) config() (load.Config, *run, error) {
	l, r, err := c.roomsCommand.config()
	l.Scenario, l.Logins = "login-storm", c.Logins
	return l, r, err
}

func (c *mixedCommand) config() (load.Config, *run, error) {
	return c.target.with(c.crowd.with(c.speech.with(load.Config{Scenario: "mixed", Churn: c.Churn, Logins: c.Logins})), &c.run)
}

func (c *sweepCommand) config() (load.Config, *run, error) {
	if c.Steps < 1 || c.To < c.From {
		return load.Config{}, nil, fmt.Errorf("a sweep rises in 1 step or more: --from %g --to %g --steps %d does not", c.From, c.To, c.Steps)
	}
	l := load.Config{
		Scenario: c.Scenario, Connections: c.Connections, RoomSize: c.RoomSize,
		Ramp: c.Ramp, Size: c.Size, Senders: c.Senders, Rate: c.From,
	}
	for i := range c.Steps {
		l.Rates = append(l.Rates, c.From+(c.To-c.From)*float64(i)/float64(max(c.Steps-1, 1)))
	}
	return c.with(l, &c.run)
}

func (s *speech) with(c load.Config) load.Config {
	c.Rate, c.Ramp, c.Size, c.Senders = s.Rate, s.Ramp, s.Size, s.Senders
	return c
}

func (s *crowd) with(c load.Config) load.Config {
	c.Connections, c.Bystanders, c.RoomSize = s.Connections, s.Bystanders, s.RoomSize
	return c
}

func (t *target) with(c load.Config, r *run) (load.Config, *run, error) {
	c.Tool = "chatload " + version
	c.URLs, c.Metrics = t.URL, t.Metrics
	c.ConnectRate, c.Duration, c.Settle = r.ConnectRate, r.Duration, r.Settle
	if !r.Quiet {
		c.Progress = os.Stderr
	}
	for _, text := range t.Source {
		addrs, err := load.ParseSources(text)
		if err != nil {
			return c, nil, err
		}
		c.Sources = append(c.Sources, addrs...)
	}
	c.Resolve = make(map[string]string)
	for _, text := range t.Resolve {
		from, to, err := load.ParseResolve(text)
		if err != nil {
			return c, nil, err
		}
		c.Resolve[from] = to
	}
	var err error
	if c.TLS, err = t.tls(); err != nil {
		return c, nil, err
	}
	c.Accounts, err = t.accounts()
	return c, r, err
}

func (t *target) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.Insecure} //nolint:gosec // on request
	if t.CAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in it", t.CAFile)
	}
	return config, nil
}

func (t *target) accounts() (a load.Accounts, err error) {
	switch {
	case t.Register:
		a.Register = true
	case t.Users > 0:
		if t.Password == "" {
			return a, fmt.Errorf("--users needs the password that they have: give --password")
		}
		for i := range t.Users {
			a.Logins = append(a.Logins, load.Credentials{User: userName(i), Password: t.Password})
		}
	case t.UserFile != "":
		err = eachLine(t.UserFile, func(line string) error {
			user, password, ok := strings.Cut(line, ":")
			if !ok {
				return fmt.Errorf("%s: %q is not user:password", t.UserFile, line)
			}
			a.Logins = append(a.Logins, load.Credentials{User: user, Password: password})
			return nil
		})
	default:
		err = eachLine(t.TokenFile, func(line string) error {
			a.Tokens = append(a.Tokens, line)
			return nil
		})
	}
	return a, err
}

// eachLine calls f for the lines of a file that say something.
func eachLine(path string, f func(string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			if err := f(line); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

func (r *run) thresholds() ([]report.Threshold, error) {
	var all []report.Threshold
	for _, text := range r.Threshold {
		t, err := report.ParseThreshold(text)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}
