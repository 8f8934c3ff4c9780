{{/*
A pod that looks at the stages, its Service, and who may reach it. Takes root, name, args, port, portName, asks (what its
probes do), over (values over `defaults`), from (peers of a NetworkPolicy).
*/}}
{{- define "jaiminho.companion" -}}
{{- $model := include "jaiminho.model" .root | fromJson -}}
{{- $values := include "jaiminho.podValues" (merge (dict "model" $model) .) | fromJson -}}
{{- $object := printf "%s-%s" (include "jaiminho.fullname" .root) .name -}}
{{- $selector := printf "%s\napp.kubernetes.io/component: %s" (include "jaiminho.selector" .root) .name -}}
{{- $labels := dict "app.kubernetes.io/component" .name -}}
{{- $metadata := include "jaiminho.metadata" (dict "root" .root "name" $object "annotations" $values.annotations "labels" $labels) -}}
{{- $probes := dict "startupProbe" .asks "livenessProbe" .asks "readinessProbe" .asks -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- $metadata | nindent 2 }}
spec:
  replicas: 1
  selector:
    matchLabels:
      {{- $selector | nindent 6 }}
  revisionHistoryLimit: {{ $values.revisionHistoryLimit }}
  template:
    {{- include "jaiminho.pod" (dict "root" .root "model" $model "values" $values "selector" $selector "args" .args
          "object" $object "ports" (dict .portName .port) "probes" $probes) | nindent 4 }}
---
apiVersion: v1
kind: Service
metadata:
  {{- $metadata | nindent 2 }}
spec:
  {{- with .root.Values.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  selector:
    {{- $selector | nindent 4 }}
  ports:
    - { name: {{ .portName }}, port: {{ .port }}, targetPort: {{ .portName }} }
{{- if .root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- $metadata | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- $selector | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with .from }}
  ingress:
    - from:
        {{- toYaml . | nindent 8 }}
      ports: [{ port: {{ $.port }} }]
  {{- end }}
  egress:
    {{- $stages := keys $model.pipeline.stages | sortAlpha }}
    {{- include "jaiminho.egress" (dict "root" .root "model" $model "values" $values "stages" $stages) | nindent 4 }}
{{- end }}
{{- end }}
