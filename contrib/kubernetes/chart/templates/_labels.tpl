{{- define "memmon.selector" -}}
app.kubernetes.io/name: memmon
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "memmon.labels" -}}
{{ include "memmon.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
