# Starting, stopping and asking the demo's Sluice. Sourced by quickstart.sh.
# shellcheck shell=bash disable=SC2154

policy=$work/policy.yaml
socket=$work/sluice.sock
main_pid=
load_pids=()

write_policy() {  # [sed expression…], written beside and moved over, as editors and configuration management do
  local expression args=()
  for expression in "$@"; do args+=(-e "$expression"); done
  sed "${args[@]}" -e "s|@WORK@|$work|" -e 's|@ON_EXIT@|closed|' "$here/quickstart/policy.yaml" >"$policy.new"
  mv "$policy.new" "$policy"
}

start_sluice() {
  local ready_before
  ready_before=$(count_ready)
  nsenter --net="/run/netns/$node" "$sluice" run --policy "$policy" --socket "$socket" >>"$work/sluice.log" 2>&1 &
  main_pid=$!
  eventually 90 more_ready "$ready_before" || fail "sluice did not become ready"
}
count_ready() { grep -cw ready "$work/sluice.log" 2>/dev/null || true; }
more_ready() { kill -0 "$main_pid" && [ "$(count_ready)" -gt "${1:-0}" ]; }

stop_sluice() {
  [ -n "$main_pid" ] || return 0
  kill -TERM "$main_pid" 2>/dev/null || true
  wait "$main_pid" 2>/dev/null || true
  main_pid=
}

ctl() { in_node "$sluice" "$@" --socket "$socket"; }
in_sluice() { ctl "$@"; }   # so that `show sluice status` reads as it is typed
metric() {  # REGEX over whole lines: the sum of the values
  in_node curl -sS --max-time 2 http://127.0.0.1:9464/metrics | awk -v re="$1" '$0 !~ /^#/ && $0 ~ re { s += $NF } END { printf "%d\n", s }'
}
gateway_pid() { pgrep -P "$main_pid" -f 'sluice' | head -n 1; }
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# A steady load: one new connection per request, every curl exit code and status written down.
start_load() {  # NAME URL
  (
    trap 'exit 0' TERM
    while :; do
      code=$(in_client curl -s -o /dev/null --max-time 3 --interface 10.71.0.2 -w '%{http_code}' "$2") && rc=0 || rc=$?
      echo "$rc $code" >>"$work/$1.load"
    done
  ) &
  load_pids+=($!)
}
stop_load() {
  local pid
  for pid in "${load_pids[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  load_pids=()
}
load_total() { wc -l <"$work/$1.load"; }
load_failed() { grep -vc '^0 200$' "$work/$1.load" || true; }
load_refused() { grep -c '^7 ' "$work/$1.load" || true; }  # curl: 7 = could not connect

stop_everything() {
  stop_load
  stop_sluice
  in_node "$sluice" cleanup >/dev/null 2>&1 || true
  stop_origin 1
  stop_origin 2
}

print_how_to_play() {
  cat <<EOF

${bold}Left up.${plain} In another shell:
   nsenter --net=/run/netns/$client curl http://203.0.113.7:8123/
   nsenter --net=/run/netns/$node $sluice status --socket $socket
   nsenter --net=/run/netns/$node $sluice bans --socket $socket
   \$EDITOR $policy        # saved = applied
   tail -f $work/sluice.log $work/access.log
To take it down:
   kill $main_pid; nsenter --net=/run/netns/$node $sluice cleanup
   kill $(cat "$work"/origin-*/nginx.pid | tr '\n' ' ')
   for n in $client $node ${origins[*]}; do ip netns del \$n; done; rm -rf $work
EOF
}
