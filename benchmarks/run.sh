#!/usr/bin/env bash
# Measures Sluice beside HAProxy and nginx (Debian's) on the same work in one run: CPU time per unit, as ratios.
#   benchmarks/run.sh                     every piece of work, 15 rounds; then the AI gateway, where its peers are installed
#   benchmarks/run.sh --rounds 5 keepalive
#   benchmarks/run.sh --chart benchmarks/results.svg
#   benchmarks/run.sh ai --rounds 5       only the AI gateway, beside Portkey and LiteLLM (benchmarks/ai/install.sh installs them)
#   benchmarks/run.sh --sluice build/tuned/sluice keepalive      another binary than the release, as it is (benchmarks/tuned.sh)
#   benchmarks/run.sh [ai] --help
# Loopback only; bounded in time and count.
set -euo pipefail
cd "$(dirname "$0")/.."
beside=benchmarks/beside/beside.py ai=benchmarks/ai/ai.py
wanted=$beside
if [ "${1:-}" = ai ]; then wanted=$ai && shift; fi
case " $* " in *" -h "* | *" --help "*) exec /usr/bin/python3 $wanted --help ;; esac
if [ "$(id -u)" = 0 ]; then deploy/install-dependencies.sh bench; fi
mkdir -p build
given=(--sluice build/release/sluice)
case " $* " in
  *" --sluice"*) given=() ;;
  *)
    cmake --preset release >build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }
    cmake --build build/release --target sluice
    ;;
esac
PATH=$PATH:$PWD/build/tools/bin /usr/bin/python3 $wanted "${given[@]}" "$@"
[ $# = 0 ] && [ $wanted = $beside ] || exit 0
if [ -d build/ai-peers ]; then
  /usr/bin/python3 $ai --sluice build/release/sluice
else
  echo "The AI gateway was not measured: benchmarks/ai/install.sh installs what it is compared with (Portkey, LiteLLM)."
fi
