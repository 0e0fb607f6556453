{{/* valkey.conf */}}
{{- define "taskfleet.valkey.config" -}}
include /tmp/password.conf
bind * -::*
dir /data
# States and events of tasks: nothing may be thrown away to make room, and a restart must find them again.
maxmemory-policy noeviction
maxmemory {{ .Values.valkey.maxMemory }}
appendonly yes
appendfsync everysec
save ""
{{- with .Values.valkey.extraConfig }}
{{ . }}
{{- end }}
{{- end -}}
