{{/* Parts of pod templates. All pods pass the restricted Pod Security Standard. */}}

{{/* The head of a pod's spec: (list . "api" .Values.api USER), and a fifth word for a pod without a token. */}}
{{- define "taskfleet.podSpec" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}{{- $user := index . 3 -}}
serviceAccountName: {{ include "taskfleet.name" (list $root $component) }}
automountServiceAccountToken: {{ or (eq $component "operator") (and (eq $component "api") $root.Values.api.auth.kubernetes (lt (len .) 5)) }}
# Variables of services would look like settings with unknown names.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
{{- if $values.topologySpreadConstraints }}
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "taskfleet.selector" (list $root $component) | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Metadata of a pod template: (list . "api" .Values.api CHECKSUMMED-TEXT). */}}
{{- define "taskfleet.podMetadata" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}{{- $config := index . 3 -}}
labels:
  {{- include "taskfleet.podLabels" (list $root $component) | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) $values.podAnnotations -}}
{{- if $config }}{{- $_ := set $annotations "taskfleet.dev/config" ($config | sha256sum | trunc 16) -}}{{- end -}}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What no container may do. */}}
{{- define "taskfleet.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* A variable from a secret: (list NAME SECRET KEY) or (list NAME SECRET KEY "optional"). */}}
{{- define "taskfleet.secretEnv" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
      {{- if gt (len .) 3 }}
      optional: true
      {{- end }}
{{- end -}}

{{/* Further settings as variables: (list PREFIX MAP). Names are camelCase there and UPPER_CASE here. */}}
{{- define "taskfleet.settingsEnv" -}}
{{- $prefix := first . -}}
{{- range $name, $value := last . }}
- name: {{ $prefix }}{{ snakecase $name | upper }}
  {{- if kindIs "slice" $value }}
  value: {{ join "," $value | quote }}
  {{- else if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  value: {{ printf "%.0f" $value | quote }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The volume claim of a StatefulSet, or a volume that goes with its pod: (list .Values.valkey.persistence). */}}
{{- define "taskfleet.claims" -}}
{{- $persistence := first . -}}
{{- if $persistence.enabled }}
volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with $persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ $persistence.size }}
{{- end }}
{{- end -}}

{{/* When the claims of a StatefulSet are deleted. */}}
{{- define "taskfleet.retention" -}}
persistentVolumeClaimRetentionPolicy:
  whenDeleted: {{ ternary "Retain" "Delete" .Values.keepData }}
  whenScaled: Retain
{{- end -}}
