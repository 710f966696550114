#!/usr/bin/env bash
# Compiles Kubernetes' API server and etcd, of the versions in go.mod, from Go's module proxy: ten minutes on two cores.
#   tests/system/api_server/build.sh DIRECTORY
# Needs Go 1.25 or later, which Debian 12 has not (deploy/install-dependencies.sh nightly installs one).
set -euo pipefail
case ${1:-} in "" | -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
command -v go >/dev/null || { echo "api_server/build.sh: needs Go 1.25 or later (deploy/install-dependencies.sh nightly)" >&2; exit 1; }
directory=$(realpath -m "$1")
mkdir -p "$directory"
cd "$(dirname "$0")"
# As Kubernetes' own builds set it: clients ask for it, and Helm's `kubeVersion` goes by it.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
base=k8s.io/component-base/version
flags="-s -w -X $base.gitVersion=$version -X $base.gitMajor=$major -X $base.gitMinor=$minor -X $base.gitTreeState=clean"
CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$directory/" ./apiserver ./etcd
