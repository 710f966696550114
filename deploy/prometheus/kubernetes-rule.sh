#!/usr/bin/env bash
# Wraps rules.yaml as the PrometheusRule of the kustomize overlay. Run it after changing the rules; a test compares.
set -euo pipefail
cd "$(dirname "$0")"
{
  cat <<'HEAD'
# Made from deploy/prometheus/rules.yaml by deploy/prometheus/kubernetes-rule.sh.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: sluice
  labels:
    app.kubernetes.io/name: sluice
    app.kubernetes.io/component: gateway
spec:
HEAD
  grep -v '^#' rules.yaml | sed 's/^/  /'
} >../kubernetes/overlays/monitoring/prometheusrule.yaml
