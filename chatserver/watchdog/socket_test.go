package watchdog

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// pair is a watched connection over loopback and its other end.
func pair(t *testing.T, secure bool) (*Conn, net.Conn) {
	t.Helper()
	return ownedPair(t, secure, nil)
}

func ownedPair(t *testing.T, secure bool, o Owner) (*Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var near net.Conn = NewSocket(accepted)
	if secure {
		near = tls.Server(near, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
		far = tls.Client(far, &tls.Config{InsecureSkipVerify: true})
		shaken := make(chan error, 1)
		go func() { shaken <- near.(*tls.Conn).Handshake() }()
		if err := far.(*tls.Conn).Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
	}
	w := New(time.Minute)
	run(t, w)
	c := w.Watch(near, o)
	t.Cleanup(func() { _, _ = c.Close(), far.Close() })
	return c, far
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func eachKind(t *testing.T, f func(t *testing.T, secure bool)) {
	t.Parallel()
	for name, secure := range map[string]bool{"plaintext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, secure)
		})
	}
}

func TestTryWriteStopsWhereThePeerDoesNotReadAndLosesNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, secure bool) {
		c, far := pair(t, secure)
		var sent bytes.Buffer
		var left net.Buffers
		for i := 0; len(left) == 0; i++ {
			for range 3 {
				text := fmt.Appendf(nil, "message %06d %s;", i, bytes.Repeat([]byte("x"), 1000))
				sent.Write(text)
				left = append(left, text)
			}
			if err := c.TryWrite(&left); err != nil {
				t.Fatal(err)
			}
			if sent.Len() > 64<<20 {
				t.Fatal("it never stops")
			}
		}
		if err := c.TryWrite(&left); err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			t.Fatal("a connection that was full took more")
		}
		// The rest waits until the peer reads.
		written := make(chan error, 1)
		go func() {
			err := c.WriteBuffers(&left)
			written <- err
			_ = c.Close()
		}()
		got, err := io.ReadAll(far)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, sent.Bytes()) {
			t.Errorf("%d bytes came, not the %d that were sent, or others", len(got), sent.Len())
		}
	})
}

func TestWhatATryLeftUnsentGoesOutWithoutAnotherWrite(t *testing.T) {
	c, far := pair(t, true)
	var sent int
	for i := 0; !c.socket.full(); i++ {
		b := net.Buffers{bytes.Repeat([]byte("x"), chunk)}
		if err := c.TryWrite(&b); err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			sent += chunk
		}
	}
	if _, err := io.ReadFull(far, make([]byte, sent)); err != nil {
		t.Errorf("after all but the last bytes: %v", err)
	}
}

func TestAPeerThatIsGoneEndsTheTries(t *testing.T) {
	eachKind(t, func(t *testing.T, secure bool) {
		c, far := pair(t, secure)
		_ = far.Close()
		deadline := time.Now().Add(time.Minute)
		for time.Now().Before(deadline) {
			b := net.Buffers{[]byte("x")}
			if err := c.TryWrite(&b); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Error("writing to nobody goes on and on")
	})
}

func TestAWriteThatAnotherHoldsUpIsLeft(t *testing.T) {
	t.Parallel()
	c, _ := pair(t, false)
	c.mu.Lock()
	defer c.mu.Unlock()
	b := net.Buffers{[]byte("x")}
	if err := c.TryWrite(&b); err != nil || len(b) != 1 {
		t.Errorf("it left %d buffers, with %v; want it left alone", len(b), err)
	}
}
