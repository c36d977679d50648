{{- /* Made by "npm run docs" from controller/install: change it there. */ -}}
{{- define "culvert.namespace" -}}
{{- .Values.namespace | default (eq .Release.Namespace "default" | ternary "culvert-system" .Release.Namespace) -}}
{{- end -}}
