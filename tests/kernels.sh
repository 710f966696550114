#!/usr/bin/env bash
# Boots other kernels in qemu (software emulation, nothing of this machine's kernel) and runs the kernel tests and the
# quickstart there, on this machine's own files read-only. Long: half an hour and more; `tests/run.sh --nightly` calls it.
# Left out are tests of the verdicts alone, which the same BPF instructions give on any kernel that takes them.
#   tests/kernels.sh                      Debian 12's own kernel
#   tests/kernels.sh --all                the tests of verdicts too: an hour more
#   tests/kernels.sh VERSION...           6.1, 6.12: the newest of Debian 12's packages linux-image-VERSION*-amd64
#   tests/kernels.sh --filter PATTERN     only kernel tests of this gtest pattern, and no quickstart
#   tests/kernels.sh --shell VERSION      a shell in the booted machine, to look around (leave with `poweroff -f`)
# Prints a row for the table of kernels in ARCHITECTURE.md. Exits non-zero when any test failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
filter='-GuardFields.*:GuardModel.*:GuardRandom.*:GuardRules.*:KeeperModel.*:Reads/GuardPackets.*' quickstart=1 shell=0 versions=()
while [ $# -gt 0 ]; do
  case $1 in
    --all) filter='*' ;;
    --filter) filter=$2 quickstart=0; shift ;;
    --shell) shell=1 ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "kernels.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
    *) versions+=("$1") ;;
  esac
  shift
done
[ ${#versions[@]} -gt 0 ] || versions=(6.1)
build=${SLUICE_BUILD:-$top/build/optimised}
seconds=${SLUICE_KERNELS_TIMEOUT:-7200}
for need in qemu-system-x86_64 busybox cpio gzip; do
  command -v $need >/dev/null || { echo "kernels.sh: $need is missing (deploy/install-dependencies.sh nightly)" >&2; exit 1; }
done
for binary in kernel_tests sluice; do
  [ -x "$build/$binary" ] || { echo "kernels.sh: $build/$binary is missing: build the preset optimised first" >&2; exit 1; }
done
cache=${SLUICE_KERNELS_CACHE:-/var/tmp/sluice-kernels}
mkdir -p "$cache"
. "$here/kernels/image.sh"

failed=0
for version in "${versions[@]}"; do
  package=$(newest_package "$version")
  [ -n "$package" ] || { echo "kernels.sh: Debian has no linux-image-$version*-amd64" >&2; exit 1; }
  unpack_kernel "$package"
  make_initramfs "$package"
  echo "== $package: booting in qemu (software emulation: minutes, not seconds)"
  log=$cache/$package.log
  boot "$package" "$log"
  [ $shell = 1 ] && continue
  print_results "$package" "$log" || failed=1
done
exit $failed
