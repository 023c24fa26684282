{{/* Names. */}}
{{- define "anklang.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "anklang.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "anklang.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "anklang.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "anklang.selector" -}}
app.kubernetes.io/name: {{ include "anklang.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "anklang.labels" -}}
{{ include "anklang.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "anklang.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "anklang.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "anklang.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* A value as TOML. What JSON writes of texts, numbers and flags is TOML as well. */}}
{{- define "anklang.tomlValue" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }},{{ end }} {{ $key | toJson }} = {{ include "anklang.tomlValue" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $i, $value := . }}{{ if $i }}, {{ end }}{{ include "anklang.tomlValue" $value }}{{ end }}]
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end }}

{{/* A table as TOML: its values, then its tables. Not `toToml`, which makes 30.0 of 30. */}}
{{- define "anklang.toml" -}}
{{- $path := .path -}}
{{- $table := .table -}}
{{- range $key := keys $table | sortAlpha -}}
{{- $value := get $table $key -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key | toJson }} = {{ include "anklang.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- range $key := keys $table | sortAlpha -}}
{{- $value := get $table $key -}}
{{- if kindIs "map" $value }}
{{- $inner := append $path ($key | toJson) }}

[{{ join "." $inner }}]
{{- include "anklang.toml" (dict "path" $inner "table" $value) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "anklang.config" -}}
# From the chart's value `config`; environment variables of the pods add what the chart knows.
{{- include "anklang.toml" (dict "path" list "table" .Values.config) }}
{{- end }}

{{/* "folder" or "s3" */}}
{{- define "anklang.documentStore" -}}
{{- dig "documents" "store" "folder" .Values.config -}}
{{- end }}

{{- define "anklang.documentClaim" -}}
{{- default (printf "%s-documents" (include "anklang.fullname" .)) .Values.documents.existingClaim -}}
{{- end }}

{{/* "none" or "transaction" */}}
{{- define "anklang.pooler" -}}
{{- dig "database" "pooler" "none" .Values.config -}}
{{- end }}

{{/* What no schema can say. */}}
{{- define "anklang.check" -}}
{{- $documents := .Values.documents -}}
{{- if eq (include "anklang.documentStore" .) "folder" -}}
{{- if not (or $documents.existingClaim $documents.size) -}}
{{- fail "documents: name a claim in documents.existingClaim, give documents.size, or set config.documents.store to \"s3\"" -}}
{{- end -}}
{{- else if not (dig "documents" "s3" "bucket" "" .Values.config) -}}
{{- fail "config.documents.s3.bucket: is missing" -}}
{{- end -}}
{{- if and (ne (dig "auth" "mode" "none" .Values.config) "token") (not (dig "auth" "anybody" false .Values.config)) -}}
{{- fail "config.auth: say who may call (mode: token), or set anybody to true: whoever reaches the servers may do everything then, for every tenant" -}}
{{- end -}}
{{- if ne .Values.plugins.source "image" -}}
{{- range $id, $account := .Values.config.channel_accounts -}}
{{- if not (regexMatch "^[0-9a-f]{64}$" (get $account "sha256" | default "" | toString)) -}}
{{- fail (printf "config.channel_accounts.%s.sha256: plugins from outside of the image must be pinned (`anklang plugin list` tells their SHA-256)" $id) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (dig "server" "tls" "" .Values.config) (not .Values.tls.secretName) -}}
{{- fail "tls.secretName: is missing, but config.server.tls is not" -}}
{{- end -}}
{{- if not (or .Values.tls.secretName .Values.tls.plainText) -}}
{{- fail "tls: name a Secret in tls.secretName, or set tls.plainText to true: what lies before the servers has to encrypt then" -}}
{{- end -}}
{{- if and (dig "auth" "certificates" "" .Values.config) (not (dig "server" "tls" "client_ca" "" .Values.config)) -}}
{{- fail "config.server.tls.client_ca: is missing, but config.auth.certificates is not" -}}
{{- end -}}
{{- if and (ne (include "anklang.pooler" .) "none") (not .Values.database.directSecretKey) -}}
{{- $run := .Values.migrations.run -}}
{{- if or (eq $run "server") (and (eq $run "job") (not .Values.migrations.secretName)) -}}
{{- fail "database.directSecretKey: is missing: migrations go past the pooler of config.database.pooler (a Job does also by a migrations.secretName)" -}}
{{- end -}}
{{- end -}}
{{- range list "serviceMonitor" "prometheusRule" "dashboards" -}}
{{- if and (get $.Values .).enabled (not $.Values.metrics.enabled) -}}
{{- fail (printf "%s.enabled: is of no use without metrics.enabled" .) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.plugins.source "imageVolume") (not .Values.plugins.imageVolume.reference) -}}
{{- fail "plugins.imageVolume.reference: is missing" -}}
{{- end -}}
{{- if and (eq .Values.plugins.source "claim") (not .Values.plugins.claim.name) -}}
{{- fail "plugins.claim.name: is missing" -}}
{{- end -}}
{{- range list "grpc" "public" -}}
{{- $gateway := get $.Values.gateway . -}}
{{- if and $gateway.enabled (not $gateway.parentRefs) -}}
{{- fail (printf "gateway.%s.parentRefs: name a Gateway" .) -}}
{{- end -}}
{{- $ingress := get $.Values.ingress . -}}
{{- if and $ingress.enabled (not $ingress.host) -}}
{{- fail (printf "ingress.%s.host: is missing" .) -}}
{{- end -}}
{{- end -}}
{{- with .Values.gateway -}}
{{- if and .grpc.enabled .public.enabled (include "anklang.hostsMeet" .) -}}
{{- range $grpc := .grpc.parentRefs -}}
{{- range $public := $.Values.gateway.public.parentRefs -}}
{{- if include "anklang.parentsMeet" (dict "namespace" $.Release.Namespace "both" (list $grpc $public)) -}}
{{- fail (printf "gateway.grpc and gateway.public: %s accepts only one of both routes, as they share a listener and hostnames: let gateway.grpc.hostnames and gateway.public.hostnames differ, or their parentRefs name different listeners (sectionName)" $grpc.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $component := (include "anklang.components" . | fromJson).list -}}
{{- with $component.settings.autoscaling -}}
{{- if and .enabled (not .cpu) (not .external) -}}
{{- fail (printf "%s.autoscaling: give cpu or external" $component.name) -}}
{{- end -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "%s.autoscaling: minReplicas is more than maxReplicas" $component.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* "true" when both routes of `gateway` have a hostname in common; none are all. */}}
{{- define "anklang.hostsMeet" -}}
{{- $meet := false -}}
{{- range $one := default (list "*") .grpc.hostnames -}}
{{- range $other := default (list "*") $.public.hostnames -}}
{{- range $pair := list (list $one $other) (list $other $one) -}}
{{- $wide := first $pair -}}
{{- $covered := and (hasPrefix "*" $wide) (hasSuffix (trimPrefix "*" $wide) (last $pair)) -}}
{{- $meet = or $meet $covered (eq $one $other) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- ternary "true" "" $meet -}}
{{- end }}

{{/* "true" when two parentRefs have a listener in common, as far as they say. */}}
{{- define "anklang.parentsMeet" -}}
{{- $meet := true -}}
{{- $one := first .both -}}
{{- $other := last .both -}}
{{- range $key, $default := dict "group" "gateway.networking.k8s.io" "kind" "Gateway" "namespace" .namespace "name" "" -}}
{{- $meet = and $meet (eq (get $one $key | default $default) (get $other $key | default $default)) -}}
{{- end -}}
{{- range $key := list "sectionName" "port" -}}
{{- /* Without it all listeners of the parent are meant. */ -}}
{{- if and (get $one $key) (get $other $key) -}}
{{- $meet = and $meet (eq (get $one $key | toString) (get $other $key | toString)) -}}
{{- end -}}
{{- end -}}
{{- ternary "true" "" $meet -}}
{{- end }}

{{/* The Deployments, as JSON: name of the component, its roles, its settings over the defaults. */}}
{{- define "anklang.components" -}}
{{- $components := list -}}
{{- $all := dict "combined" (list "api" "worker" "scheduler") "api" (list "api") "worker" (list "worker") "scheduler" (list "scheduler") -}}
{{- $names := ternary (list "combined") (list "api" "worker" "scheduler") (eq .Values.mode "combined") -}}
{{- range $name := $names -}}
{{- $own := get $.Values $name -}}
{{- $settings := mergeOverwrite (deepCopy $.Values.defaults) (deepCopy $own) -}}
{{- $components = append $components (dict "name" $name "roles" (get $all $name) "settings" $settings) -}}
{{- end -}}
{{- dict "list" $components | toJson -}}
{{- end }}

{{- define "anklang.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "anklang.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a pod may run: as the first of several maps says that says anything. */}}
{{- define "anklang.placing" -}}
{{- $placing := dict -}}
{{- range $settings := . -}}
{{- if not $placing -}}
{{- range $key := list "priorityClassName" "nodeSelector" "tolerations" "affinity" -}}
{{- with get $settings $key -}}
{{- $_ := set $placing $key . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $placing -}}
{{- toYaml . -}}
{{- end -}}
{{- end }}

{{/* How commands in a pod know the servers, as variables; `server` is where they call them. */}}
{{- define "anklang.clientEnv" -}}
{{- with .root.Values.tls -}}
- name: ANKLANG_SERVER
  value: {{ $.server }}
- name: ANKLANG_SERVER_NAME
  value: {{ default (printf "%s.%s.svc" (include "anklang.fullname" $.root) $.root.Release.Namespace) .serverName }}
{{- with .caKey }}
- name: ANKLANG_CA
  value: /etc/anklang/tls/{{ . }}
{{- end }}
{{- if dig "server" "tls" "require_client_certificate" false $.root.Values.config }}
{{- $folder := ternary "client" "tls" (ne .clientSecretName "") }}
- name: ANKLANG_CERTIFICATE
  value: /etc/anklang/{{ $folder }}/tls.crt
- name: ANKLANG_KEY
  value: /etc/anklang/{{ $folder }}/tls.key
{{- end }}
{{- end }}
{{- end }}

{{/* Secrets of TLS that pods mount: names of the folders, as JSON. */}}
{{- define "anklang.tlsFolders" -}}
{{- $folders := dict -}}
{{- with .Values.tls -}}
{{- if .secretName -}}
{{- $_ := set $folders "tls" .secretName -}}
{{- if .clientSecretName -}}
{{- $_ := set $folders "client" .clientSecretName -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $folders | toJson -}}
{{- end }}

{{/* A probe. Kubernetes' own probes of gRPC speak no TLS, and one of TCP would say nothing of the database. */}}
{{- define "anklang.probe" -}}
{{- if .root.Values.tls.secretName -}}
exec:
  command: [anklang, health, --service, {{ .service | quote }}]
{{- else -}}
grpc: {port: 50051{{ with .service }}, service: {{ . }}{{ end }}}
{{- end -}}
{{- end }}

{{/* A variable from a Secret. */}}
{{- define "anklang.secretEnv" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}

{{- define "anklang.alertLabels" -}}
{{- toYaml (mergeOverwrite (dict "severity" .severity) .root.Values.prometheusRule.alertLabels) -}}
{{- end }}
