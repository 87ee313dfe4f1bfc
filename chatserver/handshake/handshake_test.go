package handshake_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/handshake"
)

type conn struct {
	net.Conn
	handshake.Turn
}

func (c *conn) Write(b []byte) (int, error) {
	c.End()
	return c.Conn.Write(b)
}

func (c *conn) Close() error {
	c.End()
	return c.Conn.Close()
}

func certificate(t *testing.T) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

func TestHandshakesComputeFewAtATimeAndAllGetTheirTurn(t *testing.T) {
	t.Parallel()
	der, key := certificate(t)
	var computing, most atomic.Int64
	config := handshake.Config(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		n := computing.Add(1)
		defer computing.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(time.Millisecond) // stands in for the computing
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
	}})
	gate := handshake.NewGate(2)
	var all sync.WaitGroup
	for range 50 {
		near, far := net.Pipe()
		server := tls.Server(&conn{Conn: near, Turn: gate.Turn()}, config)
		client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
		t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
		all.Go(func() {
			if err := server.HandshakeContext(t.Context()); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if err := client.HandshakeContext(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := most.Load(); got != 2 {
		t.Errorf("%d handshakes computed at once, want 2", got)
	}
}

func TestClientThatStopsInItsHandshakeKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	der, key := certificate(t)
	config := handshake.Config(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	gate := handshake.NewGate(1)
	begin := func() (client net.Conn, done <-chan error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		client, err = net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		near, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server := tls.Server(&conn{Conn: near, Turn: gate.Turn()}, config)
		t.Cleanup(func() { _ = server.Close(); _ = client.Close() })
		ended := make(chan error, 1)
		go func() { ended <- server.HandshakeContext(t.Context()) }()
		return client, ended
	}
	// One says nothing at all; one says hello, and does not take the answer.
	_, _ = begin()
	stopped, _ := begin()
	hello := tls.Client(halfway{stopped, t.Context().Done()}, &tls.Config{InsecureSkipVerify: true})
	go func() { _ = hello.HandshakeContext(t.Context()) }()

	well, done := begin()
	if err := tls.Client(well, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// halfway is a connection on which nothing is heard.
type halfway struct {
	net.Conn
	end <-chan struct{}
}

func (h halfway) Read([]byte) (int, error) {
	<-h.end
	return 0, io.EOF
}
