{{/* The API's environment, shared by its containers, the migration and the test. */}}
{{- define "taskfleet.api.env" -}}
{{ include "taskfleet.secretEnv" (list "TASKFLEET_API_DATABASE_URL" (include "taskfleet.databaseSecret" .) "url") }}
{{ include "taskfleet.secretEnv" (list "TASKFLEET_API_REDIS_URL" (include "taskfleet.valkeySecret" .) (include "taskfleet.urlKey" (list .Values.valkey "api"))) }}
{{ include "taskfleet.secretEnv" (list "TASKFLEET_API_BROKER_URL" (include "taskfleet.brokerSecret" .) (include "taskfleet.urlKey" (list .Values.rabbitmq "api"))) }}
{{ include "taskfleet.secretEnv" (list "TASKFLEET_API_BROKER_MANAGEMENT_URL" (include "taskfleet.brokerSecret" .) "managementUrl" "optional") }}
{{ include "taskfleet.secretEnv" (list "TASKFLEET_API_BROKER_METRICS_URL" (include "taskfleet.brokerSecret" .) "metricsUrl" "optional") }}
{{- if .Values.tls.enabled }}
- name: TASKFLEET_API_CA_FILE
  value: {{ include "taskfleet.authorityFile" . }}
- name: TASKFLEET_API_TLS_CERTIFICATE_FILE
  value: /etc/taskfleet-tls/tls.crt
- name: TASKFLEET_API_TLS_KEY_FILE
  value: /etc/taskfleet-tls/tls.key
{{- end }}
- name: TASKFLEET_API_AUTH_MODE
  value: {{ .Values.api.auth.mode }}
{{- if eq .Values.api.auth.mode "apiKey" }}
{{ include "taskfleet.secretEnv" (list "TASKFLEET_API_ADMIN_KEY" (include "taskfleet.adminKeySecret" .) "apiKey") }}
{{- if .Values.api.auth.kubernetes }}
- name: TASKFLEET_API_KUBERNETES_AUTH
  value: "true"
{{- end }}
{{- end }}
{{- if .Values.api.callbacks.enabled }}
{{ include "taskfleet.secretEnv" (list "TASKFLEET_API_CALLBACK_SECRETS" (include "taskfleet.callbackSecret" .) "secrets") }}
{{- end }}
{{- include "taskfleet.settingsEnv" (list "TASKFLEET_API_" .Values.api.settings) }}
{{- with .Values.api.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
