# Kernel packages, and the little initramfs that makes this machine's files the root of another kernel. Sourced.

# The package with the highest version among those for VERSION ("6.1").
newest_package() {
  apt-cache search --names-only "^linux-image-${1//./\\.}\\.[0-9.]*[0-9+a-z-]*-amd64$" |
    awk '{print $1}' | grep -vE -- '-(cloud|rt)-amd64$|-unsigned$|-dbg$' | sort -V | tail -1
}

unpack_kernel() {
  local package=$1
  [ -e "$cache/$package/done" ] && return
  echo "== $package: downloading from Debian"
  rm -rf "${cache:?}/$package" && mkdir -p "$cache/$package"
  (cd "$cache/$package" && apt-get download -q -o APT::Sandbox::User=root "$package" >/dev/null && dpkg -x ./*.deb . && rm ./*.deb)
  touch "$cache/$package/done"
}

# Module files that the named modules need, dependencies first.
module_files() {
  local root=$1 release=$2 module
  shift 2
  for module in "$@"; do
    modprobe -d "$root" -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'
  done | awk '!seen[$0]++'
}

make_initramfs() {
  local package=$1 root=$cache/$1 release tree file
  release=$(basename "$root"/boot/vmlinuz-*) && release=${release#vmlinuz-}
  depmod -b "$root" "$release"
  tree=$(mktemp -d)
  mkdir -p "$tree"/{bin,modules,proc,sys,dev,root}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  while read -r file; do
    cp "$file" "$tree/modules/"
    basename "$file" >>"$tree/modules/order"
  done < <(module_files "$root" "$release" virtio_pci virtio_console 9pnet_virtio 9p overlay)
  cp "$here/kernels/init" "$tree/init"
  (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$root/initramfs.gz"
  rm -rf "$tree"
}

# Results come over a second serial line, so that kernel messages do not get into them.
boot() {
  local package=$1 log=$2 root=$cache/$1 release out mode=run
  release=$(basename "$root"/boot/vmlinuz-*) && release=${release#vmlinuz-}
  [ $shell = 1 ] && mode=shell
  : >"$log" && : >"$log.console"
  out=(-serial "file:$log.console" -serial "file:$log")
  [ $shell = 1 ] && out=(-serial mon:stdio -serial "file:$log")
  timeout "$seconds" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3072 \
    -display none -nodefaults -no-reboot "${out[@]}" \
    -kernel "$root/boot/vmlinuz-$release" -initrd "$root/initramfs.gz" \
    -virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap" \
    -append "console=ttyS0 quiet panic=-1 sluice_mode=$mode sluice_top=$top sluice_build=$build sluice_filter=$filter sluice_quickstart=$quickstart sluice_modules=$root/lib/modules" ||
    echo "exit: qemu ended with $? (timeout after $seconds s is 124)" >>"$log"
}

print_results() {
  local package=$1 log=$2
  sed -i 's/\r$//' "$log"  # a serial line ends lines its own way
  grep -E '^(kernel:|\[  (FAILED|PASSED|SKIPPED) |.* SKIPPED|fact:|step:|exit:)' "$log" || true
  if grep -q '^exit: 0$' "$log"; then return 0; fi
  echo "== $package failed; all of it: $log, kernel messages: $log.console" >&2
  tail -30 "$log" >&2
  return 1
}
