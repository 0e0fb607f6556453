{{/* valkey.conf */}}
{{- define "taskfleet.valkey.config" -}}
{{- if include "taskfleet.hasRoles" (list .Values.valkey) -}}
aclfile /etc/taskfleet-users/users.acl
{{- else -}}
include /tmp/password.conf
{{- end }}
bind * -::*
{{- if .Values.tls.enabled }}
port 0
tls-port 6379
tls-ca-cert-file /etc/taskfleet-tls/ca.crt
tls-cert-file /etc/taskfleet-tls/tls.crt
tls-key-file /etc/taskfleet-tls/tls.key
# Callers show a password, not a certificate.
tls-auth-clients no
tls-protocols "TLSv1.2 TLSv1.3"
{{- end }}
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
{{/*
What each role may do in the store: keys, channels, commands. Workers write states of tasks, events, their heartbeats and
Celery's results, and read what concerns them, the list of queues too; queues, fences and schedules of others they cannot change.
A script counts as writing to every key that it names, so cancellations, which one only reads, must be writable.
States and results go by the id of their task, which nobody guesses: commands that would list ids are not for workers.
*/}}
{{- define "taskfleet.valkey.roles" -}}
{{- $results := "~celery-task-meta-* ~celery-taskset-meta-*" -}}
api: "~taskfleet:* {{ $results }} &taskfleet:* &celery-task-meta-* +@all -@admin -@dangerous"
operator: "~taskfleet:queues ~taskfleet:queues:removed ~taskfleet:decisions ~taskfleet:fence:* %R~taskfleet:worker* &taskfleet:wake +@all -@admin -@dangerous"
worker: "~taskfleet:task:* ~taskfleet:events %W~taskfleet:worker* %W~taskfleet:catalog:* ~taskfleet:cancelled:* %R~taskfleet:fence:* %R~taskfleet:queues {{ $results }} &taskfleet:* &celery-task-meta-* +@all -@admin -@dangerous -scan -randomkey -psubscribe -pubsub -xread -xreadgroup -xrange -xrevrange -xclaim -xautoclaim -xpending -xinfo"
{{- end -}}

{{/* users.acl: (list . PASSWORDS-BY-USER). The file holds digests. */}}
{{- define "taskfleet.valkey.users" -}}
{{- $passwords := last . -}}
user default on #{{ $passwords.default | sha256sum }} ~* &* +@all
{{- range $role, $rights := include "taskfleet.valkey.roles" (first .) | fromYaml }}
user {{ $role }} on #{{ get $passwords $role | sha256sum }} resetchannels {{ $rights }}
{{- end }}
{{- end -}}
