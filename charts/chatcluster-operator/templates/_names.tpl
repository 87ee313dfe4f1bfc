{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Redis lets the operator in by the first of these labels. */ -}}
{{- define "operator.selector" -}}
app.kubernetes.io/name: chatcluster-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.serviceAccount" -}}
{{ .Values.serviceAccount.name | default .Release.Name }}
{{- end }}

{{- /* Rights in all namespaces are of the cluster, and so is their name. */ -}}
{{- define "operator.clusterRole" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{- /* The rights that the markers in the code ask for. */ -}}
{{- define "operator.rules" -}}
{{ (.Files.Get "files/role.yaml" | fromYaml).rules | toYaml }}
{{- end }}
