{{/*
The container of the gateway.
*/}}

{{/*
The number of workers: without a CPU limit, the gateway would start one for each core of the node.
*/}}
{{- define "wagi.workers" -}}
{{- if .Values.workers }}
{{- int .Values.workers }}
{{- else }}
{{- $resources := .Values.resources }}
{{- $cpu := ($resources.requests).cpu | default ($resources.limits).cpu | default 1 | toString }}
{{- $cores := float64 (trimSuffix "m" $cpu) }}
{{- if hasSuffix "m" $cpu }}
{{- $cores = divf $cores 1000 }}
{{- end }}
{{- ceil $cores | int | max 1 }}
{{- end }}
{{- end }}

{{- define "wagi.terminationGracePeriodSeconds" -}}
{{- with .Values.terminationGracePeriodSeconds }}
{{- int . }}
{{- else }}
{{- add (ceil .Values.shutdownDelay) (ceil .Values.shutdownTimeout) 5 }}
{{- end }}
{{- end }}

{{/*
The arguments, as YAML. The path precedes the options, since one option may have several values.
*/}}
{{- define "wagi.arguments" -}}
{{- $arguments := list "serve" "/etc/wagi/modules/modules.toml" }}
{{- $arguments = append $arguments (printf "--listen=:%d" (int .Values.containerPorts.http)) }}
{{- $arguments = append $arguments (printf "--admin-listen=:%d" (int .Values.containerPorts.admin)) }}
{{- $arguments = append $arguments (printf "--workers=%s" (include "wagi.workers" .)) }}
{{- $arguments = append $arguments (printf "--memory-budget=%s" (toString .Values.memoryBudget)) }}
{{- range .Values.trustedProxies }}
{{- $arguments = append $arguments (printf "--trusted-proxy=%s" .) }}
{{- end }}
{{- $arguments = append $arguments (printf "--shutdown-delay=%v" .Values.shutdownDelay) }}
{{- $arguments = append $arguments (printf "--shutdown-timeout=%v" .Values.shutdownTimeout) }}
{{- if not .Values.rollOnConfigChange }}
{{- $arguments = append $arguments "--reload-on-change" }}
{{- end }}
{{- $arguments = append $arguments "--log-dir=none" }}
{{- $arguments = append $arguments (printf "--log-format=%s" .Values.logFormat) }}
{{- if or .Values.accessLog (kindIs "bool" .Values.accessLog) }}
{{- /* In YAML, off without quotes is the boolean false. */}}
{{- $arguments = append $arguments (printf "--access-log=%s" (.Values.accessLog | default "off")) }}
{{- end }}
{{- if .Values.cache.enabled }}
{{- $arguments = append $arguments "--module-cache=/var/cache/wagi/modules" }}
{{- $arguments = append $arguments "--artefact-cache=/var/cache/wagi/artefacts" }}
{{- end }}
{{- if .Values.environmentSecret.name }}
{{- $arguments = append $arguments "--env-file=/etc/wagi/environment/handlers.env" }}
{{- end }}
{{- toYaml (concat $arguments .Values.extraArgs) }}
{{- end }}

{{/*
The volumes and their mounts: configuration read-only, caches and /tmp writable.
*/}}
{{- define "wagi.volumes" -}}
- name: modules
  configMap:
    name: {{ include "wagi.configMapName" . | quote }}
    {{- if not .Values.existingConfigMap }}
    {{- $paths := include "wagi.paths" . | fromJson }}
    {{- if contains "/" (values $paths | join "") }}
    items:
      {{- range $key, $path := $paths }}
      - key: {{ $key | quote }}
        path: {{ $path | quote }}
      {{- end }}
    {{- end }}
    {{- end }}
- name: tmp
  emptyDir: {}
{{- if .Values.cache.enabled }}
- name: cache
  {{- if .Values.cache.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ .Values.cache.persistence.existingClaim | default (printf "%s-cache" (include "wagi.fullname" .)) | quote }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.cache.sizeLimit | quote }}
  {{- end }}
{{- end }}
{{- with .Values.registrySecret }}
- name: registry
  secret:
    secretName: {{ . | quote }}
    defaultMode: 288 # 0440
    items:
      - key: .dockerconfigjson
        path: config.json
{{- end }}
{{- with .Values.environmentSecret }}
{{- if .name }}
- name: environment
  secret:
    secretName: {{ .name | quote }}
    defaultMode: 288 # 0440
    items:
      - key: {{ .key | quote }}
        path: handlers.env
{{- end }}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "wagi.volumeMounts" -}}
- name: modules
  mountPath: /etc/wagi/modules
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.cache.enabled }}
- name: cache
  mountPath: /var/cache/wagi
{{- end }}
{{- if .Values.registrySecret }}
- name: registry
  mountPath: /etc/wagi/registry
  readOnly: true
{{- end }}
{{- if .Values.environmentSecret.name }}
- name: environment
  mountPath: /etc/wagi/environment
  readOnly: true
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
Spread constraints, of the gateway's pods unless they have a selector of their own. As YAML.
*/}}
{{- define "wagi.topologySpreadConstraints" -}}
{{- $selector := dict "matchLabels" (include "wagi.gatewaySelectorLabels" . | fromYaml) }}
{{- $constraints := list }}
{{- range .Values.topologySpreadConstraints }}
{{- $constraints = append $constraints (merge (dict) . (dict "labelSelector" $selector)) }}
{{- end }}
{{- toYaml $constraints }}
{{- end }}
