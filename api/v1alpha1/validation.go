package v1alpha1

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The CRD refuses a spec that cannot work. Validate holds the same rules again, since
// the CRD in a cluster may be older than the operator, or its rules switched off.

var (
	namePattern   = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	hostPattern   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	originPattern = regexp.MustCompile(`^https?://[a-z0-9.-]+(:[0-9]{1,5})?$`)
)

const maxNameLength = 40

// Validate returns a sentence for each thing in c that cannot work; each tells what to change.
func Validate(c *ChatCluster) []string {
	var broken []string
	must := func(ok bool, sentence string) {
		if !ok {
			broken = append(broken, sentence)
		}
	}
	s := &c.Spec
	must(len(c.Name) <= maxNameLength && namePattern.MatchString(c.Name),
		"metadata.name must start with a letter, hold only lower-case letters, digits and hyphens, and be at most 40 characters long: the names of Services are made from it")
	must(len(s.Host) <= 253 && hostPattern.MatchString(s.Host),
		"host must be a DNS name such as chat.example.com: lower-case letters, digits, hyphens and dots, without scheme, port, path or wildcard")
	validateServer(&s.Server, must)
	validateRedis(&s.Redis, must)
	validateTLS(&s.TLS, must)
	validateRouting(s, must)
	return broken
}

type mustFunc func(ok bool, sentence string)

func validateServer(s *ServerSpec, must mustFunc) {
	must(s.Replicas == nil || s.Autoscaling == nil,
		"set server.replicas or server.autoscaling, not both: to change an autoscaled cluster's size, change autoscaling.minReplicas and maxReplicas")
	must(s.Replicas == nil || *s.Replicas >= 0, "server.replicas must not be negative")
	if a := s.Autoscaling; a != nil {
		_, hasCPU := s.Resources.Requests[corev1.ResourceCPU]
		must(hasCPU, "server.autoscaling measures CPU against the request: set server.resources.requests.cpu")
		must(a.MinReplicas >= 1, "autoscaling.minReplicas must be at least 1")
		must(a.MinReplicas <= a.MaxReplicas,
			"autoscaling.minReplicas must not be above autoscaling.maxReplicas: lower minReplicas or raise maxReplicas")
	}
	must(between(s.Auth.AccessTokenTTL, time.Minute, 24*time.Hour),
		"auth.accessTokenTTL must be from 1m to 24h, written like 1h or 15m")
	must(slices.Contains([]LogLevel{"", LogLevelDebug, LogLevelInfo, LogLevelWarn, LogLevelError}, s.LogLevel),
		"server.logLevel must be Debug, Info, Warn or Error")
	must(s.Auth.RefreshTokenTTL == nil || between(*s.Auth.RefreshTokenTTL, time.Hour, 8760*time.Hour),
		"auth.refreshTokenTTL must be from 1h to 8760h, written like 720h")
	must(s.Auth.MaxSessionsPerUser == nil || s.Auth.DuplicateLogin == DuplicateLoginAllow,
		"auth.maxSessionsPerUser counts logins that duplicateLogin allows beside each other: set auth.duplicateLogin to Allow, or remove maxSessionsPerUser")
	must(s.Limits.MaxMessageBytes > 0, "limits.maxMessageBytes must be at least 1")
	must(s.History.Count > 0, "history.count must be at least 1")
	must(s.History.Age.Duration >= time.Minute,
		"history.age must be at least 1m, written in hours, minutes and seconds like 168h")
	must(between(s.Drain.Window, time.Second, 10*time.Minute),
		"drain.window must be from 1s to 10m, written like 20s")
	must(all(s.AllowedOrigins, originPattern.MatchString),
		"server.allowedOrigins must hold origins such as https://www.example.com: scheme and host, a port if needed, no path and no trailing slash")
	must(all(s.TrustedProxies, isCIDR),
		"server.trustedProxies must hold networks in CIDR notation, such as 10.0.0.0/8; one address is written 192.0.2.7/32")
	must(requestsWithinLimits(s.Resources),
		"server.resources.requests must not be above limits: lower the request or raise the limit")
	validatePodTemplate(&s.PodTemplate, must)
}

func validateRedis(r *RedisSpec, must mustFunc) {
	must(r.Topology == RedisStandalone, "redis.topology must be Standalone")
	must(r.Storage.Size.Value() >= 64<<20, "redis.storage.size must be at least 64Mi, written like 1Gi")
	must(requestsWithinLimits(r.Resources),
		"redis.resources.requests must not be above limits: lower the request or raise the limit")
	validatePodTemplate(&r.PodTemplate, must)
}

func validateTLS(t *TLSSpec, must mustFunc) {
	must(t.Duration.Duration >= time.Hour, "tls.duration must be at least 1h, written like 2160h")
	must(t.RenewBefore.Duration >= 5*time.Minute, "tls.renewBefore must be at least 5m, written like 720h")
	must(t.RenewBefore.Duration < t.Duration.Duration,
		"tls.renewBefore must be shorter than tls.duration: lower renewBefore or raise duration")
}

func validateRouting(s *ChatClusterSpec, must mustFunc) {
	r := s.Routing
	if r == nil {
		return
	}
	must(r.Ingress != nil || r.Gateway != nil,
		"routing needs ingress or gateway: set one, or remove routing for an Ingress of the default class")
	if r.Gateway == nil {
		return
	}
	must(len(r.Gateway.ParentRefs)+len(r.Gateway.LineParentRefs) > 0,
		"routing.gateway needs parentRefs or lineParentRefs: name the Gateway to attach to")
	must(len(r.Gateway.LineParentRefs) == 0 || s.Server.LineProtocol.On(),
		"routing.gateway.lineParentRefs routes the line protocol, which is off: set server.lineProtocol.enabled to true or remove lineParentRefs")
}

func validatePodTemplate(p *PodTemplateSpec, must mustFunc) {
	for key := range p.Labels {
		if strings.HasPrefix(key, "app.kubernetes.io/") {
			must(false, "podTemplate.labels must not start with app.kubernetes.io/: the operator selects its pods by those; choose another prefix")
			return
		}
	}
}

func between(d Duration, low, high time.Duration) bool {
	return d.Duration >= low && d.Duration <= high
}

func isCIDR(s string) bool {
	_, err := netip.ParsePrefix(s)
	return err == nil
}

func all(items []string, ok func(string) bool) bool {
	for _, item := range items {
		if !ok(item) {
			return false
		}
	}
	return true
}

func requestsWithinLimits(r corev1.ResourceRequirements) bool {
	for name, request := range r.Requests {
		if limit, limited := r.Limits[name]; limited && request.Cmp(limit) > 0 {
			return false
		}
	}
	return true
}

// On tells whether the chat servers speak the line protocol, which is the default.
func (l LineProtocolSpec) On() bool { return l.Enabled == nil || *l.Enabled }

// On tells whether NetworkPolicies are made, which is the default.
func (n NetworkPolicySpec) On() bool { return n.Enabled == nil || *n.Enabled }
