{{/* Names, labels, and small pure functions. What is derived from the pipeline stands in _model.tpl. */}}

{{- define "jaiminho.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end }}

{{- define "jaiminho.selector" -}}
app.kubernetes.io/name: jaiminho
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The labels of one stage's pods. Takes root and name. */}}
{{- define "jaiminho.stageSelector" -}}
{{ include "jaiminho.selector" .root }}
jaiminho/stage: {{ .name | quote }}
{{- end }}

{{/* metadata of an object. Takes root, name, and perhaps stage, labels, annotations. */}}
{{- define "jaiminho.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "jaiminho.selector" .root | nindent 2 }}
  {{- with .stage }}
  jaiminho/stage: {{ . | quote }}
  {{- end }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
  {{- with merge (dict) (.labels | default dict) .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "jaiminho.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "jaiminho.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{/* Lays `over` over `base`, in place, as the pipeline file's profiles do: maps merge, lists and scalars replace, null removes. */}}
{{- define "jaiminho.overlay" -}}
{{- $base := .base -}}
{{- range $key, $value := .over -}}
  {{- if kindIs "invalid" $value -}}
    {{- $_ := unset $base $key -}}
  {{- else if and (kindIs "map" $value) (kindIs "map" (get $base $key)) -}}
    {{- include "jaiminho.overlay" (dict "base" (get $base $key) "over" $value) -}}
  {{- else -}}
    {{- $_ := set $base $key $value -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* `1m30s` as whole seconds, rounded up. Takes where it stands, too. */}}
{{- define "jaiminho.seconds" -}}
{{- $text := nospace .text -}}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h|d))+$" $text) -}}
  {{- fail (printf "%s is `%s`: the chart needs a duration with its unit, as 25s or 1m30s" .where .text) -}}
{{- end -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $ms := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" $text -1 -}}
  {{- $ms = add $ms (mul (regexFind "^[0-9]+" . | atoi) (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- div (add $ms 999) 1000 -}}
{{- end }}

{{/* The paths of files that a part of the pipeline names, one a line. */}}
{{- define "jaiminho.paths" -}}
{{- if kindIs "slice" . -}}
  {{- range . }}{{ include "jaiminho.paths" . }}{{ end -}}
{{- else if kindIs "map" . -}}
  {{- range $key, $value := omit . "headers" "outputs" -}}
    {{- if and (has $key (list "file" "tokens_file")) (kindIs "string" $value) }}{{ println $value }}
    {{- else if and (eq $key "tls") (kindIs "map" $value) -}}
      {{- range list "ca" "cert" "key" }}{{ with get $value . }}{{ println . }}{{ end }}{{ end -}}
      {{- include "jaiminho.paths" $value -}}
    {{- else if and (eq $key "file") (kindIs "map" $value) }}{{ with $value.path }}{{ println . }}{{ end }}
    {{- else }}{{ include "jaiminho.paths" $value }}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* The name of a file in the ConfigMap, whose keys have no slashes. */}}
{{- define "jaiminho.fileKey" -}}
{{- . | replace "/" "__" -}}
{{- end }}

{{/* The port at which a stage's edge Service has one of its edges. Takes stage and edge. */}}
{{- define "jaiminho.servicePort" -}}
{{- $first := first .stage.edges -}}
{{- ternary (.stage.values.service.port | default .edge.port) .edge.port (eq .edge.port $first.port) | int -}}
{{- end }}

{{/* The pods of some stages, as a peer of a NetworkPolicy. */}}
{{- define "jaiminho.peers" -}}
- podSelector:
    matchLabels:
      {{- include "jaiminho.selector" .root | nindent 6 }}
    matchExpressions: [{ key: jaiminho/stage, operator: In, values: {{ .stages | uniq | sortAlpha | toJson }} }]
{{- end }}

{{/* Ports at which the instances of a stage are that runs elsewhere, as `at` says: a JSON list for a NetworkPolicy. One that the file does not tell, as with `srv`, is any. */}}
{{- define "jaiminho.portsElsewhere" -}}
{{- $ports := list -}}
{{- range concat (list .dns .srv) (.list | default list) | compact -}}
  {{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" -}}
  {{- $ports = append $ports (ternary (dict "port" (atoi $port)) (dict "protocol" "TCP") (ne $port "")) -}}
{{- end -}}
{{- toJson $ports -}}
{{- end }}

{{/* Whom a pod may reach: names, some stages, collectors of telemetry, and what its values say. Takes root, model, values, stages, open. */}}
{{- define "jaiminho.egress" -}}
{{- $here := list -}}
{{- $elsewhere := list -}}
{{- range .stages -}}
  {{- if hasKey $.model.stages . -}}
    {{- $here = append $here . -}}
  {{- else -}}
    {{- $elsewhere = concat $elsewhere (include "jaiminho.portsElsewhere" (get $.model.pipeline.stages .).at | fromJsonArray) -}}
  {{- end -}}
{{- end -}}
{{- $open := and .open (kindIs "invalid" .values.egress) -}}
{{- if $open -}}
- {}
{{- else -}}
{{- with .root.Values.networkPolicy.dnsPorts -}}
- ports:
    {{- range . }}
    - { port: {{ . }}, protocol: UDP }
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
{{- end }}
{{- with $here }}
- to:
    {{- include "jaiminho.peers" (dict "root" $.root "stages" .) | nindent 4 }}
{{- end }}
{{- with $elsewhere }}
# Stages that run elsewhere, wherever that is.
- ports:
    {{- uniq . | toYaml | nindent 4 }}
{{- end }}
{{- with include "jaiminho.telemetryPorts" (dict "pipeline" .model.pipeline "env" .values.env) | fromJsonArray }}
- ports:
    {{- range . }}
    - { port: {{ . }}, protocol: TCP }
    - { port: {{ . }}, protocol: UDP }
    {{- end }}
{{- end }}
{{- with .values.egress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end }}
