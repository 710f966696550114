#!/usr/bin/env bash
# Installs what the tests need from Debian's packages, builds with AddressSanitizer, UndefinedBehaviorSanitizer and warnings
# as errors, and runs everything by ctest.
#   tests/run.sh              what CI runs
#   tests/run.sh --nightly    and what is long (fuzzing, soaks, other kernels), on that build, on one as the release is
#                             compiled, and on one with ThreadSanitizer
#   tests/run.sh -R REGEX     only tests whose name matches, on the first build alone (passed on to ctest)
# Needs root for the kernel and system tests: they work in network namespaces of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

nightly=0 all_builds=0
ctest_args=()
while [ $# -gt 0 ]; do
  case $1 in
    --nightly) nightly=1 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) ctest_args+=("$1") ;;
  esac
  shift
done
if [ "$(id -u)" != 0 ]; then
  echo "tests/run.sh: run as root: kernel and system tests make network namespaces and load BPF programs" >&2
  exit 1
fi

took() { echo "== $1: $((SECONDS - began)) s"; }

build() {
  local preset=$1 began=$SECONDS
  echo "== build: preset $preset, into build/$preset"
  mkdir -p build
  cmake --preset "$preset" >"build/configure-$preset.log" 2>&1 || { cat "build/configure-$preset.log" >&2; exit 1; }
  cmake --build --preset "$preset"
  took "built $preset"
}

failed=()
run_tests() {
  local preset=$1 began=$SECONDS
  shift
  echo "== test: ctest, preset $preset"
  # One more than processors: a third of a system test is waiting.
  ctest --preset "$preset" --no-tests=error -j "$(($(nproc) + 1))" "$@" || failed+=("$preset")
  took "tested $preset"
}

deploy/install-dependencies.sh "$([ $nightly = 1 ] && echo nightly || echo test)"
export PATH=$PATH:$PWD/build/tools/bin  # where Envoy is, nightly
only_short=(-LE nightly)
if [ $nightly = 1 ]; then
  only_short=()
  [ ${#ctest_args[@]} != 0 ] || all_builds=1
fi

build ci
if [ $all_builds = 0 ]; then
  run_tests ci "${only_short[@]}" "${ctest_args[@]}"
else
  # What is installed, and other kernels, see the optimised build alone: it is the one like the release.
  run_tests ci -E '^(deploy|system\.kernels)'
  build optimised
  run_tests optimised -E '^fuzz'
  build tsan
  run_tests tsan -LE nightly -E '^(deploy|system\.kernels|kernel|fuzz)'
fi
[ ${#failed[@]} = 0 ] || { echo "tests/run.sh: failed: ${failed[*]}" >&2; exit 1; }
