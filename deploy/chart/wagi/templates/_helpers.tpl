{{/*
Names and labels, as in `helm create`.
*/}}
{{- define "wagi.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The name of the release's resources. It leaves room for suffixes such as "-metrics".
*/}}
{{- define "wagi.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "wagi.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "wagi.selectorLabels" -}}
app.kubernetes.io/name: {{ include "wagi.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "wagi.labels" -}}
helm.sh/chart: {{ include "wagi.chart" . | quote }}
{{ include "wagi.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{/*
Labels of the gateway's pods, which no other pod of the release has.
*/}}
{{- define "wagi.gatewaySelectorLabels" -}}
{{ include "wagi.selectorLabels" . }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "wagi.gatewayLabels" -}}
{{ include "wagi.labels" . }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "wagi.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "wagi.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/*
The image of the gateway, with a digest if one is given.
*/}}
{{- define "wagi.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}
