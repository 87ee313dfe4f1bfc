//go:build linux

package cluster

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strconv"

	"github.com/chatcluster/chatcluster/hack/internal/pki"
)

// credentials makes every certificate and kubeconfig, once: the directory
// appears when all are in it.
func (c Cluster) credentials() error {
	dir := state("pki")
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	temp := dir + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return err
	}
	if err := makeCredentials(temp); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	return os.Rename(temp, dir)
}

func makeCredentials(dir string) error {
	ca, err := pki.NewCA("kubernetes")
	if err != nil {
		return err
	}
	frontProxyCA, err := pki.NewCA("front-proxy")
	if err != nil {
		return err
	}
	publicCA, err := pki.NewCA("ChatCluster local CA")
	if err != nil {
		return err
	}
	accounts, err := pki.NewCA("service-accounts") // only its key is used
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(accounts.Key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/accounts.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644); err != nil {
		return err
	}

	api, err := ca.Server("kube-apiserver", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc."+dnsDomain, "localhost", "127.0.0.1", apiService, NodeIP())
	if err != nil {
		return err
	}
	kubelet, err := ca.Server(nodeName, NodeIP())
	if err != nil {
		return err
	}
	frontProxy, err := frontProxyCA.Client("front-proxy-client")
	if err != nil {
		return err
	}
	kubeletClient, err := ca.Client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	for name, pair := range map[string]pki.Pair{
		"ca": ca, "front-proxy-ca": frontProxyCA, "public-ca": publicCA, "accounts": accounts,
		"kube-apiserver": api, "kubelet": kubelet, "front-proxy": frontProxy, "kubelet-client": kubeletClient,
	} {
		if err := pair.Write(dir, name); err != nil {
			return err
		}
	}
	for name, user := range map[string][]string{
		"admin":                   {"local-admin", "system:masters"},
		"kube-controller-manager": {"system:kube-controller-manager"},
		"kube-scheduler":          {"system:kube-scheduler"},
		"kube-proxy":              {"system:kube-proxy"},
		"kubelet":                 {"system:node:" + nodeName, "system:nodes"},
	} {
		client, err := ca.Client(user[0], user[1:]...)
		if err != nil {
			return err
		}
		if err := os.WriteFile(dir+"/"+name+".kubeconfig", kubeconfig(ca, client), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func kubeconfig(ca, client pki.Pair) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: chatcluster-local
clusters:
- name: chatcluster-local
  cluster:
    server: https://%s:%d
    certificate-authority-data: %s
users:
- name: chatcluster-local
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: chatcluster-local
  context: {cluster: chatcluster-local, user: chatcluster-local}
`, NodeIP(), apiPort, b64(ca.CertPEM), b64(client.CertPEM), b64(client.KeyPEM))
}

// publish puts what the cluster's users need where they find it. If sudo was
// used, it belongs to the one who used it.
func (c Cluster) publish() error {
	for target, source := range map[string]string{c.Kubeconfig(): pkiFile("admin.kubeconfig"), c.CA(): pkiFile("public-ca.crt")} {
		data, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		if err := writeFile(target, data, 0o600); err != nil {
			return err
		}
		if err := os.Chown(target, sudoID("SUDO_UID"), sudoID("SUDO_GID")); err != nil {
			return err
		}
	}
	return nil
}

// sudoID is the id of who called sudo, or -1, which leaves things as they are.
func sudoID(variable string) int {
	id, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return -1
	}
	return id
}
