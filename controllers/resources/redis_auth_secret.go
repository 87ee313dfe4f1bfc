package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// Keys of the Secret <name>-redis-auth.
const (
	KeyRedisUsername    = "username"
	KeyRedisPassword    = "password"
	KeyOperatorPassword = "operator-password"
	keyRedisACL         = "users.acl"
)

// Users of Redis.
const (
	redisUserChat = "chat"
	// RedisUserOperator may read and set the TLS files of Redis, and nothing else.
	RedisUserOperator = "operator"
	redisUserProbe    = "probe"
)

// RedisAuthSecret holds the password of the chat servers, and the users of Redis.
func RedisAuthSecret(in Input) Object {
	return corev1ac.Secret(in.name("-redis-auth"), in.namespace()).
		WithLabels(in.labels(componentRedis)).
		WithOwnerReferences(in.owner()).
		WithType(corev1.SecretTypeOpaque).
		WithData(map[string][]byte{
			KeyRedisUsername:    []byte(redisUserChat),
			KeyRedisPassword:    []byte(in.Credentials.RedisPassword),
			KeyOperatorPassword: []byte(in.Credentials.OperatorPassword),
			keyRedisACL:         RedisACL(in.Credentials),
		})
}

// RedisACL is the ACL file. Redis gets hashes of the passwords, never the passwords.
//   - chat: data, scripts and pub/sub; of the dangerous commands those only that a client
//     needs to find its way (INFO, CLUSTER, ROLE).
//   - operator: the TLS files.
//   - probe: PING, without a password, so that probes hold no secret.
//   - default: off; a connection that names no user can do nothing. Its rights are for
//     Redis itself, which acts as this user while it loads its append-only file: without
//     them it refuses each transaction in there, and comes up without its data.
func RedisACL(c Credentials) []byte {
	lines := []string{
		"user default off resetpass ~* &* +@all",
		fmt.Sprintf("user %s on #%s ~* &* +@all -@admin -@dangerous +info +role +cluster|info +cluster|nodes +cluster|shards +cluster|slots",
			redisUserChat, sha256Hex(c.RedisPassword)),
		fmt.Sprintf("user %s on #%s resetkeys resetchannels -@all +ping +hello +config|get +config|set",
			RedisUserOperator, sha256Hex(c.OperatorPassword)),
		fmt.Sprintf("user %s on nopass resetkeys resetchannels -@all +ping", redisUserProbe),
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
