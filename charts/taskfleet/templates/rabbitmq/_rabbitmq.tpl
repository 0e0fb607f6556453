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
