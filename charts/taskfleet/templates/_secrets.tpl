{{/* Which secret holds what. An existing secret comes first; else one is generated once and kept. */}}

{{- define "taskfleet.brokerSecret" -}}
{{- .Values.rabbitmq.existingSecret | default (include "taskfleet.name" (list . "broker")) -}}
{{- end -}}

{{- define "taskfleet.valkeySecret" -}}
{{- .Values.valkey.existingSecret | default (include "taskfleet.name" (list . "valkey")) -}}
{{- end -}}

{{- define "taskfleet.databaseSecret" -}}
{{- .Values.database.existingSecret | default (include "taskfleet.name" (list . "database")) -}}
{{- end -}}

{{- define "taskfleet.adminKeySecret" -}}
{{- .Values.api.auth.existingSecret | default (include "taskfleet.name" (list . "admin-key")) -}}
{{- end -}}

{{- define "taskfleet.callbackSecret" -}}
{{- .Values.api.callbacks.existingSecret | default (include "taskfleet.name" (list . "callback-secrets")) -}}
{{- end -}}

{{- define "taskfleet.flowerSecret" -}}
{{- .Values.flower.existingSecret | default (include "taskfleet.name" (list . "flower")) -}}
{{- end -}}

{{/*
"yes" when there is a user for each role: (list .Values.rabbitmq). Generated secrets have them; one of the user's has a
single URL for all, unless it is said to have more.
*/}}
{{- define "taskfleet.hasRoles" -}}
{{- if or (not (first .).existingSecret) (first .).roleUrls -}}yes{{- end -}}
{{- end -}}

{{/* The key of a role's URL: (list .Values.rabbitmq "api"). */}}
{{- define "taskfleet.urlKey" -}}
{{- if include "taskfleet.hasRoles" . -}}{{ last . }}Url{{- else -}}url{{- end -}}
{{- end -}}

{{/*
A value that was generated before, or a new one: (list . SECRET-NAME KEY LENGTH).
Letters and digits only: it goes into URLs as it is.
*/}}
{{- define "taskfleet.generated" -}}
{{- $secret := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- $old := dig "data" (index . 2) "" ($secret | default dict) -}}
{{- if $old }}{{ $old | b64dec }}{{ else }}{{ randAlphaNum (index . 3) }}{{ end -}}
{{- end -}}

{{/* Head of a generated secret: (list . "broker" "rabbitmq") for <release>-broker of component rabbitmq. */}}
{{- define "taskfleet.generatedSecret" -}}
{{- $root := index . 0 -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "taskfleet.name" (list $root (index . 1)) }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "taskfleet.labels" (list $root (index . 2)) | nindent 4 }}
  {{- if $root.Values.keepData }}
  annotations:
    # The volumes stay after an uninstall, and what is in them was made with these passwords.
    helm.sh/resource-policy: keep
  {{- end }}
type: Opaque
{{- end -}}
