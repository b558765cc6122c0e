{{/*
What the gateway serves: modules.toml, and the files beside it.
*/}}

{{- define "wagi.configMapName" -}}
{{- .Values.existingConfigMap | default (include "wagi.fullname" .) }}
{{- end }}

{{- define "wagi.modulesToml" -}}
{{- if not .Values.modules }}
{{- .Files.Get "files/modules.toml" }}
{{- else if kindIs "string" .Values.modules }}
{{- if .Values.moduleDefaults }}
{{- fail "moduleDefaults: modules is a string, so write the table [defaults] in it" }}
{{- end }}
{{- with (fromToml .Values.modules).Error }}
{{- fail (printf "modules: not valid TOML: %s" .) }}
{{- end }}
{{- .Values.modules }}
{{- else }}
{{- $tables := list }}
{{- with .Values.moduleDefaults }}
{{- $tables = append $tables (include "wagi.tomlTable" (dict "name" "defaults" "keys" .)) }}
{{- end }}
{{- range .Values.modules }}
{{- $tables = append $tables (include "wagi.tomlTable" (dict "name" "module" "isArray" true "keys" .)) }}
{{- end }}
{{- join "\n\n" $tables }}{{ "\n" }}
{{- end }}
{{- end }}

{{/*
A table of modules.toml. Numbers in values are floating-point numbers: whole ones become integers.
Arguments: name, keys, and isArray for a table in an array, [[name]].
*/}}
{{- define "wagi.tomlTable" -}}
{{- $keys := dict }}
{{- range $key, $value := .keys }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
{{- $value = int64 $value }}
{{- end }}
{{- if not (kindIs "invalid" $value) }}
{{- $_ := set $keys $key $value }}
{{- end }}
{{- end }}
{{- toToml (dict .name (ternary (list $keys) $keys (hasKey . "isArray"))) | trim }}
{{- end }}

{{/*
The paths of all files in the volume by their keys in the ConfigMap, which cannot contain slashes.
As JSON; the schema of the values restricts paths to ASCII.
*/}}
{{- define "wagi.paths" -}}
{{- $paths := dict "modules.toml" "modules.toml" }}
{{- if not .Values.modules }}
{{- $_ := set $paths "welcome.wat" "welcome.wat" }}
{{- end }}
{{- range concat (keys .Values.files) (keys .Values.binaryFiles) }}
{{- $key := replace "/" "__" . }}
{{- if hasKey $paths $key }}
{{- fail (printf "files, binaryFiles: %s: another file has the key %s in the ConfigMap" . $key) }}
{{- end }}
{{- $_ := set $paths $key . }}
{{- end }}
{{- range $file := values $paths }}
{{- range values $paths }}
{{- if hasPrefix (printf "%s/" $file) . }}
{{- fail (printf "files, binaryFiles: %s is a file, so there cannot be %s" $file .) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $paths }}
{{- end }}

{{/*
The content of the ConfigMap: its keys data and binaryData. Contents are not passed through JSON,
whose reader rejects some characters.
*/}}
{{- define "wagi.configMapContent" -}}
{{- $data := dict "modules.toml" (include "wagi.modulesToml" .) }}
{{- if not .Values.modules }}
{{- $_ := set $data "welcome.wat" (.Files.Get "files/welcome.wat") }}
{{- end }}
{{- $size := len (get $data "modules.toml") }}
{{- range $path, $content := .Values.files }}
{{- if or (hasSuffix ".wasm" $path) (regexMatch "[\\x00-\\x08\\x0e-\\x1f\\x7f]" $content) }}
{{- fail (printf "files: %s is binary: put it into binaryFiles, as base64" $path) }}
{{- end }}
{{- $_ := set $data (replace "/" "__" $path) $content }}
{{- $size = add $size (len $content) }}
{{- end }}
{{- $binary := dict }}
{{- range $path, $content := .Values.binaryFiles }}
{{- $encoded := regexReplaceAll "\\s" $content "" }}
{{- $_ := set $binary (replace "/" "__" $path) $encoded }}
{{- $size = add $size (div (mul (len $encoded) 3) 4) }}
{{- end }}
{{- if gt (int $size) 1048576 }}
{{- fail (printf "files, binaryFiles: they have %d KiB, but a ConfigMap holds at most 1024 KiB: push modules to a registry (module: oci://…), or mount a volume" (div $size 1024)) }}
{{- end }}
data:
  {{- toYaml $data | nindent 2 }}
{{- with $binary }}
binaryData:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Values that contradict each other.
*/}}
{{- define "wagi.validate" -}}
{{- if and (or .Values.moduleDefaults .Values.files .Values.binaryFiles) (not .Values.modules) (not .Values.existingConfigMap) }}
{{- fail "modules: it is empty, so moduleDefaults, files and binaryFiles have no effect: add entries" }}
{{- end }}
{{- if and .Values.existingConfigMap (or .Values.modules .Values.moduleDefaults .Values.files .Values.binaryFiles) }}
{{- fail "existingConfigMap: it takes the place of modules, moduleDefaults, files and binaryFiles: set one or the other" }}
{{- end }}
{{- if and .Values.existingConfigMap .Values.rollOnConfigChange }}
{{- fail "rollOnConfigChange: it has no effect on existingConfigMap, whose content the chart does not know: leave it false, and the gateway reloads the ConfigMap" }}
{{- end }}
{{- $needed := add (ceil .Values.shutdownDelay) (ceil .Values.shutdownTimeout) }}
{{- with .Values.terminationGracePeriodSeconds }}
{{- if lt (int .) (int $needed) }}
{{- fail (printf "terminationGracePeriodSeconds: %d is less than shutdownDelay + shutdownTimeout = %d, so running requests would be aborted" (int .) (int $needed)) }}
{{- end }}
{{- end }}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) }}
{{- fail "autoscaling: maxReplicas is less than minReplicas" }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (not (or .targetCPUUtilizationPercentage .targetMemoryUtilizationPercentage .metrics)) }}
{{- fail "autoscaling: set targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or metrics" }}
{{- end }}
{{- end }}
{{- end }}
