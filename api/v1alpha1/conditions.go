package v1alpha1

// Types of status.conditions.
const (
	// ConditionReady: clients can log in and chat.
	ConditionReady = "Ready"
	// ConditionProgressing: the operator or Kubernetes is still bringing about what the spec asks.
	ConditionProgressing = "Progressing"
	// ConditionDegraded: something needs attention; the service may still be Ready.
	ConditionDegraded = "Degraded"
	// ConditionRedisReady: Redis takes reads and writes.
	ConditionRedisReady = "RedisReady"
	// ConditionCertificatesReady: every certificate is issued and valid.
	ConditionCertificatesReady = "CertificatesReady"
	// ConditionRoutesReady: the way in is open, as far as its controller tells.
	ConditionRoutesReady = "RoutesReady"
	// ConditionAutoscalingActive: the autoscaler can measure and scale.
	ConditionAutoscalingActive = "AutoscalingActive"
	// ConditionPaused: the operator changes nothing, as asked.
	ConditionPaused = "Paused"
)

// Reasons of conditions.
const (
	ReasonReady    = "Ready"
	ReasonUpToDate = "UpToDate"
	ReasonNotAsked = "NotAsked"
	ReasonPaused   = "Paused"
	ReasonRunning  = "Running"

	ReasonInvalidSpec = "InvalidSpec"
	ReasonNameTaken   = "NameTaken"
	ReasonApplyFailed = "ApplyFailed"

	ReasonCreating        = "Creating"
	ReasonRolling         = "Rolling"
	ReasonScaling         = "Scaling"
	ReasonRollStuck       = "RollStuck"
	ReasonUpdateAvailable = "UpdateAvailable"

	ReasonNoServers       = "NoServers"
	ReasonScaledToZero    = "ScaledToZero"
	ReasonServersMissing  = "ServersMissing"
	ReasonRedisNotReady   = "RedisNotReady"
	ReasonNotReloaded     = "CertificateNotReloaded"
	ReasonUsersMissing    = "UsersSecretMissing"
	ReasonNotIssued       = "NotIssued"
	ReasonIssued          = "Issued"
	ReasonCertManager     = "CertManagerMissing"
	ReasonGatewayAPI      = "GatewayAPIMissing"
	ReasonNoAddress       = "NoAddress"
	ReasonAccepted        = "Accepted"
	ReasonNotAccepted     = "NotAccepted"
	ReasonMetricsMissing  = "MetricsMissing"
	ReasonAutoscalerReady = "AutoscalerReady"
	ReasonAutoscalerWaits = "AutoscalerStarting"
)

// Reasons of events.
const (
	// EventRolling: pods are being replaced; the message names what changed.
	EventRolling = "Rolling"
	// EventCertificateReloaded: Redis serves its renewed certificate, without a restart.
	EventCertificateReloaded = "CertificateReloaded"
)
