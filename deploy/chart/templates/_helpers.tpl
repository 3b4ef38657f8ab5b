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

{{- /* What the agent's own commands must be allowed, each with what fails without it; a test takes each away. */ -}}
{{- define "privileges" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsUser: 0                      # the BPF file system, and what is on it, is root's
capabilities:
  drop: [ALL]
  add:
    - BPF                         # load programs, make maps
    - NET_ADMIN                   # attach network programs to cgroups
    - PERFMON                     # read a socket's owner in the kernel's memory
    - SYS_ADMIN                   # enter pods' network namespaces
    - SYS_PTRACE                  # find them by processes of other users, and a proxy's sockets that listen already
seccompProfile:
  type: RuntimeDefault            # has bpf, setns and pidfd_getfd for these capabilities
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
