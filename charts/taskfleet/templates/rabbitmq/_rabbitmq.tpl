{{/* The name by which a node is known to the others: (list . ORDINAL). */}}
{{- define "taskfleet.rabbitmq.host" -}}
{{- $root := first . -}}
{{- printf "%s-%d.%s-nodes.%s" (include "taskfleet.name" (list $root "rabbitmq")) (int (last .)) (include "taskfleet.name" (list $root "rabbitmq")) $root.Release.Namespace -}}
{{- end -}}

{{/* Where the figures are: a node answers for the queues that it leads, so each is asked. */}}
{{- define "taskfleet.rabbitmq.metricsUrls" -}}
{{- if eq (int .Values.rabbitmq.replicas) 1 -}}
http://{{ include "taskfleet.host" (list . "rabbitmq") }}:15692
{{- else -}}
{{- range $ordinal := until (int .Values.rabbitmq.replicas) -}}
{{- if $ordinal }},{{ end }}http://{{ include "taskfleet.rabbitmq.host" (list $ $ordinal) }}.svc:15692
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What each role may do at the broker, as regular expressions of what it may make and delete, write to and read from.
API and operator keep the same rules and queues, one where the other is not; only the API publishes and empties
dead-letter queues. The worker's user reads every queue of tasks: which of them it consumes is its own word.
*/}}
{{- define "taskfleet.rabbitmq.roles" -}}
{{- $dead := "^(taskfleet\\.dead|.*\\.dead)$" -}}
{{- $notDead := "^(?!taskfleet\\.(dead|policies)$)(?!.*\\.dead$).*$" -}}
api: {tags: [policymaker], configure: ".*", write: ".*", read: {{ $dead | quote }}}
operator: {tags: [policymaker], configure: ".*", write: {{ $dead | quote }}, read: {{ $dead | quote }}}
worker: {tags: [], configure: {{ $notDead | quote }}, write: {{ $notDead | quote }}, read: {{ $notDead | quote }}}
{{- end -}}

{{/*
What the operator manages the users of TaskQueues with: RabbitMQ lets only administrators do that. It reads, writes and
declares nothing in any virtual host, and is used for nothing else.
*/}}
{{- define "taskfleet.rabbitmq.usersUser" -}}
{{- if .Values.rabbitmq.userPerQueue -}}taskfleet-users{{- end -}}
{{- end -}}

{{/* Users, permissions and the virtual host, which RabbitMQ takes in at each start: (list . PASSWORDS-BY-USER). */}}
{{- define "taskfleet.rabbitmq.definitions" -}}
{{- $passwords := last . -}}
{{- $users := list (dict "name" "taskfleet" "password" $passwords.taskfleet "tags" (list "administrator")) -}}
{{- $permissions := list (dict "user" "taskfleet" "vhost" "/" "configure" ".*" "write" ".*" "read" ".*") -}}
{{- with include "taskfleet.rabbitmq.usersUser" (first .) -}}
{{- $users = append $users (dict "name" . "password" (get $passwords .) "tags" (list "administrator")) -}}
{{- end -}}
{{- range $role, $rights := include "taskfleet.rabbitmq.roles" (first .) | fromYaml -}}
{{- $user := printf "taskfleet-%s" $role -}}
{{- $users = append $users (dict "name" $user "password" (get $passwords $user) "tags" $rights.tags) -}}
{{- $permissions = append $permissions (dict "user" $user "vhost" "/" "configure" $rights.configure "write" $rights.write "read" $rights.read) -}}
{{- end -}}
{{- dict "users" $users "vhosts" (list (dict "name" "/")) "permissions" $permissions | toPrettyJson -}}
{{- end -}}

{{/* A quantity of Kubernetes in bytes: (list "1Gi"). */}}
{{- define "taskfleet.bytes" -}}
{{- $quantity := ternary (printf "%.0f" (first . | float64)) (first . | toString) (kindIs "float64" (first .)) -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- printf "%.0f" (mulf (regexFind "^[0-9.]+" $quantity | float64) (get $units (regexFind "[a-zA-Z]*$" $quantity))) -}}
{{- end -}}

{{/* rabbitmq.conf */}}
{{- define "taskfleet.rabbitmq.config" -}}
# Any host name: the default would let the first user in from the node itself only.
loopback_users = none
log.console = true
default_queue_type = quorum
{{- if include "taskfleet.hasRoles" (list .Values.rabbitmq) }}
definitions.import_backend = local_filesystem
definitions.local.path = /etc/taskfleet-users/definitions.json
{{- end }}
{{- if .Values.tls.enabled }}
listeners.tcp = none
listeners.ssl.default = 5671
ssl_options.cacertfile = /etc/taskfleet-tls/ca.crt
ssl_options.certfile = /etc/taskfleet-tls/tls.crt
ssl_options.keyfile = /etc/taskfleet-tls/tls.key
# Callers show a password, not a certificate.
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
management.ssl.port = 15671
management.ssl.cacertfile = /etc/taskfleet-tls/ca.crt
management.ssl.certfile = /etc/taskfleet-tls/tls.crt
management.ssl.keyfile = /etc/taskfleet-tls/tls.key
management.ssl.versions.1 = tlsv1.3
management.ssl.versions.2 = tlsv1.2
{{- end }}
{{- with .Values.rabbitmq.resources.limits }}
{{- with .memory }}
# RabbitMQ takes the node's memory for its own otherwise.
total_memory_available_override_value = {{ include "taskfleet.bytes" (list .) }}
{{- end }}
{{- end }}
vm_memory_high_watermark.relative = {{ .Values.rabbitmq.memoryHighWatermark }}
disk_free_limit.absolute = {{ .Values.rabbitmq.diskFreeLimit }}
{{- if gt (int .Values.rabbitmq.replicas) 1 }}
cluster_formation.peer_discovery_backend = classic_config
{{- range $ordinal := until (int .Values.rabbitmq.replicas) }}
cluster_formation.classic_config.nodes.{{ add1 $ordinal }} = rabbit@{{ include "taskfleet.rabbitmq.host" (list $ $ordinal) }}
{{- end }}
cluster_partition_handling = pause_minority
queue_leader_locator = balanced
# Queues that were declared while fewer nodes were there get their members later.
quorum_queue.continuous_membership_reconciliation.enabled = true
quorum_queue.continuous_membership_reconciliation.auto_remove = false
quorum_queue.continuous_membership_reconciliation.target_group_size = {{ min 3 (int .Values.rabbitmq.replicas) }}
{{- end }}
{{- with .Values.rabbitmq.extraConfig }}
{{ . }}
{{- end }}
{{- end -}}
