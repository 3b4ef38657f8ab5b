{{- define "labels" -}}
app.kubernetes.io/name: redirect-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/name: redirect-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- /* The kubelet asks at the node's address, unless told otherwise. */ -}}
{{- define "probed" -}}
{{- if hasPrefix "127." .Values.metrics.address }}, host: {{ .Values.metrics.address }}{{ end }}
{{- end }}

{{- /* Privileges of the agent's own commands, each with the failure that it prevents; a test takes each away. */ -}}
{{- define "privileges" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsUser: 0                      # the BPF file system, and what is on it, is root's
capabilities:
  drop: [ALL]
  # For BPF programs SYS_ADMIN stands for BPF, PERFMON and NET_ADMIN in the kernel, so that these would add nothing.
  add:
    - SYS_ADMIN                   # enter pods' network namespaces; load programs, attach them, make maps
    - SYS_PTRACE                  # find these namespaces by processes of other users, and a proxy's listening sockets
seccompProfile:
  type: RuntimeDefault            # lets these capabilities call bpf, setns and pidfd_getfd
appArmorProfile:
  type: Unconfined                # the runtimes' own profiles refuse to write below /sys/fs/bpf
{{- with .Values.seLinuxType }}
seLinuxOptions:
  type: {{ . }}
{{- end }}
{{- end }}

{{- /* Files of the node's, which are root's, and nothing else. */ -}}
{{- define "unprivileged" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsUser: 0
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- with .Values.seLinuxType }}
seLinuxOptions:
  type: {{ . }}
{{- end }}
{{- end }}
