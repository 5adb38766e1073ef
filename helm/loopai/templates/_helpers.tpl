{{- define "loopai.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{- define "loopai.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- define "loopai.claim" -}}
{{- default (printf "%s-artifacts" (include "loopai.name" .)) .Values.artifacts.existingClaim -}}
{{- end -}}

{{/* Labels that select the pods of (dict "root" $ "pool" name). */}}
{{- define "loopai.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .pool }}
{{- end -}}

{{- define "loopai.labels" -}}
{{ include "loopai.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Where the broker is, as an environment variable: (dict "root" $ "role" name). */}}
{{- define "loopai.natsUrl" -}}
{{- $secret := .root.Values.nats.urlSecret -}}
- name: LOOPAI_NATS_URL
  {{- if $secret.name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ ternary .role $secret.key (default false $secret.perRole) }}
  {{- else }}
  value: {{ .root.Values.nats.url | quote }}
  {{- end }}
{{- end -}}

{{/* Where the Redis is, as an environment variable; nothing where there is none. */}}
{{- define "loopai.redisUrl" -}}
{{- if or .Values.redis.url .Values.redis.urlSecret.name -}}
- name: LOOPAI_REDIS_URL
  {{- if .Values.redis.urlSecret.name }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.redis.urlSecret.name }}
      key: {{ .Values.redis.urlSecret.key }}
  {{- else }}
  value: {{ .Values.redis.url | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* What a Prometheus that goes by annotations looks for: (dict "port" number). */}}
{{- define "loopai.scraped" -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .port | toString | quote }}
prometheus.io/path: /metrics
{{- end -}}

{{- define "loopai.sealedPod" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "loopai.sealedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The pods that make cells. bubblewrap makes namespaces and mounts, which the runtime's seccomp filter and AppArmor
profile refuse; each cell puts a filter of its own around the program. As an ordinary user it also writes
/proc/sys/user/max_user_namespaces of its own namespace, to keep the cell from making namespaces itself, and that
needs an unmasked /proc. */}}
{{- define "loopai.cellsPod" -}}
{{- if eq .Values.cells.mode "user" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
{{- else -}}
runAsUser: 0
runAsGroup: 0
{{- end }}
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  {{- toYaml .Values.cells.seccompProfile | nindent 2 }}
appArmorProfile:
  type: Unconfined
{{- end -}}

{{- define "loopai.cellsContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  {{- if eq .Values.cells.mode "root" }}
  # SYS_ADMIN and NET_ADMIN for the namespaces, SETUID and SETGID to give each executor a user of its own, KILL to end it.
  add: [SYS_ADMIN, NET_ADMIN, SETUID, SETGID, KILL]
  {{- end }}
{{- if eq .Values.cells.mode "user" }}
procMount: Unmasked
{{- end }}
{{- end -}}

{{/* The Deployment of a pool: (dict "root" $ "pool" name "cells" bool "artifacts" bool). */}}
{{- define "loopai.pool" -}}
{{- $values := index .root.Values .pool -}}
{{- $port := int .root.Values.metrics.port -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "loopai.name" .root }}-{{ .pool }}
  labels:
    {{- include "loopai.labels" . | nindent 4 }}
spec:
  replicas: {{ $values.replicas }}
  selector:
    matchLabels:
      {{- include "loopai.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "loopai.labels" . | nindent 8 }}
      annotations:
        # Settings are read once, at the start: a change of them replaces the pods.
        loopai/settings: {{ include (print .root.Template.BasePath "/configmap.yaml") .root | sha256sum }}
        {{- if $port }}
        {{- include "loopai.scraped" (dict "port" $port) | nindent 8 }}
        {{- end }}
    spec:
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      automountServiceAccountToken: false
      # A pool finishes what it has begun, or gives it back, within 8 s.
      terminationGracePeriodSeconds: 20
      {{- if and .cells (eq .root.Values.cells.mode "user") }}
      hostUsers: false
      {{- end }}
      securityContext:
        {{- include (ternary "loopai.cellsPod" "loopai.sealedPod" .cells) .root | nindent 8 }}
      containers:
        - name: {{ .pool }}
          image: {{ include "loopai.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: ["python", "-m", "workers", {{ .pool | quote }}]
          env:
            {{- include "loopai.natsUrl" (dict "root" .root "role" .pool) | nindent 12 }}
            {{- with include "loopai.redisUrl" .root }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- if $port }}
            - name: LOOPAI_METRICS
              value: 0.0.0.0:{{ $port }}
            {{- end }}
          envFrom:
            - configMapRef:
                name: {{ include "loopai.name" .root }}-settings
            {{- if and .artifacts .root.Values.artifacts.credentialsSecret }}
            - secretRef:
                name: {{ .root.Values.artifacts.credentialsSecret }}
            {{- end }}
          {{- if $port }}
          ports:
            - name: metrics
              containerPort: {{ $port }}
          {{- end }}
          securityContext:
            {{- include (ternary "loopai.cellsContainer" "loopai.sealedContainer" .cells) .root | nindent 12 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            # bubblewrap builds a cell's files here; a program sees no /tmp at all (ADR 0011).
            - name: tmp
              mountPath: /tmp
            {{- if .artifacts }}
            - name: artifacts
              mountPath: /data
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- if .artifacts }}
        - name: artifacts
          persistentVolumeClaim:
            claimName: {{ include "loopai.claim" .root }}
        {{- end }}
{{- end -}}
