package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/chatcluster/chatcluster/hack/internal/pki"
	"github.com/chatcluster/chatcluster/hack/router/table"
)

const (
	host       = "chat.example.com"
	serverName = "acme-server.chat.svc"
)

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func keyPair(t *testing.T, p pki.Pair) tls.Certificate {
	t.Helper()
	return must[tls.Certificate](t)(tls.X509KeyPair(p.CertPEM, p.KeyPEM))
}

func pool(ca pki.Pair) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "chat", Name: name} }

func ptr[T any](v T) *T { return &v }

// routes is a cluster with one Ingress and one TLSRoute for the host, both to a
// backend on this machine.
func routes(t *testing.T, backend net.Addr, public, backendCA pki.Pair) *table.Table {
	t.Helper()
	_, text, _ := net.SplitHostPort(backend.String())
	port := int32(must[int](t)(strconv.Atoi(text)))
	built, _ := table.Build(table.Objects{
		IngressClasses: []networkingv1.IngressClass{{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Spec: networkingv1.IngressClassSpec{Controller: table.Controller}}},
		Ingresses: []networkingv1.Ingress{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "chat", Name: "acme", Annotations: map[string]string{
				table.BackendProtocol: "HTTPS", table.BackendCASecret: "backend-ca", table.BackendServerName: serverName,
			}},
			Spec: networkingv1.IngressSpec{
				IngressClassName: ptr("local"),
				TLS:              []networkingv1.IngressTLS{{Hosts: []string{host}, SecretName: "public"}},
				Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
					Paths: []networkingv1.HTTPIngressPath{{Path: "/", Backend: networkingv1.IngressBackend{
						Service: &networkingv1.IngressServiceBackend{Name: "acme", Port: networkingv1.ServiceBackendPort{Number: port}},
					}}},
				}}}},
			},
		}},
		GatewayClasses: []gatewayv1.GatewayClass{{ObjectMeta: metav1.ObjectMeta{Name: "local"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: table.Controller}}},
		Gateways: []gatewayv1.Gateway{{ObjectMeta: meta("local"), Spec: gatewayv1.GatewaySpec{
			GatewayClassName: "local",
			Listeners: []gatewayv1.Listener{{Name: "line", Port: 1222, Protocol: gatewayv1.TLSProtocolType,
				TLS: &gatewayv1.ListenerTLSConfig{Mode: ptr(gatewayv1.TLSModePassthrough)}}},
		}}},
		TLSRoutes: []gatewayv1.TLSRoute{{ObjectMeta: meta("acme"), Spec: gatewayv1.TLSRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "local"}}},
			Hostnames:       []gatewayv1.Hostname{serverName},
			Rules: []gatewayv1.TLSRouteRule{{BackendRefs: []gatewayv1.BackendRef{{
				BackendObjectReference: gatewayv1.BackendObjectReference{Name: "acme", Port: ptr(gatewayv1.PortNumber(port))},
			}}}},
		}}},
		Services: []corev1.Service{{ObjectMeta: meta("acme"), Spec: corev1.ServiceSpec{
			ClusterIP: "127.0.0.1", Ports: []corev1.ServicePort{{Port: port}},
		}}},
		Secrets: []corev1.Secret{
			{ObjectMeta: meta("public"), Data: map[string][]byte{"tls.crt": public.CertPEM, "tls.key": public.KeyPEM}},
			{ObjectMeta: meta("backend-ca"), Data: map[string][]byte{"ca.crt": backendCA.CertPEM}},
		},
	}, "127.0.0.1", table.Ports{HTTPS: 443, Line: 1222})
	return built
}

// edge is a running proxy in front of a backend.
type edge struct {
	proxy       *Proxy
	ca, backend pki.Pair // public CA, and that of the backend
	https, line net.Addr
	target      net.Addr
}

// start runs a TLS backend and a proxy that leads to it.
func start(t *testing.T, handler http.Handler) *edge {
	t.Helper()
	e := &edge{ca: must[pki.Pair](t)(pki.NewCA("public")), backend: must[pki.Pair](t)(pki.NewCA("internal"))}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{keyPair(t, must[pki.Pair](t)(e.backend.Server(serverName)))}}
	server.StartTLS()
	t.Cleanup(server.Close)
	e.target = server.Listener.Addr()

	e.proxy = New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	e.proxy.Use(routes(t, e.target, e.certificate(t), e.backend))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	serve := func(run func(context.Context, net.Listener) error) net.Addr {
		l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
		go func() { ended <- run(ctx, l) }()
		return l.Addr()
	}
	e.https, e.line = serve(e.proxy.ServeHTTPS), serve(e.proxy.ServeLine)
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Errorf("serving ended with %v", err)
			}
		}
	})
	return e
}

// certificate makes a new public certificate for the host.
func (e *edge) certificate(t *testing.T) pki.Pair {
	t.Helper()
	return must[pki.Pair](t)(e.ca.Server(host))
}

func (e *edge) dial(name string) (*tls.Conn, error) {
	return tls.Dial("tcp", e.https.String(), &tls.Config{ServerName: name, RootCAs: pool(e.ca)})
}

func (e *edge) client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool(e.ca)},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", e.https.String())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func (e *edge) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := e.client(t).Get("https://" + host + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, string(must[[]byte](t)(io.ReadAll(resp.Body)))
}

func TestRequestArrivesWithItsHostAndItsClient(t *testing.T) {
	t.Parallel()
	e := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := url.Values{}
		q.Set("host", r.Host)
		q.Set("path", r.URL.Path)
		for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"} {
			q.Set(h, r.Header.Get(h))
		}
		io.WriteString(w, q.Encode())
	}))
	status, body := e.get(t, "/a/b")
	got := must[url.Values](t)(url.ParseQuery(body))
	for key, want := range map[string]string{
		"host": host, "path": "/a/b",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": host,
	} {
		if got.Get(key) != want {
			t.Errorf("%s = %q, want %q (status %d)", key, got.Get(key), want, status)
		}
	}
}

func TestBackendOfAnotherCAGetsNoRequest(t *testing.T) {
	t.Parallel()
	e := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request arrived") }))
	stranger := must[pki.Pair](t)(pki.NewCA("stranger"))
	e.proxy.Use(routes(t, e.target, e.certificate(t), stranger))
	if status, _ := e.get(t, "/"); status != http.StatusBadGateway {
		t.Errorf("status = %d, want 502", status)
	}
}

func TestConnectionIsUpgraded(t *testing.T) {
	t.Parallel()
	e := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			t.Errorf("Upgrade = %q", r.Header.Get("Upgrade"))
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		io.WriteString(conn, "echo "+line)
	}))
	conn := must[*tls.Conn](t)(e.dial(host))
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(conn)
	resp := must[*http.Response](t)(http.ReadResponse(r, nil))
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status = %s", resp.Status)
	}
	io.WriteString(conn, "hello\n")
	if line := must[string](t)(r.ReadString('\n')); line != "echo hello\n" {
		t.Errorf("read %q", line)
	}
}

func TestRenewedCertificateIsServedAtOnce(t *testing.T) {
	t.Parallel()
	e := start(t, http.NotFoundHandler())
	for range 2 {
		renewed := e.certificate(t)
		e.proxy.Use(routes(t, e.target, renewed, e.backend))
		conn := must[*tls.Conn](t)(e.dial(host))
		if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(renewed.Cert) {
			t.Errorf("served certificate %v, want %v", got.SerialNumber, renewed.Cert.SerialNumber)
		}
		conn.Close()
	}
}

func TestUnknownHostGetsNoCertificateAndUnknownPathNoBackend(t *testing.T) {
	t.Parallel()
	e := start(t, http.NotFoundHandler())
	if conn, err := e.dial("other.example.com"); err == nil {
		conn.Close()
		t.Error("a certificate for a host that nobody asked for")
	}
	req := must[*http.Request](t)(http.NewRequest(http.MethodGet, "https://"+host+"/", nil))
	req.Host = "other.example.com"
	resp := must[*http.Response](t)(e.client(t).Do(req))
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status = %d, want 404", resp.StatusCode)
	}
}

func TestLineIsPassedThroughUnopened(t *testing.T) {
	t.Parallel()
	e := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "from the backend") }))
	// The backend's own certificate is what the client sees and verifies.
	conn := must[*tls.Conn](t)(tls.Dial("tcp", e.line.String(), &tls.Config{ServerName: serverName, RootCAs: pool(e.backend)}))
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if data := string(must[[]byte](t)(io.ReadAll(conn))); !strings.Contains(data, "from the backend") {
		t.Errorf("read %q", data)
	}
}

func TestLineClosesWhatItCannotPassOn(t *testing.T) {
	t.Parallel()
	e := start(t, http.NotFoundHandler())
	if conn, err := tls.Dial("tcp", e.line.String(), &tls.Config{ServerName: "other.example.com", RootCAs: pool(e.backend)}); err == nil {
		conn.Close()
		t.Error("an unknown name was passed on")
	}
	conn := must[net.Conn](t)(net.Dial("tcp", e.line.String()))
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "LOGIN alice password123\n")
	if n, err := conn.Read(make([]byte, 100)); n != 0 || errors.Is(err, context.DeadlineExceeded) || err == nil {
		t.Errorf("plaintext got %d bytes and %v", n, err)
	}
}
