#!/usr/bin/env bash
# Shows the main job of Sluice on real traffic, in network namespaces that it makes and removes.
#   deploy/quickstart.sh              install dependencies, build a release binary, show the nine steps
#   deploy/quickstart.sh --keep       leave everything up to play with, and print how
#   deploy/quickstart.sh --binary B   use a built `sluice` instead of building one
# Needs root (namespaces, BPF). Exits non-zero if any step does not do what it says.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
keep=0 sluice=
while [ $# -gt 0 ]; do
  case $1 in
    --keep) keep=1 ;;
    --binary) sluice=$(realpath "$2"); shift ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
  shift
done
if [ "$(id -u)" != 0 ]; then
  echo "quickstart.sh: run as root: it makes network namespaces and loads BPF programs" >&2
  exit 1
fi

if [ -z "$sluice" ]; then
  "$here/install-dependencies.sh" demo
  sluice=$top/build/release/sluice
  echo "build: release binary into build/release (nothing to do when it is current)"
  mkdir -p "$top/build"
  (cd "$top" && cmake --preset release >build/configure.log 2>&1) || { cat "$top/build/configure.log" >&2; exit 1; }
  cmake --build "$top/build/release" --target sluice
fi

work=$(mktemp -d /tmp/sluice-demo.XXXXXX)
. "$here/quickstart/network.sh"
. "$here/quickstart/show.sh"
. "$here/quickstart/gateway.sh"
. "$here/quickstart/steps.sh"

finish() {
  local code=$?
  trap - EXIT INT TERM
  if [ $keep = 1 ] && [ $code = 0 ]; then
    print_how_to_play
    exit 0
  fi
  [ $code = 0 ] || show_evidence
  stop_everything
  remove_network
  rm -rf "$work"
  exit $code
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

make_network
start_origin 1
start_origin 2
show_topology
for step in "${steps[@]}"; do
  "step_$step"
done
printf '\n%sAll %s steps did what they say.%s\n' "$bold" "${#steps[@]}" "$plain"
