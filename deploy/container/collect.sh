#!/usr/bin/env bash
# Puts a binary and all that it needs at run time into an empty root, with its build's bill of materials where there is one.
#   collect.sh BINARY ROOT
set -euo pipefail
binary=$1 root=$2
mkdir -p "$root"/usr/bin "$root"/etc/{sluice,ssl/certs} "$root"/run/sluice "$root"/var/lib/sluice "$root"/tmp "$root"/sys/fs/bpf
chmod 1777 "$root"/tmp
install -m 755 "$binary" "$root"/usr/bin/sluice
# Where nothing was compiled there may be no binutils, and a binary that was brought is as small as it was brought.
if command -v strip >/dev/null; then strip "$root"/usr/bin/sluice; fi
# Debian's /lib is a link into /usr; the loader is looked up by its fixed path.
ln -sfn usr/lib "$root"/lib && ln -sfn usr/lib64 "$root"/lib64
mkdir -p "$root"/usr/lib64
if missing=$(ldd "$binary" | grep 'not found'); then
  echo "collect.sh: $binary needs what is not installed here:" $missing >&2
  exit 1
fi
ldd "$binary" | grep -o '/[^ ]*' | sort -u | while read -r library; do
  real=$(readlink -f "$library")
  target=$root/usr${library#/usr}
  mkdir -p "$(dirname "$target")"
  install -m 644 "$real" "$target"
  case $library in */ld-linux*) chmod 755 "$target" ;; esac
done
bill=$(dirname "$binary")/sluice.spdx.json
if [ -e "$bill" ]; then install -D -m 644 "$bill" "$root"/usr/share/doc/sluice/sluice.spdx.json; fi
install -m 644 /etc/ssl/certs/ca-certificates.crt "$root"/etc/ssl/certs/
printf 'root:x:0:0::/:/nonexistent\nsluice:x:65532:65532::/:/nonexistent\n' >"$root"/etc/passwd
printf 'root:x:0:\nsluice:x:65532:\n' >"$root"/etc/group
printf 'hosts: files dns\n' >"$root"/etc/nsswitch.conf
