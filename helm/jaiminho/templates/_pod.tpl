{{/*
The pod of a stage, the console, the scaler or the test, from values as `defaults` has them. Takes root, model, values, selector
(of its labels), args, ports (by name), object (its name); and perhaps grace (of a stage), probes (what each asks).
*/}}
{{- define "jaiminho.pod" -}}
{{- $values := .values -}}
{{- $root := .root -}}
metadata:
  annotations:
    checksum/pipeline: {{ .model.checksum }}
    kubectl.kubernetes.io/default-container: jaiminho
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- .selector | nindent 4 }}
    {{- with merge (dict) $values.podLabels $root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "jaiminho.serviceAccount" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .grace }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  {{- range $key := list "priorityClassName" "runtimeClassName" "nodeSelector" "tolerations" "affinity" "hostAliases" "schedulerName" "dnsPolicy" "dnsConfig" "initContainers" }}
  {{- with get $values $key }}
  {{- dict $key . | toYaml | nindent 2 }}
  {{- end }}
  {{- end }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- merge (dict) . (dict "labelSelector" (dict "matchLabels" (fromYaml $.selector))) | list | toYaml | nindent 4 }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  containers:
    - name: jaiminho
      image: {{ include "jaiminho.image" (dict "root" $root "own" ($values.image | default dict)) }}
      imagePullPolicy: {{ ($values.image | default dict).pullPolicy | default $root.Values.image.pullPolicy }}
      args:
        {{- toYaml (concat .args $values.extraArgs) | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom: { fieldRef: { fieldPath: metadata.name } }
        - name: JAIMINHO_FILE
          value: /etc/jaiminho/pipeline.yaml
        {{- range $name, $value := $values.env }}
        - name: {{ $name | quote }}
          {{- if kindIs "map" $value }}
          valueFrom:
            {{- toYaml $value | nindent 12 }}
          {{- else }}
          value: {{ ternary (printf "%.0f" $value) (toString $value) (and (kindIs "float64" $value) (eq $value (floor $value))) | quote }}
          {{- end }}
        {{- end }}
      {{- with $values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .ports }}
      ports:
        {{- range $name, $port := . }}
        - { name: {{ $name }}, containerPort: {{ $port }} }
        {{- end }}
      {{- end }}
      {{- range $probe, $asks := .probes }}
      {{- with get $values $probe }}
      {{ $probe }}:
        {{- merge (dict) (deepCopy $asks) . | toYaml | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- if and .grace $values.preStopSeconds }}
      lifecycle:
        preStop: { sleep: { seconds: {{ $values.preStopSeconds }} } }
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        - { name: pipeline, mountPath: /etc/jaiminho, readOnly: true }
        {{- range $secret, $folder := include "jaiminho.secrets" . | fromJson }}
        - { name: {{ printf "secret-%s" $secret | replace "." "-" }}, mountPath: {{ $folder }}, readOnly: true }
        {{- end }}
        {{- if .volume }}
        - { name: data, mountPath: {{ $values.persistence.mountPath }} }
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: pipeline
      configMap:
        name: {{ include "jaiminho.fullname" $root }}-pipeline
        items:
          {{- toYaml .model.files | nindent 10 }}
    {{- range $secret, $_ := include "jaiminho.secrets" . | fromJson }}
    - name: {{ printf "secret-%s" $secret | replace "." "-" }}
      secret: { secretName: {{ $secret | quote }}, defaultMode: 0440 }
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* Secrets that are mounted, and where. */}}
{{- define "jaiminho.secrets" -}}
{{- $secret := .root.Values.tls.secretName | default (printf "%s-tls" .object) -}}
{{- $tls := ternary (dict $secret "/run/secrets/tls") dict .root.Values.tls.enabled -}}
{{- merge (dict) .values.secrets $tls | toJson -}}
{{- end }}

{{/* One that names its repository says the rest, too; one with a tag is not that of another digest. Takes root and own. */}}
{{- define "jaiminho.image" -}}
{{- $given := ternary dict (ternary (omit .root.Values.image "digest") .root.Values.image (not (empty .own.tag))) (not (empty .own.repository)) -}}
{{- with merge (dict) .own $given -}}
{{- if not .repository -}}
  {{- fail "image.repository: say where the image is that you have built and pushed, as registry.example/jaiminho; `Releases and images` in the README of Jaiminho makes one" -}}
{{- end -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest | quote -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.root.Chart.AppVersion) | quote -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
The values of a pod that is no stage's: `defaults`, without what makes a stage of it and without Secrets, but for those with the
certificates of links; and what is said over them. Takes root, model, over.
*/}}
{{- define "jaiminho.podValues" -}}
{{- $links := list -}}
{{- range .model.pipeline.stages }}{{ $links = append $links (dict "tls" .tls) }}{{ end -}}
{{- $paths := include "jaiminho.paths" $links | splitList "\n" -}}
{{- $secrets := dict -}}
{{- range $secret, $folder := .root.Values.defaults.secrets -}}
  {{- range $paths }}{{ if hasPrefix (printf "%s/" (trimSuffix "/" $folder)) (trim .) }}{{ $_ := set $secrets $secret $folder }}{{ end }}{{ end -}}
{{- end -}}
{{- $values := deepCopy .root.Values.defaults -}}
{{- $_ := set $values "secrets" $secrets -}}
{{- range list "initContainers" "extraContainers" "extraArgs" }}{{ $_ := set $values . list }}{{ end -}}
{{- include "jaiminho.overlay" (dict "base" $values "over" .over) -}}
{{- toJson $values -}}
{{- end }}
