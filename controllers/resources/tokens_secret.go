package resources

import (
	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// KeyCurrentToken is the key of Secret <name>-tokens that names the signing key; every
// other key is a key id with its secret.
const KeyCurrentToken = "current"

// TokensSecret holds the keys that chat servers sign tokens with. Chat servers mount it
// as a directory and follow its changes.
func TokensSecret(in Input) Object {
	data := map[string][]byte{KeyCurrentToken: []byte(in.Credentials.CurrentKey)}
	for id, secret := range in.Credentials.TokenKeys {
		data[id] = []byte(secret)
	}
	return corev1ac.Secret(in.name("-tokens"), in.namespace()).
		WithLabels(in.labels(componentServer)).
		WithOwnerReferences(in.owner()).
		WithType(corev1.SecretTypeOpaque).
		WithData(data)
}
