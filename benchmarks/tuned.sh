#!/usr/bin/env bash
# The release, compiled for what is executed most: a build that counts, a minute of the benchmarks' loads, and the build that uses
# the counts: build/tuned/sluice. A quarter of an hour on two cores.
#   benchmarks/tuned.sh
# Then, for instance: benchmarks/run.sh --sluice build/tuned/sluice
# Loopback only; bounded in time and count.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  "") ;;
  -h | --help) sed -n '2,6s/^# \?//p' "$0" && exit ;;
  *) echo "$0: it takes no argument, \`$1\` was given" >&2 && exit 2 ;;
esac
if [ "$(id -u)" = 0 ]; then deploy/install-dependencies.sh bench; fi
mkdir -p build
configure() { cmake --preset "$1" >build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }; }
configure counting
cmake --build --preset counting
rm -rf build/counts
PATH=$PATH:$PWD/build/tools/bin /usr/bin/python3 benchmarks/beside/training.py build/counting/sluice
configure tuned
cmake --build --preset tuned
