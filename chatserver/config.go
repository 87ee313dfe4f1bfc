package chatserver

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/address"
	"github.com/chatcluster/chatcluster/chatserver/notify"
	"github.com/chatcluster/chatcluster/chatserver/store"
	"github.com/chatcluster/chatcluster/chatserver/telemetry/tracing"
	"github.com/chatcluster/chatcluster/chatserver/web"
)

// Config is what a chat server has to be told. cmd/chatserver documents each
// field as a flag, with its default.
type Config struct {
	Version string // of the program, for metrics
	NodeID  string // unique among the running servers

	Listen      string // HTTPS and WebSocket
	LineListen  string // line protocol; empty: none
	AdminListen string // probes and metrics, plain HTTP; empty: none

	Plaintext        bool // HTTP instead of HTTPS, on a loopback address
	PlaintextExposed bool // and on any other

	Redis              Redis
	Durability         string // memory, replicated or durable; empty: memory
	DurabilityReplicas int    // that must have a message

	TLS     KeyFiles // of the HTTPS listener
	LineTLS KeyFiles // of the line listener; empty: the same

	TokenKeysDir    string        // one file a signing key; empty: a random key, for one server alone
	ClusterID       string        // tokens of other clusters are refused
	AccessTokenTTL  time.Duration // how long a token is good for that can be refreshed
	PlainTokenTTL   time.Duration // and one of POST /login, whose clients may not know how
	RefreshTokenTTL time.Duration // how long a session lives that is not refreshed

	DuplicateLogin   string // reject, replace or allow
	MaxSessions      int    // that a user may have online, if several are allowed; 0: no limit
	RegistrationOpen bool
	UsersFile        string // accounts to make at start; see seed
	DemoUsers        bool

	DefaultRoom     string // of WebSocket clients that know no rooms
	HistoryCount    int    // messages kept a room
	HistoryAge      time.Duration
	MaxMessageBytes int
	MessagesPer10s  int // a connection, and a user over HTTP; 0: no limit

	RequestsPerHour       int // an address, all servers together; 0: no limit, here and below
	AuthPerMinute         int // calls of /api about passwords, an address
	APIPerMinute          int // other calls of /api, an address
	LoginAttemptsPerHour  int // wrong passwords, an account
	ConnectionsPerAddress int // on this server; 0: no limit
	TrustedProxies        []string
	AllowedOrigins        []string

	Notify notify.Config // Log and Registerer are the server's

	Traces tracing.Options // Endpoint (empty: no traces) and Ratio; the rest is the server's
	// ErrorTracker says that errors in Log reach one. It is tried by GET /debug-sentry.
	ErrorTracker bool

	DrainWindow time.Duration

	// Dev runs without anything installed: a Redis of its own inside this
	// process (unless Redis.URLs is set) and a self-signed certificate.
	Dev bool
	Log *slog.Logger
	// LogLevel is that of Log; it can be changed on the admin port.
	LogLevel *slog.LevelVar
}

// Redis says where Redis is.
type Redis struct {
	URLs         []string
	UsernameFile string
	PasswordFile string
	CAFile       string
}

// KeyFiles are a certificate and its private key, as PEM files.
type KeyFiles struct{ Cert, Key string }

// policy is what DuplicateLogin and MaxSessions mean; ok is false if they mean nothing.
func (c *Config) policy() (p store.Policy, ok bool) {
	switch c.DuplicateLogin {
	case "reject":
		return store.Reject, true
	case "replace":
		return store.Replace, true
	case "allow":
		return store.AllowMost(c.MaxSessions), true
	}
	return store.Policy{}, false
}

var durabilities = map[string]store.Durability{
	"":           store.Memory,
	"memory":     store.Memory,
	"replicated": store.Replicated,
	"durable":    store.Durable,
}

// validate says what cannot work before anything is started.
func (c *Config) validate() error {
	switch {
	case c.NodeID == "":
		return errors.New("the node id is empty: set --node-id to something that no other server has")
	case c.Listen == "":
		return errors.New("there is no address to listen on: set --listen")
	case c.PlaintextExposed && !c.Plaintext:
		return errors.New("--plaintext-exposed does nothing without --plaintext: set both or neither")
	case !c.Dev && c.needsCertificate() && (c.TLS.Cert == "" || c.TLS.Key == ""):
		return errors.New("there is no certificate: set --tls-cert-file and --tls-key-file, or try --dev")
	case (c.LineTLS.Cert == "") != (c.LineTLS.Key == ""):
		return errors.New("--line-tls-cert-file and --line-tls-key-file go together: set both or neither")
	case !c.Dev && c.TokenKeysDir == "":
		return errors.New("there are no keys to sign tokens with: set --token-keys-dir, or try --dev")
	case c.MaxMessageBytes <= 0:
		return fmt.Errorf("a message of at most %d bytes says nothing: set --max-message-bytes to 1 or more", c.MaxMessageBytes)
	}
	for _, check := range []func() error{c.validateNumbers, c.validateDurability, c.validateAddresses} {
		if err := check(); err != nil {
			return err
		}
	}
	if _, known := c.policy(); !known {
		return fmt.Errorf("--duplicate-login is reject, replace or allow, not %q", c.DuplicateLogin)
	}
	if c.AccessTokenTTL <= 0 || c.PlainTokenTTL <= 0 || c.RefreshTokenTTL < max(c.AccessTokenTTL, c.PlainTokenTTL) {
		// A token of a session that has ended is refused, whatever it says itself.
		return errors.New("tokens end before they are of use: set --refresh-token-ttl to no less than --access-token-ttl and --plain-token-ttl, and these above 0")
	}
	return nil
}

func (c *Config) validateDurability() error {
	durability, known := durabilities[c.Durability]
	switch {
	case !known:
		return fmt.Errorf("--durability is memory, replicated or durable, not %q", c.Durability)
	case durability == store.Replicated && c.DurabilityReplicas < 1:
		return errors.New("--durability replicated waits for replicas: set --durability-replicas to 1 or more")
	case durability != store.Memory && c.Dev && len(c.Redis.URLs) == 0:
		return errors.New("the built-in Redis of --dev forgets everything: --durability needs a real one, named by --redis")
	}
	return nil
}

// validateNumbers refuses what nobody can mean.
func (c *Config) validateNumbers() error {
	for _, n := range []struct {
		flag  string
		value int
		least int
	}{
		{"--history-count", c.HistoryCount, 1},
		{"--history-age", int(c.HistoryAge), 1},
		{"--drain-window", int(c.DrainWindow), 1},
		{"--messages-per-10s", c.MessagesPer10s, 0},
		{"--requests-per-hour", c.RequestsPerHour, 0},
		{"--auth-requests-per-minute", c.AuthPerMinute, 0},
		{"--api-requests-per-minute", c.APIPerMinute, 0},
		{"--login-attempts-per-hour", c.LoginAttemptsPerHour, 0},
		{"--max-sessions-per-user", c.MaxSessions, 0},
		{"--max-connections-per-address", c.ConnectionsPerAddress, 0},
	} {
		if n.value < n.least {
			return fmt.Errorf("%s is too small: it has to be %s", n.flag, []string{"0 or more", "more than 0"}[n.least])
		}
	}
	return nil
}

// validateAddresses refuses what cannot be read. Waiting for Redis would not mend it.
func (c *Config) validateAddresses() error {
	if _, err := address.ParseProxies(c.TrustedProxies); err != nil {
		return fmt.Errorf("--trusted-proxies: %w", err)
	}
	if err := c.Traces.Check(); c.Traces.Endpoint != "" && err != nil {
		return fmt.Errorf("--otlp-endpoint or --trace-ratio: %w", err)
	}
	if err := web.CheckOrigins(c.AllowedOrigins); err != nil {
		return fmt.Errorf("--allowed-origins: %w", err)
	}
	if len(c.Redis.URLs) == 0 {
		return nil // that of --dev
	}
	if err := c.storeOptions().Check(); err != nil {
		return fmt.Errorf("--redis or --node-id: %w", err)
	}
	return nil
}

func (c *Config) storeOptions() store.Options {
	return store.Options{
		URLs:         c.Redis.URLs,
		UsernameFile: c.Redis.UsernameFile,
		PasswordFile: c.Redis.PasswordFile,
		CAFile:       c.Redis.CAFile,
		ServerID:     c.NodeID,
		HistoryCount: c.HistoryCount,
		HistoryAge:   c.HistoryAge,
		Durability:   durabilities[c.Durability],
		Replicas:     c.DurabilityReplicas,
		Log:          c.Log,
	}
}

// needsCertificate says whether something is served that takes the certificate of HTTPS.
func (c *Config) needsCertificate() bool {
	return !c.Plaintext || c.LineListen != "" && c.LineTLS.Cert == ""
}
