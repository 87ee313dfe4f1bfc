package chatserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// The tests of this package run the real program, as processes, against real
// Redis servers, and talk to it as its users do.

// patience is how long a test waits for what has to happen.
const patience = 60 * time.Second

const (
	clusterID = "tests/acme"
	tokenKey  = "a secret that only the tests know, long enough"
)

var (
	buildFlags []string // of the program under test
	program    string   // its path
	files      string   // directory of the certificate and the token keys
	roots      = x509.NewCertPool()
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "chatserver")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		defer stopWorlds()
		files = dir
		if err := prepare(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// prepare builds the program and writes the files it needs.
func prepare(dir string) error {
	program = filepath.Join(dir, "chatserver")
	args := append([]string{"build"}, buildFlags...)
	build := exec.Command("go", append(args, "-o", program, "../cmd/chatserver")...)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		return err
	}
	cert, key, err := newCertificate("first")
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(cert)
	for name, text := range map[string][]byte{
		"keys/k1": []byte(tokenKey), "keys/current": []byte("k1"), "tls.crt": cert, "tls.key": key,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// newCertificate makes a certificate for this machine, which is its own CA.
func newCertificate(name string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

func clientTLS() *tls.Config { return &tls.Config{RootCAs: roots} }

// server is a running chat server.
type server struct {
	https, line, admin string // host:port

	cmd    *exec.Cmd
	exited chan struct{} // closed once it has ended
	mu     sync.Mutex
	log    bytes.Buffer
}

func (s *server) url() string { return "https://" + s.https }

// start runs a server on r and waits until it is ready.
func start(r *redistest.Redis, name string, flags ...string) (*server, error) {
	args := []string{
		"--node-id=" + name, "--cluster-id=" + clusterID,
		"--listen=127.0.0.1:0", "--line-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0",
		"--tls-cert-file=" + filepath.Join(files, "tls.crt"), "--tls-key-file=" + filepath.Join(files, "tls.key"),
		"--token-keys-dir=" + filepath.Join(files, "keys"),
		"--messages-per-10s=0", "--requests-per-hour=0", "--auth-requests-per-minute=0", "--api-requests-per-minute=0", "--history-count=20000", "--drain-window=2s",
		"--log-level=debug",
	}
	for _, url := range r.URLs {
		args = append(args, "--redis="+url)
	}
	return launch(exec.Command(program, append(args, flags...)...))
}

// launch runs a server and waits until it is ready.
func launch(cmd *exec.Cmd) (*server, error) {
	s := &server{cmd: cmd, exited: make(chan struct{})}
	s.cmd.SysProcAttr = dieWithTests()
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	serving := make(chan struct{})
	go s.follow(bufio.NewScanner(stderr), serving)
	select {
	case <-serving:
	case <-s.exited:
		return nil, fmt.Errorf("the server ended before it served:\n%s", s.logs())
	case <-time.After(patience):
		s.kill()
		return nil, fmt.Errorf("the server does not serve:\n%s", s.logs())
	}
	return s, s.awaitReady()
}

// follow keeps the log, reads the addresses from it, and waits for the end.
func (s *server) follow(lines *bufio.Scanner, serving chan struct{}) {
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		s.mu.Lock()
		s.log.Write(lines.Bytes())
		s.log.WriteByte('\n')
		s.mu.Unlock()
		var entry struct{ Msg, HTTPS, Line, Admin string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
			s.https, s.line, s.admin = entry.HTTPS, entry.Line, entry.Admin
			close(serving)
		}
	}
	_ = s.cmd.Wait()
	close(s.exited)
}

func (s *server) logs() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *server) awaitReady() error {
	deadline := time.Now().Add(patience)
	for {
		resp, err := http.Get("http://" + s.admin + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s:\n%s", patience, s.logs())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// kill ends the server as a crash does: with no chance to do anything.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// terminate asks the server to go, as Kubernetes does, and returns its exit code.
func (s *server) terminate() int {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.exited
	return s.cmd.ProcessState.ExitCode()
}

// run starts a server for one test.
func run(t *testing.T, r *redistest.Redis, name string, flags ...string) *server {
	t.Helper()
	s, err := start(r, name, flags...)
	if err != nil {
		t.Fatal(err)
	}
	s.cleanup(t)
	return s
}

func (s *server) cleanup(t *testing.T) {
	t.Cleanup(func() {
		s.kill()
		s.check(t)
	})
}

// check fails the test if the server noticed a defect of its own.
func (s *server) check(t *testing.T) {
	log := s.logs()
	for _, defect := range []string{"DATA RACE", "ended by a defect", "panic:"} {
		if i := strings.Index(log, defect); i >= 0 {
			t.Errorf("the server's log tells of a defect:\n%s", log[max(0, i-200):min(len(log), i+4000)])
		}
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", s.https, log[max(0, len(log)-8000):])
	}
}

// world is a Redis with two servers on it, shared by the tests that harm
// neither. Each test uses users and rooms of its own.
type world struct {
	redis    *redistest.Redis
	store    *store.Store
	one, two *server
	dir      string
}

var worlds = struct {
	sync.Mutex
	m map[string]*world
}{m: map[string]*world{}}

// each runs a test on two servers that share one Redis, and on two that share a
// Redis Cluster.
func each(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	for name, startRedis := range map[string]func(string) (*redistest.Redis, error){
		"Standalone": redistest.StartStandalone, "Cluster": redistest.StartCluster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, err := sharedWorld(name, startRedis)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if t.Failed() {
					w.one.check(t)
					w.two.check(t)
				}
			})
			f(t, w)
		})
	}
}

func sharedWorld(name string, startRedis func(string) (*redistest.Redis, error)) (*world, error) {
	worlds.Lock()
	defer worlds.Unlock()
	if w := worlds.m[name]; w != nil {
		return w, nil
	}
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		return nil, err
	}
	r, err := startRedis(dir)
	if err != nil {
		return nil, err
	}
	w := &world{redis: r, dir: dir}
	worlds.m[name] = w
	if w.store, err = openStore(r); err != nil {
		return nil, err
	}
	if w.one, err = start(r, "one", append(pushFlags(), "--demo-users", "--allowed-origins=https://app.example.com")...); err != nil {
		return nil, err
	}
	w.two, err = start(r, "two", "--demo-users")
	return w, err
}

func stopWorlds() {
	for _, w := range worlds.m {
		for _, s := range []*server{w.one, w.two} {
			if s != nil {
				s.kill()
			}
		}
		if w.store != nil {
			_ = w.store.Close()
		}
		w.redis.Stop()
		_ = os.RemoveAll(w.dir)
	}
}

// waiting bounds a test's waits.
func waiting(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

const password = "correct horse"

// newUser makes an account whose name begins with name. The hash of its password
// is a cheap one: what a dear one costs is not under test, and would be most of
// the time that the tests take.
func newUser(t *testing.T, st *store.Store, name string) string {
	t.Helper()
	user := unique(name)
	if err := st.CreateUser(waiting(t), user, cheapHash()); err != nil {
		t.Fatal(err)
	}
	return user
}

var cheapHash = sync.OnceValue(func() string {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return string(hash)
})

// openStore is for the tests' own use of r.
func openStore(r *redistest.Redis) (*store.Store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return store.Open(ctx, store.Options{URLs: r.URLs, Cluster: r.IsCluster})
}

// login gives a token of a user made by newUser.
func login(t *testing.T, s *server, user string) string {
	t.Helper()
	token, err := client.NewAccount(s.url(), clientTLS()).Login(waiting(t), user, password)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func unique(name string) string { return name + "_" + strings.ToLower(rand.Text()[:8]) }

// terminal connects to the line protocol.
func terminal(t *testing.T, s *server) *client.Line {
	t.Helper()
	l, err := client.DialLine(waiting(t), s.line, clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func say(t *testing.T, l *client.Line, line string) {
	t.Helper()
	if err := l.Say(line); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, l *client.Line, text string) string {
	t.Helper()
	line, err := l.Expect(waiting(t), text)
	if err != nil {
		t.Fatal(err)
	}
	return line
}
