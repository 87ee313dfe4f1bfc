package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"github.com/chatcluster/chatcluster/chatserver"
	"github.com/chatcluster/chatcluster/chatserver/notify"
	"github.com/chatcluster/chatcluster/chatserver/telemetry/tracing"
)

const description = `A chat server: WebSocket and HTTPS for programs, a TLS line protocol for terminals. It keeps nothing itself: all of it is in Redis, so that any number of servers act as one.

Try it with nothing installed:

    chatserver --dev

One of many, with a Redis:

    chatserver --redis redis://10.0.0.5:6379 --token-keys-dir keys \
        --tls-cert-file tls.crt --tls-key-file tls.key

With a Redis Cluster: give --redis for some of its nodes.

Every flag can also be an environment variable, or a line of the file that --config names, like line_listen: ":1222". A flag wins over the environment, and that over the file. After a SIGHUP the log level of the file is read again.`

// flags is the command line. The defaults are in the tags, so that --help shows them.
type flags struct {
	Config  kong.ConfigFlag  `help:"YAML or JSON file of flags." placeholder:"FILE"`
	Version kong.VersionFlag `help:"Print the version." env:"-"`

	Dev bool `help:"Run with nothing installed: a built-in Redis that forgets (unless --redis is given), a self-signed certificate, and the demo users." group:"Start"`

	Listen      string `help:"Address of HTTPS and WebSocket." default:"127.0.0.1:8443" group:"Listeners"`
	LineListen  string `help:"Address of the TLS line protocol; empty for none." default:"127.0.0.1:1222" group:"Listeners"`
	AdminListen string `help:"Address of /healthz, /readyz and /metrics, in plain HTTP; empty for none. Keep it from strangers." default:"127.0.0.1:9090" group:"Listeners"`

	Plaintext        bool `help:"Serve HTTP and WebSocket without TLS, for a proxy on this machine that ends it. Refused on any but a loopback address." group:"Listeners"`
	PlaintextExposed bool `help:"Allow --plaintext on every address: whoever is on the way to it reads passwords, tokens and messages." group:"Listeners"`

	Redis             []string `help:"URL of Redis; rediss:// for TLS. Several are the seeds of a Redis Cluster, as is one with ?cluster=true. Without any: redis://127.0.0.1:6379." placeholder:"URL" group:"Redis"`
	RedisUsernameFile string   `help:"File with the user name for Redis." placeholder:"FILE" group:"Redis"`
	RedisPasswordFile string   `help:"File with the password for Redis." placeholder:"FILE" group:"Redis"`
	RedisCAFile       string   `name:"redis-ca-file" help:"File with the CAs that Redis' certificate may come from." placeholder:"FILE" group:"Redis"`

	Durability         string `help:"When a message counts, so that it is acknowledged and delivered: when Redis has it in memory, when replicas have it too, or when it is on disk as well (${enum})." enum:"memory,replicated,durable" default:"memory" group:"Redis"`
	DurabilityReplicas int    `help:"How many replicas must have a message, with replicated and durable. 0 is for durable where Redis has none." default:"1" placeholder:"COUNT" group:"Redis"`

	TLSCertFile     string `name:"tls-cert-file" help:"Certificate of the HTTPS listener. A renewed one is served without a restart." placeholder:"FILE" group:"Certificates"`
	TLSKeyFile      string `name:"tls-key-file" help:"Its private key." placeholder:"FILE" group:"Certificates"`
	LineTLSCertFile string `name:"line-tls-cert-file" help:"Certificate of the line listener. Default: that of HTTPS." placeholder:"FILE" group:"Certificates"`
	LineTLSKeyFile  string `name:"line-tls-key-file" help:"Its private key." placeholder:"FILE" group:"Certificates"`

	TokenKeysDir         string        `help:"Directory of the keys that sign tokens: a file a key, named by its id, with a secret of at least 32 bytes; the file 'current' has the id to sign with. All servers need the same." placeholder:"DIR" group:"Accounts"`
	ClusterID            string        `help:"Name of this chat cluster; tokens of others are refused." default:"chatcluster" group:"Accounts"`
	AccessTokenTTL       time.Duration `name:"access-token-ttl" help:"How long a token is good for that /api/auth/login or a refresh gave." default:"15m" group:"Accounts"`
	PlainTokenTTL        time.Duration `name:"plain-token-ttl" help:"How long a token of /login is good for, whose clients may not know how to refresh it." default:"1h" group:"Accounts"`
	RefreshTokenTTL      time.Duration `name:"refresh-token-ttl" help:"How long a session lives that is not refreshed." default:"720h" group:"Accounts"`
	DuplicateLogin       string        `help:"What happens to a login of somebody who is online: it is rejected, replaces the other, or is allowed beside it (${enum})." enum:"reject,replace,allow" default:"reject" group:"Accounts"`
	MaxSessionsPerUser   int           `help:"Sessions a user may have online at once, on all servers together, if --duplicate-login=allow; 0 for no limit." default:"0" group:"Accounts"`
	LoginAttemptsPerHour int           `help:"Wrong passwords that may be given for an account in an hour, on all servers together; 0 for no limit." default:"20" group:"Accounts"`
	Registration         string        `help:"Whether strangers may make accounts (${enum})." enum:"open,closed" default:"open" group:"Accounts"`
	UsersFile            string        `help:"File of accounts to make at start: lines of user:password or user:<bcrypt hash>, with :moderator or :admin at the end for a role." placeholder:"FILE" group:"Accounts"`
	DemoUsers            bool          `help:"Make the accounts alice/password123, bob/letmein and dave/123456." group:"Accounts"`

	DefaultRoom  string        `help:"Room of WebSocket clients that know no rooms." default:"general" group:"Chat"`
	HistoryCount int           `help:"Messages kept a room." default:"1000" group:"Chat"`
	HistoryAge   time.Duration `help:"How long the messages of a room that fell silent are kept." default:"168h" group:"Chat"`

	MaxMessageBytes          int      `help:"Longest message, in bytes." default:"4096" group:"Limits"`
	MessagesPer10s           int      `name:"messages-per-10s" env:"CHATSERVER_MESSAGES_PER_10S" help:"Messages a connection may send in 10 seconds before it is closed, and a user by HTTP calls to all servers together; 0 for no limit." default:"20" group:"Limits"`
	RequestsPerHour          int      `help:"Calls of /register, /login and /logout, and logins at terminals, that an address may make in an hour, on all servers together; 0 for no limit." default:"200" group:"Limits"`
	AuthRequestsPerMinute    int      `help:"Calls of /api that take a password which an address may make in a minute, on all servers together; 0 for no limit." default:"10" group:"Limits"`
	APIRequestsPerMinute     int      `name:"api-requests-per-minute" env:"CHATSERVER_API_REQUESTS_PER_MINUTE" help:"Other calls of /api that an address may make in a minute, on all servers together; 0 for no limit." default:"120" group:"Limits"`
	MaxConnectionsPerAddress int      `help:"Connections an address may have to this server; 0 for no limit." default:"0" group:"Limits"`
	TrustedProxies           []string `help:"Addresses and CIDRs of proxies whose X-Forwarded-For is believed." placeholder:"CIDR" group:"Limits"`
	AllowedOrigins           []string `help:"Web pages of other hosts that may use this server, like https://app.example.com." placeholder:"ORIGIN" group:"Limits"`

	VAPIDKeyFile      string `name:"vapid-key-file" help:"Private key (P-256, PEM) by which push services know this service: with it, browsers that subscribe are notified while their users are away. All servers need the same." placeholder:"FILE" group:"Notifications"`
	VAPIDContact      string `name:"vapid-contact" help:"How push services reach you: a mailto: or https: URL." placeholder:"URL" group:"Notifications"`
	PushAllowPrivate  bool   `help:"Let browsers subscribe with push services at private addresses. For tests: users could have the server call what is behind its firewall." group:"Notifications"`
	WebhookURL        string `name:"webhook-url" help:"Where notifications for users who are away are posted: https, or http on this machine." placeholder:"URL" group:"Notifications"`
	WebhookSecretFile string `help:"Secret that webhook calls are signed with: whsec_ and base64, or at least 24 bytes as they are." placeholder:"FILE" group:"Notifications"`
	NotifyText        bool   `help:"Put the text of messages into notifications, where push services keep them encrypted and the webhook reads them." group:"Notifications"`
	NotifyTries       int    `help:"How often a notification is tried before it is given up: 12 take about 40 minutes." default:"12" group:"Notifications"`

	OTLPEndpoint string  `name:"otlp-endpoint" env:"CHATSERVER_OTLP_ENDPOINT,OTEL_EXPORTER_OTLP_ENDPOINT" help:"URL of an OpenTelemetry collector to send traces to, by OTLP over HTTP, like http://collector:4318. Its headers, timeout and certificates are read from the variables OTEL_EXPORTER_OTLP_*." placeholder:"URL" group:"Telemetry"`
	TraceRatio   float64 `help:"Share of the traces that begin here to send, from 0 to 1. Those of a trusted proxy are sent if the proxy sends them." default:"0.1" group:"Telemetry"`
	SentryDSN    string  `name:"sentry-dsn" env:"CHATSERVER_SENTRY_DSN,SENTRY_DSN" help:"Where to report what the log tells as an error to Sentry. GET /debug-sentry then makes one, to try it." placeholder:"URL" group:"Telemetry"`

	DrainWindow time.Duration `help:"After SIGTERM, how long clients are spread over while they are sent to other servers." default:"20s" group:"Running"`
	LogLevel    slog.Level    `help:"Least severe messages to log: debug, info, warn or error. It can be changed while the server runs: see docs/operations.md." default:"info" group:"Running"`
	LogFormat   string        `help:"How to write the log (${enum}); auto is text with --dev, else json." enum:"auto,json,text" default:"auto" group:"Running"`
	NodeID      string        `help:"Name of this server, which no other running one has. Default: the host's name." placeholder:"NAME" group:"Running"`
}

func (f flags) config(log *slog.Logger, level *slog.LevelVar) (chatserver.Config, error) {
	node, err := f.node()
	if err != nil {
		return chatserver.Config{}, err
	}
	redis := f.Redis
	if len(redis) == 0 && !f.Dev {
		redis = []string{"redis://127.0.0.1:6379"}
	}
	return chatserver.Config{
		Version: version, NodeID: node,
		Listen: f.Listen, LineListen: f.LineListen, AdminListen: f.AdminListen,
		Plaintext: f.Plaintext, PlaintextExposed: f.PlaintextExposed,
		Redis:      chatserver.Redis{URLs: redis, UsernameFile: f.RedisUsernameFile, PasswordFile: f.RedisPasswordFile, CAFile: f.RedisCAFile},
		Durability: f.Durability, DurabilityReplicas: f.DurabilityReplicas,
		TLS:            chatserver.KeyFiles{Cert: f.TLSCertFile, Key: f.TLSKeyFile},
		LineTLS:        chatserver.KeyFiles{Cert: f.LineTLSCertFile, Key: f.LineTLSKeyFile},
		TokenKeysDir:   f.TokenKeysDir,
		ClusterID:      f.ClusterID,
		AccessTokenTTL: f.AccessTokenTTL, PlainTokenTTL: f.PlainTokenTTL, RefreshTokenTTL: f.RefreshTokenTTL,
		DuplicateLogin: f.DuplicateLogin, MaxSessions: f.MaxSessionsPerUser, RegistrationOpen: f.Registration == "open",
		LoginAttemptsPerHour: f.LoginAttemptsPerHour,
		UsersFile:            f.UsersFile, DemoUsers: f.DemoUsers || f.Dev,
		DefaultRoom: f.DefaultRoom, HistoryCount: f.HistoryCount, HistoryAge: f.HistoryAge,
		MaxMessageBytes: f.MaxMessageBytes, MessagesPer10s: f.MessagesPer10s,
		RequestsPerHour: f.RequestsPerHour, AuthPerMinute: f.AuthRequestsPerMinute, APIPerMinute: f.APIRequestsPerMinute,
		ConnectionsPerAddress: f.MaxConnectionsPerAddress,
		TrustedProxies:        f.TrustedProxies, AllowedOrigins: f.AllowedOrigins,
		Notify: notify.Config{
			VAPIDKeyFile: f.VAPIDKeyFile, VAPIDContact: f.VAPIDContact, AllowPrivate: f.PushAllowPrivate,
			WebhookURL: f.WebhookURL, WebhookSecretFile: f.WebhookSecretFile,
			Text: f.NotifyText, Tries: f.NotifyTries,
		},
		Traces:       tracing.Options{Endpoint: f.OTLPEndpoint, Ratio: f.TraceRatio},
		ErrorTracker: f.SentryDSN != "",
		DrainWindow:  f.DrainWindow,
		Dev:          f.Dev, Log: log, LogLevel: level,
	}, nil
}

// textLog says whether people read the log, and not machines that collect it.
func (f flags) textLog() bool {
	return f.LogFormat == "text" || f.LogFormat == "auto" && f.Dev
}

func (f flags) node() (string, error) {
	if f.NodeID != "" {
		return f.NodeID, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the host's name: %w; set --node-id", err)
	}
	if f.Dev {
		// Two of them on one machine are different servers.
		host = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	return host, nil
}
