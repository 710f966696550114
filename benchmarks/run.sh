#!/usr/bin/env bash
# Measures Sluice beside HAProxy and nginx (Debian's) on the same work in one run: CPU time per unit, as ratios.
#   benchmarks/run.sh                     every piece of work, 15 rounds
#   benchmarks/run.sh --rounds 5 keepalive
#   benchmarks/run.sh --chart benchmarks/results.svg
#   benchmarks/run.sh --help
# Loopback only; bounded in time and count.
set -euo pipefail
cd "$(dirname "$0")/.."
case " $* " in *" -h "* | *" --help "*) exec /usr/bin/python3 benchmarks/beside/beside.py --help ;; esac
if [ "$(id -u)" = 0 ]; then deploy/install-dependencies.sh bench; fi
mkdir -p build
cmake --preset release >build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }
cmake --build build/release --target sluice
PATH=$PATH:$PWD/build/tools/bin exec /usr/bin/python3 benchmarks/beside/beside.py --sluice build/release/sluice "$@"
