package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const dialTimeout = 5 * time.Second

// connect makes a client; nothing is dialled before its first command.
func connect(o Options) (redis.UniversalClient, error) {
	if len(o.URLs) == 0 {
		return nil, errors.New("no Redis URL given: name at least one, such as redis://127.0.0.1:6379")
	}
	cluster := o.Cluster || len(o.URLs) > 1
	var addrs []string
	var first *redis.Options
	for i, raw := range o.URLs {
		opt, asCluster, err := parseURL(raw)
		if err != nil {
			return nil, fmt.Errorf("URL %d of Redis: %w", i+1, err)
		}
		cluster = cluster || asCluster
		addrs = append(addrs, opt.Addr)
		if first == nil {
			first = opt
		}
	}
	if first.TLSConfig != nil {
		first.Dialer = tlsDialer(first.TLSConfig, o.CAFile)
	}
	if o.UsernameFile != "" || o.PasswordFile != "" {
		first.CredentialsProviderContext = credentials(first.Username, first.Password, o.UsernameFile, o.PasswordFile)
	}
	if cluster {
		return redis.NewClusterClient(clusterOptions(first, addrs)), nil
	}
	return redis.NewClient(tune(first)), nil
}

// parseURL reads one Redis URL. Its errors never repeat the URL: it may hold a password.
func parseURL(raw string) (opt *redis.Options, cluster bool, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, false, err
	}
	q := u.Query()
	cluster = q.Get("cluster") == "true"
	q.Del("cluster")
	u.RawQuery = q.Encode()
	opt, err = redis.ParseURL(u.String())
	return opt, cluster, err
}

// tune sets what a URL does not say.
func tune(o *redis.Options) *redis.Options {
	o.Protocol = 2 // nothing here needs RESP3, which costs a peek at every reply
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.ContextTimeoutEnabled = true
	o.DialTimeout = dialTimeout
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = 64<<10, 64<<10
	return o
}

func clusterOptions(o *redis.Options, addrs []string) *redis.ClusterOptions {
	o = tune(o)
	return &redis.ClusterOptions{
		Addrs:                      addrs,
		Username:                   o.Username,
		Password:                   o.Password,
		CredentialsProviderContext: o.CredentialsProviderContext,
		Dialer:                     o.Dialer,
		TLSConfig:                  o.TLSConfig,
		Protocol:                   o.Protocol,
		DisableIdentity:            o.DisableIdentity,
		MaintNotificationsConfig:   o.MaintNotificationsConfig,
		ContextTimeoutEnabled:      o.ContextTimeoutEnabled,
		DialTimeout:                o.DialTimeout,
		ReadTimeout:                o.ReadTimeout,
		WriteTimeout:               o.WriteTimeout,
		PoolSize:                   o.PoolSize,
		PipelineReadBufferSize:     o.PipelineReadBufferSize,
		PipelineWriteBufferSize:    o.PipelineWriteBufferSize,
	}
}

// tlsDialer verifies each server by the host name that was dialled (the nodes of a cluster
// have names of their own), against the CAs that caFile holds at that moment.
func tlsDialer(config *tls.Config, caFile string) func(context.Context, string, string) (net.Conn, error) {
	config = config.Clone()
	config.ServerName = ""
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c := config.Clone()
		if caFile != "" {
			pool, err := readCAs(caFile)
			if err != nil {
				return nil, err
			}
			c.RootCAs = pool
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: c}
		return d.DialContext(ctx, network, addr)
	}
}

func readCAs(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA of Redis: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the CA of Redis: %s holds no PEM certificate", file)
	}
	return pool, nil
}

// credentials reads the files for each new connection; without a file the URL's value holds.
func credentials(user, password, userFile, passwordFile string) func(context.Context) (string, string, error) {
	return func(context.Context) (string, string, error) {
		u, err := fileOr(userFile, user)
		if err != nil {
			return "", "", fmt.Errorf("read the user name for Redis: %w", err)
		}
		p, err := fileOr(passwordFile, password)
		if err != nil {
			return "", "", fmt.Errorf("read the password for Redis: %w", err)
		}
		return u, p, nil
	}
}

func fileOr(file, otherwise string) (string, error) {
	if file == "" {
		return otherwise, nil
	}
	b, err := os.ReadFile(file)
	return strings.TrimSpace(string(b)), err
}
