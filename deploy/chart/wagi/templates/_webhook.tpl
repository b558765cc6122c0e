{{/*
The admission webhook for pods of Krustlet.
*/}}
{{- define "wagi.webhookName" -}}
{{- include "wagi.fullname" . }}-webhook
{{- end }}

{{/*
The name of what is not in a namespace.
*/}}
{{- define "wagi.webhookClusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "wagi.webhookName" .) }}
{{- end }}

{{- define "wagi.webhookSelectorLabels" -}}
{{ include "wagi.selectorLabels" . }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "wagi.webhookLabels" -}}
{{ include "wagi.labels" . }}
app.kubernetes.io/component: webhook
{{- end }}
