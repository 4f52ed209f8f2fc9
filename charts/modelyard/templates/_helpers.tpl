{{- define "modelyard.name" -}}
{{- if contains "modelyard" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-modelyard" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "modelyard.labels" -}}
app.kubernetes.io/name: modelyard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: modelyard
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What a Deployment selects: never changes between versions. Call with (dict "root" $ "component" "operator"). */}}
{{- define "modelyard.selector" -}}
app.kubernetes.io/name: modelyard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Call with (dict "image" .Values.image "root" $). */}}
{{- define "modelyard.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{- define "modelyard.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "modelyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Settings of both processes: what the chart knows, under what the user says. */}}
{{- define "modelyard.settings" -}}
{{- $name := include "modelyard.name" . -}}
{{- $pullSecrets := list -}}
{{- range .Values.imagePullSecrets }}{{ $pullSecrets = append $pullSecrets .name }}{{ end -}}
{{- $known := dict
  "namespace" .Release.Namespace
  "watchNamespaces" .Values.watchNamespaces
  "images" (dict
    "loader" (include "modelyard.image" (dict "image" .Values.image "root" .))
    "trainer" (include "modelyard.image" (dict "image" .Values.trainerImage "root" .))
    "pullPolicy" .Values.image.pullPolicy
    "pullSecrets" $pullSecrets)
  "collector" (dict
    "url" (printf "https://%s-collector.%s.svc:8443" $name .Release.Namespace)
    "service" (printf "%s-collector" $name)
    "tlsSecret" (printf "%s-collector-tls" $name)
    "caSecret" (printf "%s-ca" $name)
    "tokenFile" "/var/run/secrets/modelyard/token"
    "operatorUser" (printf "system:serviceaccount:%s:%s-operator" .Release.Namespace $name)
    "apiUser" (printf "system:serviceaccount:%s:%s-api" .Release.Namespace $name)
    "store" (dict
      "points" .Values.collector.store.points
      "retentionDays" .Values.collector.store.retentionDays))
  "lease" (dict "name" (printf "%s-operator" $name))
-}}
{{- if .Values.collector.store.postgresql.secretName }}{{ $_ := set $known.collector.store "urlFile" "/etc/modelyard-store/url" }}{{ end -}}
{{- toYaml (mergeOverwrite $known (deepCopy .Values.settings)) -}}
{{- end }}
