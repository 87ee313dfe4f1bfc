//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chatcluster/chatcluster/chatserver/auth"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
	"github.com/chatcluster/chatcluster/chatserver/store"
)

// world is what all measurements share: a Redis, a load, and what servers need.
type world struct {
	dir        string
	chatserver string // the program
	against    string // another build of it, to compare with; or ""
	redis      *redistest.Redis
	store      *store.Store
	tokens     *auth.Tokens
	load       *rpc.Client
	loadPID    int
	stops      []func()

	saturating float64 // messages a second that the fan-out's room takes; 0: not measured yet
}

const clusterID = "bench"

func newWorld(ctx context.Context, chatserver, against string) (w *world, err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	w = &world{dir: dir, chatserver: chatserver, against: against, stops: []func(){func() { _ = os.RemoveAll(dir) }}}
	for _, step := range []func(context.Context) error{w.build, w.writeFiles, w.startRedis, w.startLoad} {
		if err := step(ctx); err != nil {
			w.stop()
			return nil, err
		}
	}
	return w, nil
}

func (w *world) stop() {
	for i := len(w.stops) - 1; i >= 0; i-- {
		w.stops[i]()
	}
}

// build makes the program as releases are made.
func (w *world) build(ctx context.Context) error {
	if w.chatserver != "" {
		return nil
	}
	w.chatserver = filepath.Join(w.dir, "chatserver")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", w.chatserver, "github.com/chatcluster/chatcluster/cmd/chatserver")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the chat server: %w\n%s", err, out)
	}
	return nil
}

// writeFiles makes the keys of tokens and a certificate.
func (w *world) writeFiles(context.Context) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err1 := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	key, err2 := x509.MarshalPKCS8PrivateKey(private)
	if err := errors.Join(err1, err2, os.Mkdir(w.file("keys"), 0o700)); err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"keys/k1": []byte(rand.Text() + rand.Text()), "keys/current": []byte("k1"),
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(w.file(name), text, 0o600); err != nil {
			return err
		}
	}
	keys, err := auth.LoadKeys(w.file("keys"))
	if err != nil {
		return err
	}
	w.tokens = auth.NewTokens(keys, clusterID)
	return nil
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) startRedis(ctx context.Context) (err error) {
	if w.redis, err = redistest.StartStandalone(w.dir); err != nil {
		return err
	}
	w.stops = append(w.stops, w.redis.Stop)
	if w.store, err = store.Open(ctx, store.Options{URLs: w.redis.URLs}); err != nil {
		return err
	}
	w.stops = append(w.stops, func() { _ = w.store.Close() })
	return nil
}

func (w *world) startLoad(context.Context) error {
	p, client, err := startLoad()
	if err != nil {
		return err
	}
	w.load, w.loadPID = client, p.pid()
	w.stops = append(w.stops, p.stop)
	return nil
}

// server is a running chat server, or the baseline.
type server struct {
	*process
	target Target
	admin  string
	empty  int // bytes resident before anybody connected
}

// startChatServer runs the real program.
func (w *world) startChatServer(name string, useTLS bool, flags ...string) (*server, error) {
	return w.startChatServerOf(w.chatserver, name, useTLS, flags...)
}

func (w *world) startChatServerOf(program, name string, useTLS bool, flags ...string) (*server, error) {
	args := []string{
		"--node-id=" + name, "--cluster-id=" + clusterID, "--redis=" + w.redis.URLs[0],
		"--listen=127.0.0.1:0", "--line-listen=", "--admin-listen=127.0.0.1:0",
		"--token-keys-dir=" + w.file("keys"), "--messages-per-10s=0", "--requests-per-hour=0",
	}
	if useTLS {
		args = append(args, "--tls-cert-file="+w.file("tls.crt"), "--tls-key-file="+w.file("tls.key"))
	} else {
		args = append(args, "--plaintext")
	}
	return w.startServer(useTLS, program, append(args, flags...)...)
}

func (w *world) startBaseline() (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return w.startServer(false, self, "baseline")
}

func (w *world) startServer(useTLS bool, program string, args ...string) (*server, error) {
	p, at, err := startServer(program, args...)
	if err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // what starts up, has
	return &server{process: p, target: Target{at.HTTPS, useTLS}, admin: at.Admin, empty: resident(p.pid())}, nil
}

// members makes users with a login each, without the cost of their passwords.
func (w *world) members(ctx context.Context, name string, count int, room func(int) string) ([]Member, error) {
	members := make([]Member, count)
	var all errgroup.Group
	all.SetLimit(32)
	for i := range members {
		all.Go(func() error {
			user := fmt.Sprintf("%s_%05d", name, i)
			now := time.Now()
			login := store.Login{SID: rand.Text(), Created: now, Used: now, Expires: now.Add(24 * time.Hour)}
			token, _, err := w.tokens.Issue(user, login.SID, 24*time.Hour)
			if err != nil {
				return err
			}
			members[i] = Member{user, token, room(i)}
			_, err = w.store.AddLogin(ctx, user, "", login)
			return err
		})
	}
	return members, all.Wait()
}

// everyone is in one room.
func everyone(room string) func(int) string { return func(int) string { return room } }

// connect has the load connect members, and fails unless all could.
func (w *world) connect(group string, to *server, members []Member) error {
	return connect(w.load, group, to, members)
}

func connect(load *rpc.Client, group string, to *server, members []Member) error {
	var c Connected
	if err := load.Call("Load.Connect", ConnectArgs{group, to.target, members, 64}, &c); err != nil {
		return err
	}
	if c.Count != len(members) {
		return fmt.Errorf("%d of %d connected to %s: %q\n%s", c.Count, len(members), group, c.Failed, to.logs())
	}
	return nil
}

func (w *world) disconnect(group string) error {
	return w.load.Call("Load.Disconnect", group, nil)
}

// publish has a group speak and measures the server meanwhile.
func (w *world) publish(to *server, args PublishArgs) (measured, error) {
	before := processorTime(to.pid())
	var r Report
	if err := w.load.Call("Load.Publish", args, &r); err != nil {
		return measured{}, fmt.Errorf("%w\n%s", err, to.logs())
	}
	return measured{r, processorTime(to.pid()) - before}, nil
}

// measured is a run as the load saw it, and what it cost the server.
type measured struct {
	Report
	serverCPU time.Duration
}

// perCoreSecond is deliveries for each second of a core that the server used.
func (m measured) perCoreSecond() float64 { return float64(m.Deliveries.Count) / m.serverCPU.Seconds() }

// perSecond is deliveries for each second of the run.
func (m measured) perSecond() float64 { return float64(m.Deliveries.Count) / m.Took.Seconds() }

// saturated says that the server did not keep up: the last deliveries came well
// after the last message was due, or many came late.
func (m measured) saturated(sending time.Duration) bool {
	return m.Took > sending+sending/20+200*time.Millisecond || m.Deliveries.P99 > time.Second || m.Deliveries.Count < m.Expected
}
