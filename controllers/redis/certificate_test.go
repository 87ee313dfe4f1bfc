package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatcluster/chatcluster/controllers/resources"
)

// A real redis-server with the users that the operator gives it.

func TestRenewedCertificateIsServedWithoutARestart(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	chat := s.client(t, "chat", "chat-password")
	if err := chat.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r := NewReloader()
	if outcome, err := r.Ensure(t.Context(), s.Server); err != nil || outcome != Serving {
		t.Fatalf("first visit: %v, %v", outcome, err)
	}

	// The Secret is renewed; the kubelet has not brought it to the pod yet.
	certificate, key := s.authority.issue(t)
	s.Certificate = certificate
	if outcome, err := r.Ensure(t.Context(), s.Server); err != nil || outcome != Waiting {
		t.Fatalf("before the files changed: %v, %v", outcome, err)
	}
	write(t, s.CertFile, certificate)
	write(t, s.KeyFile, key)
	if outcome, err := r.Ensure(t.Context(), s.Server); err != nil || outcome != Reloaded {
		t.Fatalf("after the files changed: %v, %v", outcome, err)
	}
	if got, err := chat.Get(t.Context(), "key").Result(); err != nil || got != "value" {
		t.Errorf("the connection that was open answers %q, %v", got, err)
	}
	if outcome, err := r.Ensure(t.Context(), s.Server); err != nil || outcome != Serving {
		t.Errorf("last visit: %v, %v", outcome, err)
	}
}

func TestAServerThatIsKnownToServeIsNotVisited(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	r := NewReloader()
	if _, err := r.Ensure(t.Context(), s.Server); err != nil {
		t.Fatal(err)
	}
	s.Address = "127.0.0.1:1"
	if outcome, err := r.Ensure(t.Context(), s.Server); err != nil || outcome != Serving {
		t.Errorf("it was visited: %v, %v", outcome, err)
	}
	r.Forget(s.ID)
	if _, err := r.Ensure(t.Context(), s.Server); err == nil {
		t.Error("it was forgotten, and was not visited")
	}
}

func TestAnotherAuthoritysServerIsNotTrusted(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	s.CA = newAuthority(t).pem
	if _, err := NewReloader().Ensure(t.Context(), s.Server); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("the visit ended with %v", err)
	}
}

// The commands that a chat server needs are allowed, whichever way its client asks.
func TestChatUserMayDoItsWork(t *testing.T) {
	t.Parallel()
	chat := startRedis(t).client(t, "chat", "chat-password")
	for _, command := range []string{
		"PING", "HELLO 3", "CLIENT SETNAME x", "CLIENT ID", "INFO server", "COMMAND INFO spublish", "COMMAND",
		"SET k v", "GET k", "HSET h f v", "HGETALL h", "SADD s m", "SMEMBERS s", "ZADD z 1 m", "ZRANGE z 0 -1", "RPUSH l a", "LRANGE l 0 -1",
		"EXPIRE k 9", "PEXPIRE k 9000", "DEL k", "SCAN 0", "TIME", "WAIT 0 1",
		"XADD x 1-0 m v", "XRANGE x - +", "XREVRANGE x + -", "XLEN x", "XTRIM x MAXLEN 1", "XINFO STREAM x",
		"PUBLISH c m", "SPUBLISH c m", "PUBSUB NUMSUB c", "PUBSUB SHARDNUMSUB c",
		"EVAL return(1) 0", "SCRIPT EXISTS 0000000000000000000000000000000000000000", "FUNCTION LIST",
		"MULTI", "EXEC",
	} {
		args := make([]any, 0, 4)
		for _, word := range strings.Fields(command) {
			args = append(args, word)
		}
		if err := chat.Do(t.Context(), args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Errorf("%s: %v", command, err)
		}
	}
	for _, subscribe := range []func(context.Context, ...string) *redis.PubSub{chat.Subscribe, chat.SSubscribe} {
		ps := subscribe(t.Context(), "c")
		if _, err := ps.Receive(t.Context()); err != nil {
			t.Errorf("subscribing: %v", err)
		}
		_ = ps.Close()
	}
	if err := redis.NewScript("return redis.call('SET', KEYS[1], 'v')").Run(t.Context(), chat, []string{"k"}).Err(); err != nil {
		t.Errorf("a script: %v", err)
	}
}

func TestNobodyMayDoMoreThanItsWork(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	for user, commands := range map[string][]string{
		"chat":     {"CONFIG GET *", "FLUSHALL", "SHUTDOWN", "ACL LIST", "KEYS *", "REPLICAOF NO ONE", "MONITOR", "SAVE"},
		"operator": {"GET k", "SET k v", "FLUSHALL", "SHUTDOWN", "ACL LIST", "CONFIG REWRITE", "SUBSCRIBE c"},
		"probe":    {"GET k", "CONFIG GET *", "PUBLISH c m", "INFO"},
		"default":  {"PING"},
	} {
		client := s.client(t, user, user+"-password")
		for _, command := range commands {
			args := make([]any, 0, 3)
			for _, word := range strings.Fields(command) {
				args = append(args, word)
			}
			err := client.Do(t.Context(), args...).Err()
			if err == nil || !strings.Contains(err.Error(), "NOPERM") && !strings.Contains(err.Error(), "WRONGPASS") {
				t.Errorf("%s: %s was answered with %v", user, command, err)
			}
		}
	}
	if err := s.client(t, "chat", "wrong").Ping(t.Context()).Err(); err == nil {
		t.Error("a wrong password was taken")
	}
}

// The probes run as they do in the pod: redis-cli, without a password.
func TestProbesNeedNoSecret(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	_, port, _ := net.SplitHostPort(s.Address)
	out, err := exec.CommandContext(t.Context(), "redis-cli", "-e", "-h", "127.0.0.1", "-p", port, "--tls", "--cacert", s.caFile,
		"--no-auth-warning", "--user", "probe", "--pass", "none", "ping").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "PONG" {
		t.Errorf("the probe answered %q, %v", out, err)
	}
}

type testServer struct {
	Server
	authority authority
	caFile    string
}

func startRedis(t *testing.T) *testServer {
	t.Helper()
	dir := t.TempDir()
	a := newAuthority(t)
	certificate, key := a.issue(t)
	s := &testServer{authority: a, caFile: filepath.Join(dir, "ca.crt"), Server: Server{
		ID: t.Name(), Username: resources.RedisUserOperator, Password: "operator-password",
		CA: a.pem, Certificate: certificate,
		CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
	}}
	acl := filepath.Join(dir, "users.acl")
	write(t, s.caFile, a.pem)
	write(t, s.CertFile, certificate)
	write(t, s.KeyFile, key)
	write(t, acl, resources.RedisACL(resources.Credentials{RedisPassword: "chat-password", OperatorPassword: "operator-password"}))

	// Another process may take the port in between.
	for range 10 {
		if s.start(t, dir, acl) {
			return s
		}
	}
	t.Fatal("redis-server does not start")
	return nil
}

// start tells whether the server runs.
func (s *testServer) start(t *testing.T, dir, acl string) bool {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Address = listener.Addr().String()
	_, port, _ := net.SplitHostPort(s.Address)
	_ = listener.Close()

	cmd := exec.Command("redis-server", "--dir", dir, "--port", "0", "--tls-port", port, "--bind", "127.0.0.1",
		"--tls-cert-file", s.CertFile, "--tls-key-file", s.KeyFile, "--tls-ca-cert-file", s.caFile,
		"--tls-auth-clients", "no", "--aclfile", acl, "--save", "")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting redis-server, which these tests need: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for {
		select {
		case <-ended:
			t.Logf("redis-server ended: %s", &out)
			return false
		case <-time.After(20 * time.Millisecond):
		}
		// Nobody else's server has a certificate of this test's authority.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := servedBy(ctx, s.Server)
		cancel()
		if err == nil {
			return true
		}
	}
}

func (s *testServer) client(t *testing.T, user, password string) *redis.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA)
	c := redis.NewClient(&redis.Options{
		Addr: s.Address, Username: user, Password: password, MaxRetries: -1, PoolSize: 3,
		TLSConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12},
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key, pemOf("CERTIFICATE", der)}
}

// issue returns certificate and key for 127.0.0.1.
func (a authority) issue(t *testing.T) ([]byte, []byte) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", keyDER)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
