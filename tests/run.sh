#!/usr/bin/env bash
# Installs what the tests need from Debian's packages, builds with warnings as errors, and runs everything by ctest.
#   tests/run.sh              what CI runs
#   tests/run.sh --nightly    and what is long (soaks, fuzzing, other kernels)
#   tests/run.sh -R REGEX     only tests whose name matches (passed on to ctest)
# Needs root for the kernel and system tests: they work in network namespaces of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

nightly=0
ctest_args=()
while [ $# -gt 0 ]; do
  case $1 in
    --nightly) nightly=1 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) ctest_args+=("$1") ;;
  esac
  shift
done
if [ "$(id -u)" != 0 ]; then
  echo "tests/run.sh: run as root: kernel and system tests make network namespaces and load BPF programs" >&2
  exit 1
fi

deploy/install-dependencies.sh "$([ $nightly = 1 ] && echo nightly || echo test)"
echo "build: preset ci (warnings are errors), into build/ci"
mkdir -p build
cmake --preset ci >build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }
cmake --build --preset ci

[ $nightly = 1 ] || ctest_args+=(-LE nightly)
echo "test: ctest"
ctest --preset ci --no-tests=error "${ctest_args[@]}"
