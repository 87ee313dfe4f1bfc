package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// servedWithin is how long a renewed certificate may take to be served: the
// kubelet brings changed Secrets into pods about once a minute.
const servedWithin = 3 * time.Minute

// TestRenewedCertificatesAreServedWithoutRestart renews every certificate of a
// chat while people talk in it.
func TestRenewedCertificatesAreServedWithoutRestart(t *testing.T) {
	c := start(t, routed, unlimited)
	talk := c.converse(t, 6, 6)
	talk.everyoneHears(t, 30*time.Second)
	pods := c.incarnations(t)
	server, redis := c.mustPods(t, "server")[0].Name, c.mustPods(t, "redis")[0].Name

	type place struct {
		what, certificate string
		serial            func(context.Context) (string, error)
	}
	places := []place{
		{"HTTPS at the router", c.name, func(ctx context.Context) (string, error) { return c.publicSerial(ctx, "443") }},
		{"the line protocol", c.name, func(ctx context.Context) (string, error) { return c.publicSerial(ctx, "1222") }},
		{"HTTPS of a chat pod", c.name + "-server", func(ctx context.Context) (string, error) {
			return c.podSerial(ctx, server, 8443, c.name+"-server")
		}},
		{"Redis", c.name + "-redis", func(ctx context.Context) (string, error) {
			return c.podSerial(ctx, redis, 6379, c.name+"-redis")
		}},
	}
	before := make(map[string]string)
	for _, p := range places {
		serial, err := p.serial(t.Context())
		if err != nil {
			t.Fatalf("the certificate of %s: %v", p.what, err)
		}
		before[p.what] = serial
	}
	for _, name := range []string{c.name, c.name + "-server", c.name + "-redis"} {
		c.renew(t, name)
	}
	began := time.Now()
	for _, p := range places {
		eventually(t, time.Until(began.Add(servedWithin)), p.what+" to serve the renewed certificate", func(ctx context.Context) error {
			serial, err := p.serial(ctx)
			if err == nil && serial == before[p.what] {
				err = errors.New("it serves the one before")
			}
			return err
		})
		t.Logf("%s serves the renewed certificate after %v", p.what, time.Since(began).Round(time.Second))
	}
	if now := c.incarnations(t); fmt.Sprint(now) != fmt.Sprint(pods) {
		t.Errorf("pods and their restarts were %v and are %v", pods, now)
	}
	talk.everyoneHears(t, 30*time.Second)
	talk.finish(t)
	if len(talk.breaks()) > 0 {
		t.Errorf("connections ended, by close code: %v", talk.breaks())
	}
	c.waitReady(t, time.Minute)
}

// incarnations are the pods and how often they restarted.
func (c *chat) incarnations(t *testing.T) map[string]int32 {
	t.Helper()
	found := make(map[string]int32)
	for _, component := range []string{"server", "redis"} {
		for _, pod := range c.mustPods(t, component) {
			for _, s := range pod.Status.ContainerStatuses {
				found[string(pod.UID)] += s.RestartCount
			}
		}
	}
	return found
}

// renew asks cert-manager for a new certificate before the old one's time.
func (c *chat) renew(t *testing.T, name string) {
	t.Helper()
	var cert cmapi.Certificate
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: c.namespace, Name: name}, &cert); err != nil {
		t.Fatalf("renew: %v", err)
	}
	patch := client.MergeFrom(cert.DeepCopy())
	cert.Status.Conditions = append(cert.Status.Conditions, cmapi.CertificateCondition{
		Type: cmapi.CertificateConditionIssuing, Status: cmmeta.ConditionTrue, ObservedGeneration: cert.Generation,
		LastTransitionTime: ptr.To(metav1.Now()), Reason: "ManuallyTriggered", Message: "a test asks for it",
	})
	if err := c.Status().Patch(t.Context(), &cert, patch); err != nil {
		t.Fatalf("renew certificate %s: %v", name, err)
	}
}

// publicSerial is the serial number of the certificate that a client sees.
func (c *chat) publicSerial(ctx context.Context, port string) (string, error) {
	conn, err := c.dial(ctx, net.JoinHostPort(c.host, port))
	if err != nil {
		return "", err
	}
	return serial(ctx, conn, c.tls())
}

// podSerial is the serial number of the certificate that the port of a pod
// serves as the Service, verified with the CA of the Service's own Secret.
func (c *chat) podSerial(ctx context.Context, pod string, port int, service string) (string, error) {
	pool, err := c.secretCA(ctx, service+"-tls")
	if err != nil {
		return "", err
	}
	addr, stop, err := c.forward(pod, port)
	if err != nil {
		return "", err
	}
	defer stop()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	return serial(ctx, conn, &tls.Config{ServerName: service + "." + c.namespace + ".svc", RootCAs: pool, MinVersion: tls.VersionTLS12})
}

func serial(ctx context.Context, raw net.Conn, config *tls.Config) (string, error) {
	defer raw.Close()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// forward makes a local address lead to a port of a pod until stop is called.
func (c *chat) forward(pod string, port int) (addr string, stop func(), err error) {
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return "", nil, err
	}
	url := c.kube.CoreV1().RESTClient().Post().Namespace(c.namespace).Resource("pods").Name(pod).SubResource("portforward").URL()
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	ending, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, ending, ready, io.Discard, io.Discard)
	if err != nil {
		return "", nil, err
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	stop = func() {
		close(ending)
		<-ended
	}
	select {
	case err := <-ended:
		return "", nil, fmt.Errorf("forward a port to pod %s: %w", pod, err)
	case <-ready:
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		stop()
		return "", nil, err
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), stop, nil
}
