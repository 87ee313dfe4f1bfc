package chatserver

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/store"
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

	Redis   Redis
	TLS     KeyFiles // of the HTTPS listener
	LineTLS KeyFiles // of the line listener; empty: the same

	TokenKeysDir   string        // one file a signing key; empty: a random key, for one server alone
	ClusterID      string        // tokens of other clusters are refused
	AccessTokenTTL time.Duration // how long a token is good for

	DuplicateLogin   string // reject, replace or allow
	RegistrationOpen bool
	UsersFile        string // accounts to make at start; see seed
	DemoUsers        bool

	DefaultRoom     string // of WebSocket clients that know no rooms
	HistoryCount    int    // messages kept a room
	HistoryAge      time.Duration
	MaxMessageBytes int
	MessagesPer10s  int // a connection; 0: no limit

	RequestsPerHour       int // an address, all servers together; 0: no limit
	ConnectionsPerAddress int // on this server; 0: no limit
	TrustedProxies        []string
	AllowedOrigins        []string

	DrainWindow time.Duration

	// Dev runs without anything installed: a Redis of its own inside this
	// process (unless Redis.URLs is set) and a self-signed certificate.
	Dev bool
	Log *slog.Logger
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

var policies = map[string]store.Policy{
	"reject":  store.Reject,
	"replace": store.Replace,
	"allow":   store.Allow,
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
	if _, known := policies[c.DuplicateLogin]; !known {
		return fmt.Errorf("--duplicate-login is reject, replace or allow, not %q", c.DuplicateLogin)
	}
	return nil
}

// needsCertificate says whether something is served that takes the certificate of HTTPS.
func (c *Config) needsCertificate() bool {
	return !c.Plaintext || c.LineListen != "" && c.LineTLS.Cert == ""
}
