{{/* The one namespace that the operator serves with scope "namespace". */}}
{{- define "taskfleet.operator.namespace" -}}
{{- .Values.operator.namespace | default .Release.Namespace -}}
{{- end -}}

{{- define "taskfleet.operator.roleName" -}}
{{- include (ternary "taskfleet.clusterName" "taskfleet.name" (eq .Values.operator.scope "cluster")) (list . "operator") -}}
{{- end -}}

{{/* Metadata of the role and its binding: cluster-wide, or in the served namespace. */}}
{{- define "taskfleet.operator.roleMetadata" -}}
name: {{ include "taskfleet.operator.roleName" . }}
{{- if eq .Values.operator.scope "namespace" }}
namespace: {{ include "taskfleet.operator.namespace" . }}
{{- end }}
labels:
  {{- include "taskfleet.labels" (list . "operator") | nindent 2 }}
{{- end -}}
