{{/* Certificates: one for each server, and the authority that signs them, which every client trusts. */}}

{{/* The secret with a server's tls.crt, tls.key and ca.crt: (list . "api"). */}}
{{- define "taskfleet.tlsSecret" -}}
{{- get (first .).Values.tls.secrets (last .) | default (printf "%s-tls" (include "taskfleet.name" .)) -}}
{{- end -}}

{{/* The secret whose ca.crt clients trust. */}}
{{- define "taskfleet.authoritySecret" -}}
{{- .Values.tls.authoritySecret | default (include "taskfleet.tlsSecret" (list . "api")) -}}
{{- end -}}

{{/* Where the authority is mounted. */}}
{{- define "taskfleet.authorityFile" -}}/etc/taskfleet-ca/ca.crt{{- end -}}

{{/* Volume of a server's certificate, and of the authority for a client; nothing without TLS. */}}
{{- define "taskfleet.tlsVolume" -}}
{{- if (first .).Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "taskfleet.tlsSecret" . }}
    # For the server's group alone: PostgreSQL refuses a key that others can read.
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- define "taskfleet.authorityVolume" -}}
{{- if .Values.tls.enabled }}
- name: authority
  secret:
    secretName: {{ include "taskfleet.authoritySecret" . }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- end -}}

{{- define "taskfleet.tlsMount" -}}
{{- if .Values.tls.enabled }}
- name: tls
  mountPath: /etc/taskfleet-tls
  readOnly: true
{{- end }}
{{- end -}}

{{- define "taskfleet.authorityMount" -}}
{{- if .Values.tls.enabled }}
- name: authority
  mountPath: {{ dir (include "taskfleet.authorityFile" .) }}
  readOnly: true
{{- end }}
{{- end -}}
