{{/* What would fail in the cluster, refused before: each message says what is wrong, where, and what would be right. */}}

{{/* Refuses stages that there are not, and `tls` without certificates. Takes root, pipeline, producers. */}}
{{- define "jaiminho.known" -}}
{{- $names := keys .pipeline.stages | sortAlpha -}}
{{- range $name, $_ := .root.Values.stages -}}
  {{- if not (has $name $names) -}}
    {{- fail (printf "stages.%s: the pipeline has no such stage; it has: %s" $name (join ", " $names)) -}}
  {{- end -}}
{{- end -}}
{{- range $consumer, $of := .producers -}}
  {{- range $of -}}
    {{- if not (has . $names) -}}
      {{- fail (printf "pipeline.stages.%s subscribes to `%s`, and the pipeline has no such stage; it has: %s" $consumer . (join ", " $names)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- with .root.Values.tls -}}
  {{- if and .enabled (not (or .secretName .certManager.issuerRef)) -}}
    {{- fail "tls.enabled needs tls.secretName, a Secret with ca.crt, tls.crt and tls.key; or tls.certManager.issuerRef, who signs a certificate for each stage" -}}
  {{- else if and .certManager.issuerRef (or .secretName .serverName) -}}
    {{- fail "tls.certManager.issuerRef makes a Secret for each stage, with the names of its Service: leave tls.secretName and tls.serverName out" -}}
  {{- end -}}
{{- end -}}
{{- if (dig "telemetry" "admin" "tls" "" .pipeline | default dict).ca -}}
  {{- fail "pipeline.telemetry.admin.tls.ca asks for clients' certificates, and Kubernetes' probes have none: leave it out, and say by networkPolicy.monitoringFrom who may reach the admin port" -}}
{{- end -}}
{{- end }}

{{/* Refuses two workloads or Services of one name. */}}
{{- define "jaiminho.checkNames" -}}
{{- $names := list -}}
{{- range .stages -}}
  {{- $names = concat $names (list .object .service | uniq) -}}
  {{- if .edges }}{{ $names = append $names (printf "%s-edge" .object) }}{{ end -}}
{{- end -}}
{{- range list "console" "scaler" }}{{ $names = append $names (printf "%s-%s" (include "jaiminho.fullname" $.root) .) }}{{ end -}}
{{- $seen := list -}}
{{- range $names -}}
  {{- if has . $seen -}}
    {{- fail (printf "pipeline.stages: two things would be named `%s` in Kubernetes, where `_` is `-`, an HTTP source has an `edge`, and there are a `console` and a `scaler`: rename a stage" .) -}}
  {{- end -}}
  {{- $seen = append $seen . -}}
{{- end -}}
{{- end }}

{{/*
Refuses more pods than a neighbour links to: those that consume one output, and those that one stage consumes, each with one more while
they are replaced. Takes pipeline and stages.
*/}}
{{- define "jaiminho.checkLinks" -}}
{{- $sides := dict -}}
{{- range $consumer, $of := .pipeline.stages -}}
  {{- range $wanted := $of.subscribe_to -}}
    {{- $wanted = include "jaiminho.subscription" $wanted | fromJson -}}
    {{- $producer := splitList "." $wanted.stage | first -}}
    {{- if not $wanted.producers -}}
      {{- range list (list $producer $wanted.stage $consumer) (list $consumer "" $producer) -}}
        {{- $key := printf "%s/%s" (first .) (index . 1) -}}
        {{- $side := get $sides $key | default (dict "stage" (first .) "pods" 0 "of" list) -}}
        {{- $neighbour := last . -}}
        {{- with get $.stages $neighbour -}}
          {{- $scaling := .values.autoscaling -}}
          {{- $most := ternary $scaling.maxReplicas .values.replicas (not (empty $scaling.enabled)) | int -}}
          {{- $pods := add $side.pods $most (ternary 1 0 (eq .kind "Deployment")) -}}
          {{- $_ := set $sides $key (dict "stage" $side.stage "pods" $pods "of" (append $side.of $neighbour)) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $sides -}}
  {{- $links := ((get $.pipeline.stages .stage | default dict).limits | default dict).links | default 32 | toString -}}
  {{- if and (regexMatch "^[0-9]+$" $links) (gt (int .pods) (int $links)) -}}
    {{- fail (printf "`%s` links to %s, and there may be %d pods of %s while they are replaced: raise pipeline.stages.%s.limits.links, with which its memory grows, or have fewer (replicas, autoscaling.maxReplicas)" .stage $links (int .pods) (join ", " .of) .stage) -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* Refuses a stage that could not run. Takes what `jaiminho.stage` has, and what it has made. */}}
{{- define "jaiminho.check" -}}
{{- $taken := list (int .made.port) 9464 -}}
{{- range .made.edges -}}
  {{- if has (int .port) $taken -}}
    {{- fail (printf "pipeline.stages.%s.source.%s listens on port %v, which is taken: %v is for other stages, 9464 for probes and metrics" $.name .name .port $.made.port) -}}
  {{- end -}}
{{- end -}}
{{- if and (not .made.edges) (or (dig "ingress" "enabled" false .own) (dig "httpRoute" "enabled" false .own)) -}}
  {{- fail (printf "%s: ingress and httpRoute are for a stage with an HTTP or WebSocket source, which `%s` has not" .where .name) -}}
{{- end -}}
{{- if and .values.autoscaling.enabled (lt (int .values.autoscaling.minReplicas) 1) (not .root.Values.keda.enabled) -}}
  {{- fail (printf "%s.autoscaling.minReplicas is 0, and nothing would start the first pod: that takes keda.enabled" .where) -}}
{{- end -}}
{{- if .values.autoscaling.enabled }}{{ include "jaiminho.checkScaling" . }}{{ end -}}
{{- if and (eq .values.enabled false) (not .stage.at) -}}
  {{- fail (printf "%s.enabled is false, so the chart can't know where the stage is: give it an `at` in the pipeline" .where) -}}
{{- end -}}
{{- if ne .values.enabled false -}}
  {{- include "jaiminho.checkBroker" . -}}
  {{- include "jaiminho.checkVariables" . -}}
  {{- include "jaiminho.checkFiles" . -}}
{{- end -}}
{{- end }}

{{/* What its scaler would not look at. */}}
{{- define "jaiminho.checkScaling" -}}
{{- $keda := .root.Values.keda.enabled -}}
{{- range $key := ternary (list "metrics" "targetCPUUtilizationPercentage") (list "metadata" "triggers") $keda -}}
  {{- with get $.values.autoscaling $key -}}
    {{- if and $keda (or (eq $key "metrics") (ne (int .) 80)) -}}
      {{- fail (printf "%s.autoscaling.%s is for a HorizontalPodAutoscaler without KEDA: with keda.enabled say it by autoscaling.metadata and triggers" $.where $key) -}}
    {{- else if not $keda -}}
      {{- fail (printf "%s.autoscaling.%s is for KEDA: set keda.enabled, or say it by autoscaling.metrics" $.where $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* The embedded broker is that of one process. */}}
{{- define "jaiminho.checkBroker" -}}
{{- range $role := list "source" "sink" -}}
  {{- $servers := dig $role "kafka" "bootstrap_servers" "" $.stage | toString -}}
  {{- $variable := regexReplaceAll "^\\$\\{([A-Za-z0-9_]+):-embedded\\}$" $servers "${1}" -}}
  {{- $where := printf "pipeline.stages.%s.%s.kafka.bootstrap_servers" $.name $role -}}
  {{- if eq $servers "embedded" -}}
    {{- fail (printf "%s is `embedded`, the broker inside of `jaiminho up`, which no other pod can reach: name real brokers, as kafka:9092" $where) -}}
  {{- else if and (ne $variable $servers) (not (get $.values.env $variable)) (not $.values.envFrom) -}}
    {{- fail (printf "%s is `%s`, and nothing sets %s: without it that is the broker inside of `jaiminho up`, which no other pod can reach. Set defaults.env.%s, as kafka:9092" $where $servers $variable $variable) -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* Each pod reads the whole file, so each needs all variables without a default. */}}
{{- define "jaiminho.checkVariables" -}}
{{- if not .values.envFrom -}}
  {{- range regexFindAll "\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}" (toJson .pipeline | replace "$$" "") -1 | uniq -}}
    {{- $variable := trimAll "${}" . -}}
    {{- if not (hasKey $.values.env $variable) -}}
      {{- fail (printf "%s: nothing sets %s, which the pipeline names, and each stage reads all of it: set defaults.env.%s" $.where . $variable) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* Files beside the pipeline are in `files`; others are where something is mounted. */}}
{{- define "jaiminho.checkFiles" -}}
{{- $mounts := list -}}
{{- range .values.secrets }}{{ $mounts = append $mounts . }}{{ end -}}
{{- range .values.extraVolumeMounts }}{{ $mounts = append $mounts .mountPath }}{{ end -}}
{{- if .values.persistence.enabled }}{{ $mounts = append $mounts .values.persistence.mountPath }}{{ end -}}
{{- if .root.Values.tls.enabled }}{{ $mounts = append $mounts "/run/secrets/tls" }}{{ end -}}
{{- $own := include "jaiminho.paths" .stage | splitList "\n" | compact -}}
{{- range concat $own (dig "telemetry" "admin" dict .pipeline | include "jaiminho.paths" | splitList "\n" | compact) -}}
  {{- $path := trim . -}}
  {{- $of := ternary (printf "pipeline.stages.%s" $.name) "pipeline.telemetry.admin" (has . $own) -}}
  {{- $found := or (hasKey $.root.Values.files (trimPrefix "./" $path)) (contains "${" $path) (has $path (list "/dev/stdout" "/dev/stderr" "/dev/null")) -}}
  {{- range $mounts }}{{ $found = or $found (eq . $path) (hasPrefix (printf "%s/" (trimSuffix "/" .)) $path) }}{{ end -}}
  {{- if and (not $found) (isAbs $path) -}}
    {{- fail (printf "%s names the file %s, and nothing is mounted there: a Secret by %s.secrets, other volumes by extraVolumes and extraVolumeMounts, a disk by persistence" $of $path $.where) -}}
  {{- else if not $found -}}
    {{- fail (printf "%s names the file `%s`, and `files` has no such file: add it, or give it with --set-file" $of $path) -}}
  {{- end -}}
{{- end -}}
{{- end }}
