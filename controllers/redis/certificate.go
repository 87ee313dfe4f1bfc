// Package redis tends running Redis servers: it observes one, plans what is to be done,
// and does it. It knows Redis and nothing of Kubernetes.
//
// Today there is one thing to do: to make Redis serve its renewed certificate.
package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// timeout bounds one visit to a Redis server.
const timeout = 5 * time.Second

// Server is a Redis server and the certificate that it should serve.
type Server struct {
	// ID tells servers apart.
	ID string
	// Address is host:port; the host is what the certificate must be for.
	Address string
	// Username and Password are those of a user who may CONFIG SET the TLS files.
	Username, Password string
	// CA and Certificate are PEM. The certificate is the one just issued.
	CA, Certificate []byte
	// CertFile and KeyFile are where Redis reads certificate and key.
	CertFile, KeyFile string
}

// Outcome is how a visit went.
type Outcome int

const (
	// Serving says that Redis serves the certificate already.
	Serving Outcome = iota
	// Reloaded says that Redis serves it since this visit.
	Reloaded
	// Waiting says that Redis has read its files again, and they still hold another one:
	// the kubelet takes up to a minute or two to bring a changed Secret to a pod.
	Waiting
)

// CertificateReloader makes Redis servers serve the certificates just issued for them.
type CertificateReloader interface {
	// Ensure visits the server unless it is known to serve its certificate.
	Ensure(ctx context.Context, s Server) (Outcome, error)
	// Forget drops what is known of a server that is gone.
	Forget(id string)
}

// Reloader is the CertificateReloader for real servers. Its methods may be called
// concurrently.
type Reloader struct {
	mu sync.Mutex
	// serving is guarded by mu. It has the serial of the certificate that each server
	// was last seen to serve.
	serving map[string]string
}

// NewReloader returns a Reloader that knows no server yet.
func NewReloader() *Reloader { return &Reloader{serving: map[string]string{}} }

// Ensure compares what Redis serves with what was issued, and has Redis read its files
// again where they differ. Setting the names of the files to what they are is how Redis
// is told to; connections that are open stay open.
func (r *Reloader) Ensure(ctx context.Context, s Server) (Outcome, error) {
	want, err := parse(s.Certificate)
	if err != nil {
		return Waiting, fmt.Errorf("reading the certificate issued for Redis %s: %w", s.ID, err)
	}
	if r.knownToServe(s.ID, want) {
		return Serving, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	if served, err := servedBy(ctx, s); err != nil {
		return Waiting, err
	} else if served.Equal(want) {
		r.note(s.ID, want)
		return Serving, nil
	}
	if err := reload(ctx, s); err != nil {
		return Waiting, err
	}
	served, err := servedBy(ctx, s)
	if err != nil || !served.Equal(want) {
		return Waiting, err
	}
	r.note(s.ID, want)
	return Reloaded, nil
}

// Forget drops what is known of a server that is gone.
func (r *Reloader) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.serving, id)
}

func (r *Reloader) knownToServe(id string, c *x509.Certificate) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.serving[id] == c.SerialNumber.String()
}

func (r *Reloader) note(id string, c *x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving[id] = c.SerialNumber.String()
}

// servedBy is the certificate that the server shows.
func servedBy(ctx context.Context, s Server) (*x509.Certificate, error) {
	config, err := tlsConfig(s)
	if err != nil {
		return nil, err
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, fmt.Errorf("looking at the certificate of Redis %s at %s: %w", s.ID, s.Address, err)
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

func reload(ctx context.Context, s Server) error {
	config, err := tlsConfig(s)
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{
		Addr: s.Address, Username: s.Username, Password: s.Password, TLSConfig: config,
		PoolSize: 1, MaxRetries: -1, DisableIdentity: true,
	})
	defer func() { _ = client.Close() }()
	if err := client.Do(ctx, "CONFIG", "SET", "tls-cert-file", s.CertFile, "tls-key-file", s.KeyFile).Err(); err != nil {
		return fmt.Errorf("asking Redis %s to read its certificate again: %w", s.ID, err)
	}
	return nil
}

func tlsConfig(s Server) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return nil, fmt.Errorf("address of Redis %s: %w", s.ID, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.CA) {
		return nil, fmt.Errorf("redis %s: its Secret has no certificate of an authority", s.ID)
	}
	return &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12}, nil
}

func parse(certificate []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
