{{/*
What the chart makes of the pipeline, as JSON, for all templates:

  pipeline       the file as it is mounted: profile laid over it, `at` and `tls` filled in
  files          where `pipeline` and `files` are in the ConfigMap, as a volume's items
  checksum       of both; a new number of replicas doesn't change it
  stages         by name, of those that run here:
    values         `defaults` with what `stages` says over it
    kind, object   Deployment or StatefulSet, and its name
    service, port  its headless Service
    edges          ports and paths of HTTP and WebSocket: [{ name, port, path, tls, ca, tokens }]; the last two: what clients need
    producers      the stages that it consumes
    consumers      the stages that consume it
    grace          seconds from SIGTERM's announcement to SIGKILL
    open           whether it talks to the world
*/}}
{{- define "jaiminho.model" -}}
{{- /* A key without a value takes the chart's own away. */ -}}
{{- if not .Values.defaults }}{{ fail "defaults: has no value; leave it out, and the chart's own hold" }}{{ end -}}
{{- range list "files" "stages" }}{{ $_ := set $.Values . (get $.Values . | default dict) }}{{ end -}}
{{- range list "env" "secrets" }}{{ $_ := set $.Values.defaults . (get $.Values.defaults . | default dict) }}{{ end -}}
{{- $pipeline := include "jaiminho.pipeline" . | fromJson -}}
{{- $producers := include "jaiminho.producers" $pipeline | fromJson -}}
{{- include "jaiminho.known" (dict "root" . "pipeline" $pipeline "producers" $producers) -}}
{{- $stages := dict -}}
{{- range $name, $stage := $pipeline.stages -}}
  {{- $made := include "jaiminho.stage" (dict "root" $ "name" $name "stage" $stage "pipeline" $pipeline) | fromJson -}}
  {{- $_ := set $stage "at" ($stage.at | default (dict "dns" (printf "%s:%v" $made.service $made.port))) -}}
  {{- if ne $made.values.enabled false -}}
    {{- $consumers := list -}}
    {{- range $consumer, $of := $producers -}}
      {{- if has $name $of }}{{ $consumers = append $consumers $consumer }}{{ end -}}
    {{- end -}}
    {{- $_ := set $stages $name (merge $made (dict "producers" (get $producers $name) "consumers" $consumers)) -}}
  {{- end -}}
{{- end -}}
{{- include "jaiminho.checkNames" (dict "root" . "stages" $stages) -}}
{{- include "jaiminho.checkLinks" (dict "pipeline" $pipeline "stages" $stages) -}}
{{- $items := list (dict "key" "pipeline.yaml" "path" "pipeline.yaml") -}}
{{- range $path, $_ := .Values.files }}{{ $items = append $items (dict "key" (include "jaiminho.fileKey" $path) "path" $path) }}{{ end -}}
{{- $counted := deepCopy $pipeline -}}
{{- range $counted.stages }}{{ $_ := unset . "replicas" }}{{ end -}}
{{- $checksum := toJson (list $counted .Values.files) | sha256sum -}}
{{- dict "pipeline" $pipeline "files" $items "checksum" $checksum "stages" $stages | toJson -}}
{{- end }}

{{/* The pipeline with its profile laid over it. */}}
{{- define "jaiminho.pipeline" -}}
{{- $pipeline := .Values.pipeline -}}
{{- if not $pipeline -}}
  {{- fail "there is no pipeline: put the pipeline file into your values, below `pipeline:`, or give it as it is with --set-file pipeline=pipeline.yaml" -}}
{{- end -}}
{{- if kindIs "string" $pipeline -}}
  {{- $pipeline = fromYaml $pipeline -}}
  {{- with $pipeline.Error }}{{ fail (printf "pipeline is no YAML map: %s" .) }}{{ end -}}
{{- end -}}
{{- $pipeline = deepCopy ($pipeline | default dict) -}}
{{- with .Values.profile -}}
  {{- $profiles := $pipeline.profiles | default dict -}}
  {{- if not (hasKey $profiles .) -}}
    {{- fail (printf "profile: the pipeline has no profile `%s`; it has: %s" . (keys $profiles | sortAlpha | join ", " | default "none")) -}}
  {{- end -}}
  {{- include "jaiminho.overlay" (dict "base" $pipeline "over" (get $profiles .)) -}}
{{- end -}}
{{- if not (and $pipeline.stages (kindIs "map" $pipeline.stages)) -}}
  {{- fail "pipeline.stages: the pipeline has no stages" -}}
{{- end -}}
{{- range $name, $stage := $pipeline.stages -}}
  {{- if not (kindIs "map" $stage) -}}
    {{- fail (printf "pipeline.stages.%s is no map: a stage has one of source, transform and sink" $name) -}}
  {{- else if not (kindIs "slice" ($stage.subscribe_to | default list)) -}}
    {{- fail (printf "pipeline.stages.%s.subscribe_to is no list: it names stages, as [ingest]" $name) -}}
  {{- end -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
  {{- $folder := "/run/secrets/tls" -}}
  {{- $tls := dict "ca" (printf "%s/ca.crt" $folder) "cert" (printf "%s/tls.crt" $folder) "key" (printf "%s/tls.key" $folder) -}}
  {{- with .Values.tls.serverName }}{{ $_ := set $tls "server_name" . }}{{ end -}}
  {{- range $pipeline.stages }}{{ $_ := set . "tls" (.tls | default $tls) }}{{ end -}}
{{- end -}}
{{- omit $pipeline "profiles" | toJson -}}
{{- end }}

{{/* A subscription in its long form. */}}
{{- define "jaiminho.subscription" -}}
{{- if kindIs "string" . }}{{ dict "stage" . | toJson }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{/* Who consumes whom, `before` carried out: the producers of each stage. */}}
{{- define "jaiminho.producers" -}}
{{- $producers := dict -}}
{{- range $name, $stage := .stages -}}
  {{- $of := list -}}
  {{- range $stage.subscribe_to -}}
    {{- $wanted := include "jaiminho.subscription" . | fromJson -}}
    {{- $of = append $of (splitList "." $wanted.stage | first) -}}
  {{- end -}}
  {{- $_ := set $producers $name (uniq $of) -}}
{{- end -}}
{{- range $name, $stage := .stages -}}
  {{- with $stage.before -}}
    {{- $_ := set $producers $name (get $producers . | default list) -}}
    {{- $_ := set $producers . (list $name) -}}
  {{- end -}}
{{- end -}}
{{- toJson $producers -}}
{{- end }}

{{/* One stage as the model has it, without its neighbours. Takes root, name, stage, pipeline. */}}
{{- define "jaiminho.stage" -}}
{{- $own := get .root.Values.stages .name | default dict -}}
{{- $values := deepCopy .root.Values.defaults -}}
{{- include "jaiminho.overlay" (dict "base" $values "over" $own) -}}
{{- $given := merge (dict "where" (printf "stages.%s" .name) "own" $own "values" $values) . -}}
{{- include "jaiminho.counted" $given -}}
{{- $object := include "jaiminho.object" $given -}}
{{- $made := dict "values" $values "kind" (ternary "StatefulSet" "Deployment" $values.persistence.enabled) "object" $object
      "service" $object "port" 7400 "grace" (include "jaiminho.grace" $given | int) "open" false -}}
{{- with (.stage.at | default dict).dns -}}
  {{- $_ := set $made "port" (regexFind "[0-9]+$" . | default "7400" | atoi) -}}
  {{- if regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?:[0-9]+$" . }}{{ $_ := set $made "service" (splitList ":" . | first) }}{{ end -}}
{{- end -}}
{{- $_ := set $made "edges" (include "jaiminho.edges" . | fromJsonArray) -}}
{{- $closed := list "http" "websocket" "acknowledge" "type" "source" "headers" "tokens_file" "cors" "webhook" "limits" "drain_delay"
      "generate" "stdout" "file" "blackhole" -}}
{{- range $component, $_ := merge (dict) (.stage.source | default dict) (.stage.sink | default dict) -}}
  {{- if not (has $component $closed) }}{{ $_ := set $made "open" true }}{{ end -}}
{{- end -}}
{{- include "jaiminho.check" (merge (dict "made" $made) $given) -}}
{{- toJson $made -}}
{{- end }}

{{/* The name of a stage's objects. */}}
{{- define "jaiminho.object" -}}
{{- $object := printf "%s-%s" (include "jaiminho.fullname" .root) .name | replace "_" "-" -}}
{{- if gt (len $object) 52 -}}
  {{- fail (printf "%s: its objects would be named `%s`, longer than the 52 characters that leave room for what Kubernetes appends: set a shorter fullnameOverride, or rename the stage" .where $object) -}}
{{- else if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $object) -}}
  {{- fail (printf "%s: its objects would be named `%s`, which is no name in Kubernetes (lower-case letters, digits and `-`, a letter first and none but `-` after it last): set fullnameOverride, or rename the stage" .where $object) -}}
{{- end -}}
{{- $object -}}
{{- end }}

{{/* Fills in how many pods there are, in place: the value, else what the pipeline file says, else 1. */}}
{{- define "jaiminho.counted" -}}
{{- $scaling := .values.autoscaling -}}
{{- if and (or $scaling.enabled $scaling.external) (not (kindIs "invalid" .own.replicas)) -}}
  {{- fail (printf "%s has replicas and autoscaling: a scaler owns the number of pods, so leave replicas out, and set autoscaling.minReplicas and maxReplicas" .where) -}}
{{- end -}}
{{- if kindIs "invalid" .values.replicas -}}
  {{- $_ := set .values "replicas" (ternary 1 .stage.replicas (kindIs "invalid" .stage.replicas)) -}}
{{- end -}}
{{- if kindIs "invalid" $scaling.minReplicas }}{{ $_ := set $scaling "minReplicas" (max 1 (int .values.replicas)) }}{{ end -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
  {{- fail (printf "%s.autoscaling: minReplicas is %v, above maxReplicas, which is %v" .where $scaling.minReplicas $scaling.maxReplicas) -}}
{{- end -}}
{{- end }}

{{/* Seconds that a pod is given to end: it goes on for preStopSeconds, drains, and has 15 for its connections to close. */}}
{{- define "jaiminho.grace" -}}
{{- $drain := include "jaiminho.seconds" (dict "text" (.stage.drain | default "25s") "where" (printf "pipeline.stages.%s.drain" .name)) | int -}}
{{- $least := add $drain (int .values.preStopSeconds) 15 -}}
{{- $grace := .values.terminationGracePeriodSeconds | default $least -}}
{{- if lt (int $grace) (int $least) -}}
  {{- fail (printf "%s.terminationGracePeriodSeconds is %v: a pod needs %v, to go on (preStopSeconds, %v), to drain (%v) and to close (15)" .where $grace $least .values.preStopSeconds $drain) -}}
{{- end -}}
{{- $grace -}}
{{- end }}

{{/* Ports and paths of a stage's HTTP and WebSocket source, as a JSON list. A WebSocket without a port of its own shares that of HTTP. */}}
{{- define "jaiminho.edges" -}}
{{- $edges := list -}}
{{- $source := .stage.source | default dict -}}
{{- $where := printf "pipeline.stages.%s.source" .name -}}
{{- $port := 0 -}}
{{- range list (list "http" "0.0.0.0:8080" "/events") (list "websocket" "" "/ws") -}}
  {{- $name := first . -}}
  {{- $settings := get $source $name -}}
  {{- if kindIs "map" $settings -}}
    {{- with $settings.listen | default (index . 1) -}}
      {{- $port = include "jaiminho.port" (dict "text" . "where" (printf "%s.%s.listen" $where $name)) | int -}}
    {{- end -}}
    {{- $edges = append $edges (dict "name" $name "port" $port "path" ($settings.path | default (last .)) "tls" (not (empty $settings.tls))
        "ca" (not (empty ($settings.tls | default dict).ca)) "tokens" (not (empty $source.tokens_file))) -}}
  {{- end -}}
{{- end -}}
{{- toJson $edges -}}
{{- end }}

{{/* The edge that `helm test` posts to, the first that speaks HTTP, with its stage, its Service's host and port; `{}` if there is none. Takes the model. */}}
{{- define "jaiminho.testEdge" -}}
{{- $found := dict -}}
{{- range $name, $stage := .stages -}}
  {{- range $edge := $stage.edges -}}
    {{- if and (not $found) (eq $edge.name "http") -}}
      {{- $port := include "jaiminho.servicePort" (dict "stage" $stage "edge" $edge) -}}
      {{- $found = merge (dict "stage" $name "host" (printf "%s-edge" $stage.object) "port" $port) $edge -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* The port of an address that others can reach. */}}
{{- define "jaiminho.port" -}}
{{- if not (regexMatch "^.+:[0-9]+$" .text) -}}
  {{- fail (printf "%s is `%s`: the chart needs a port in figures, as in 0.0.0.0:8080" .where .text) -}}
{{- else if regexMatch "^(127\\.|localhost:|\\[::1\\])" .text -}}
  {{- fail (printf "%s is `%s`, which only the pod itself reaches: listen on 0.0.0.0, or [::]" .where .text) -}}
{{- end -}}
{{- regexFind "[0-9]+$" .text -}}
{{- end }}

{{/* Ports of the collectors that telemetry goes to, where none is given that of the scheme, as a JSON list. Takes the pipeline and the variables of a pod. */}}
{{- define "jaiminho.telemetryPorts" -}}
{{- $telemetry := .pipeline.telemetry | default dict -}}
{{- $metrics := $telemetry.metrics | default dict -}}
{{- $ports := list -}}
{{- range list (dig "traces" "endpoint" "" $telemetry) (dig "otlp" "endpoint" "" $metrics) (dig "statsd" "address" "" $metrics)
      .env.OTEL_EXPORTER_OTLP_ENDPOINT .env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT .env.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT -}}
  {{- with toString (. | default "") | regexFind "^(https?://)?[^/]+" -}}
    {{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" | default (hasPrefix "https:" . | ternary "443" "") | default (hasPrefix "http:" . | ternary "80" "") -}}
    {{- with $port }}{{ $ports = append $ports (atoi .) }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end }}
