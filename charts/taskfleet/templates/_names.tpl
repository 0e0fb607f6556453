{{/* Names and labels: one helper per thing, used by every template. */}}

{{/* The release's name, or <release>-taskfleet unless that would repeat itself. */}}
{{- define "taskfleet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "taskfleet" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-taskfleet" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Name of a component: (list . "api"). */}}
{{- define "taskfleet.name" -}}
{{- printf "%s-%s" (include "taskfleet.fullname" (first .)) (last .) -}}
{{- end -}}

{{/* Name of what is cluster-wide: two releases of the same name live in two namespaces. */}}
{{- define "taskfleet.clusterName" -}}
{{- printf "%s-%s" (first .).Release.Namespace (include "taskfleet.name" .) -}}
{{- end -}}

{{/* What selects the pods of a component. Selectors cannot be changed: nothing may ever be added here. */}}
{{- define "taskfleet.selector" -}}
app.kubernetes.io/name: taskfleet
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{/* Labels of every object of a component. */}}
{{- define "taskfleet.labels" -}}
{{- $root := first . -}}
{{ include "taskfleet.selector" . }}
app.kubernetes.io/part-of: taskfleet
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: without those that change with each release, so that an upgrade replaces only what it changes. */}}
{{- define "taskfleet.podLabels" -}}
{{- $root := first . -}}
{{ include "taskfleet.selector" . }}
app.kubernetes.io/part-of: taskfleet
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name, namespace and labels of an object: (list . "api"). */}}
{{- define "taskfleet.metadata" -}}
name: {{ include "taskfleet.name" . }}
namespace: {{ (first .).Release.Namespace }}
labels:
  {{- include "taskfleet.labels" . | nindent 2 }}
{{- end -}}

{{/* An image: (list . .Values.api.image "own"|"official"). Own images follow image.tag and then the chart's version. */}}
{{- define "taskfleet.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- $tag := $image.tag -}}
{{- if eq (index . 2) "own" -}}{{- $tag = coalesce $image.tag $root.Values.image.tag $root.Chart.AppVersion -}}{{- end -}}
{{- $registry := $image.registry | default $root.Values.image.registry -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ $image.repository }}
{{- with $image.digest }}@{{ . }}{{ else }}:{{ $tag }}{{ end }}
{{- end -}}

{{/* Host of a service for everybody in the cluster: workers live in other namespaces. */}}
{{- define "taskfleet.host" -}}
{{- printf "%s.%s.svc" (include "taskfleet.name" .) (first .).Release.Namespace -}}
{{- end -}}

{{/* "yes" when an object does not exist yet or is this release's: (list . (lookup ...)). Helm refuses to take over others. */}}
{{- define "taskfleet.isOurs" -}}
{{- $root := first . -}}
{{- $annotations := dig "metadata" "annotations" (dict) (last . | default dict) | default dict -}}
{{- $release := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- if or (not (last .)) (and (eq $release $root.Release.Name) (eq $namespace $root.Release.Namespace)) -}}
yes
{{- end -}}
{{- end -}}
