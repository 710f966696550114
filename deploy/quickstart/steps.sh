# The nine steps of the main job. Each says what it shows, shows it, and fails when it is not so.
# shellcheck shell=bash disable=SC2154

steps=(local forward output balance limit rules crash untouched metrics)

step_local() {
  heading 1 "local: addresses and ports that exist on no host, steered by sk_lookup"
  write_policy
  start_sluice
  explain "203.0.113.0/24 and 2001:db8:1::/64 are nobody's; any of a thousand ports will do."
  show client curl -sS --max-time 5 http://203.0.113.7:80/hello
  expect "an origin answered over IPv4" '^origin-[12] answers.*http://203.0.113.7/hello'
  show client curl -sS --max-time 5 http://203.0.113.200:8123/any/port
  expect "another address, another port, the same listener" '^origin-[12] answers.*203.0.113.200:8123/any/port'
  show client curl -sS --max-time 5 'http://[2001:db8:1::42]:8999/v6'
  expect "and over IPv6" '^origin-[12] answers'
  show client curl -sS --max-time 5 http://203.0.113.7:9999/
  [ "$status" != 0 ] && ok "a port that no rule names is nobody's: refused" || fail "port 9999 should not answer"
}

step_forward() {
  heading 2 "forward: a request across the node is caught on its way through"
  explain "The client calls the origin itself. A route claims shop.example and keeps the client's own address;"
  explain "everything else goes on to where it wanted (default_route: forward)."
  show client curl -sS --max-time 5 -H 'Host: shop.example' http://10.72.1.2:8080/cart
  expect "proxied, and the origin sees the client's own address" 'origin-1 answers; called from 10.71.0.2 .*forwarded for: 10.71.0.2'
  show client curl -sS --max-time 5 -H 'Host: shop.example' 'http://[fd72:2::2]:8080/cart'
  expect "the same over IPv6" 'origin-2 answers; called from fd71::2 .*forwarded for: fd71::2'
  show client curl -sS --max-time 5 http://10.72.2.2:8080/unclaimed
  expect "unclaimed: sent on to its original destination, from the node" 'origin-2 answers; called from 10.72.2.1 .*forwarded for: 10.71.0.2'
}

step_output() {
  heading 3 "output: a process on the node itself is caught on its way out"
  local before after
  before=$(metric '^sluice_connections_total.*way="output"')
  show node curl -sS --max-time 5 http://10.72.1.2:8080/from-the-node
  expect "proxied (the origin saw a forwarded-for)" 'origin-1 answers.*forwarded for: 10.72.1.1'
  show node curl -sS --max-time 5 'http://[fd72:1::2]:8080/from-the-node'
  expect "the same over IPv6" 'origin-1 answers.*forwarded for: fd72:1::1'
  after=$(metric '^sluice_connections_total.*way="output"')
  [ $((after - before)) = 2 ] && ok "two connections caught, no more: the gateway's own are not (no loop)" ||
    fail "expected 2 caught connections, counted $((after - before))"
}

origins_seen() {  # how many different origins answer 10 requests
  local i
  for i in $(seq 10); do in_client curl -sS --max-time 5 http://203.0.113.7/; done | grep -o '^origin-[12]' | sort | uniq -c
}
both_answer() { [ "$(origins_seen | wc -l)" = 2 ]; }

step_balance() {
  heading 4 "balance: two origins, one dies, nobody notices, it comes back"
  out=$(origins_seen); printf '%s\n' "$out"
  [ "$(printf '%s\n' "$out" | wc -l)" = 2 ] && ok "ten requests went to both" || fail "both origins should answer"
  explain "origin-1 is killed while requests go on …"
  start_load balance http://203.0.113.7/
  sleep 0.5
  stop_origin 1
  sleep 2
  [ "$(load_failed balance)" = 0 ] && ok "$(load_total balance) requests, none failed" ||
    fail "$(load_failed balance) of $(load_total balance) requests failed"
  show sluice status
  start_origin 1
  eventually 15 both_answer && ok "origin-1 is back and used again" || fail "origin-1 is not used again"
  stop_load
  [ "$(load_failed balance)" = 0 ] || fail "$(load_failed balance) requests failed while it came back"
}

now_ms() { echo $(($(date +%s%N) / 1000000)); }
ban_drops() { ctl bans --output json | { grep -o '"packets": *[0-9]*' || true; } | awk -F: '{ s += $2 } END { print s + 0 }'; }

step_limit() {
  heading 5 "limit: 429 with Retry-After; who keeps on is banned, and dies in the kernel"
  local i began before_ticks after_ticks idle_ticks gateway drops_before drops_after url=http://203.0.113.7/limited
  explain "10.71.0.3 asks faster than per-client allows (1/s, burst 10): twelve times, and once more to look at."
  show client curl -sS -o /dev/null --interface 10.71.0.3 --max-time 3 "$url?[1-12]" \
    --next -sS -i --interface 10.71.0.3 --max-time 3 "$url"
  expect "429 Too Many Requests" '^HTTP/1.1 429'
  expect "with Retry-After" '^[Rr]etry-[Aa]fter: [0-9]+'
  explain "It goes on. Twenty refusals within ten seconds are a ban of a minute:"
  in_client curl -s -o /dev/null --fail-early --interface 10.71.0.3 --max-time 1 "$url?[1-60]" || true  # until it is cut off
  show sluice bans
  expect "10.71.0.3 is banned" '10\.71\.0\.3'
  gateway=$(gateway_pid)
  drops_before=$(ban_drops)
  before_ticks=$(cpu_ticks "$gateway") began=$(now_ms)
  for i in $(seq 3); do in_client curl -s -o /dev/null --interface 10.71.0.3 --max-time 0.5 http://203.0.113.7/ || true; done
  after_ticks=$(cpu_ticks "$gateway")
  sleep "$(awk -v ms="$(($(now_ms) - began))" 'BEGIN { print ms / 1000 }')"  # nobody comes, for as long
  idle_ticks=$(($(cpu_ticks "$gateway") - after_ticks))
  drops_after=$(ban_drops)
  [ "$drops_after" -gt "$drops_before" ] && ok "its packets die in the TC program: $drops_before dropped, now $drops_after" ||
    fail "the drop counter did not rise ($drops_before, $drops_after)"
  [ $((after_ticks - before_ticks)) -le $((idle_ticks + 3)) ] &&
    ok "the gateway process spent $((after_ticks - before_ticks)) ticks of CPU meanwhile ($idle_ticks while nobody comes)" ||
    fail "the gateway spent $((after_ticks - before_ticks)) ticks on a banned source, $idle_ticks while nobody comes"
  in_client curl -sS -o /dev/null --max-time 3 http://203.0.113.7/ && ok "10.71.0.2 is served as ever" || fail "an innocent client suffers"
  explain "It would run out by itself; the operator need not wait:"
  show sluice unban 10.71.0.3/32
  eventually 10 mallory_served && ok "10.71.0.3 is served again" || fail "the ban did not end"
}

mallory_cut() { ! in_client curl -s -o /dev/null --interface 10.71.0.3 --max-time 0.4 http://203.0.113.7/; }
# A busy machine is no rule: the one that is meant has to be there.
rule_cuts() { mallory_cut && ctl drops | grep -q operator-drop; }
mallory_served() { in_client curl -s -o /dev/null --interface 10.71.0.3 --max-time 1 http://203.0.113.7/; }

step_rules() {
  heading 6 "rules: a drop rule is added to the file while traffic flows"
  local saved generation
  start_load rules http://203.0.113.7/
  sleep 0.3
  write_policy 's/^#DROP//'
  explain "policy.yaml gained: - { name: operator-drop, from: [10.71.0.3/32], action: drop }"
  saved=$(date +%s%N)
  eventually 10 rule_cuts && ok "in force: 10.71.0.3 is cut off ($((($(date +%s%N) - saved) / 1000000)) ms after saving, 400 of them curl's patience)" ||
    fail "the drop rule is not in force"
  show sluice drops
  expect "the rule has a counter" 'operator-drop'
  generation=$(ctl status --output json | grep -o '"generation": *[0-9]*' | head -n 1)
  explain "A broken file is refused, and nothing changes:"
  write_policy 's/^#DROP//' 's/lb_policy: round_robin/lb_polcy: round_robin/' 's/burst: 10/burst: lots/'
  show sluice reload
  expect "every error with file:line:column and what would be right" 'policy\.yaml:[0-9]+:[0-9]+:.*lb_policy'
  expect "all of them at once" 'policy\.yaml:[0-9]+:[0-9]+:.*burst'
  [ "$status" != 0 ] || fail "a refused reload must not exit 0"
  [ "$(ctl status --output json | grep -o '"generation": *[0-9]*' | head -n 1)" = "$generation" ] || fail "the generation moved"
  mallory_cut && ok "the running policy is still in force" || fail "a broken file changed what runs"
  write_policy
  eventually 5 mallory_served && ok "the rule is removed again: 10.71.0.3 is served" || fail "the rule was not removed"
  stop_load
  [ "$(load_failed rules)" = 0 ] && ok "meanwhile $(load_total rules) requests of 10.71.0.2, none failed" ||
    fail "$(load_failed rules) of $(load_total rules) requests of a bystander failed"
}

step_crash() {
  heading 7 "crash: kill -9 under load"
  local old
  start_load crash http://203.0.113.7/
  sleep 0.3
  old=$(gateway_pid)
  explain "kill -9 $old (the gateway process)"
  kill -9 "$old"
  eventually 2 in_client curl -sS -o /dev/null --max-time 1 http://203.0.113.7/ || fail "no service within a second"
  eventually 2 gateway_replaced "$old" && ok "the next gateway serves" || fail "no new gateway"
  stop_load
  [ "$(load_refused crash)" = 0 ] && ok "$(load_total crash) connections under way or opened meanwhile, none refused ($(load_failed crash) cut)" ||
    fail "$(load_refused crash) connections were refused"

  explain "Now both processes, with a drop rule for 10.71.0.3 in force:"
  write_policy 's/^#DROP//'
  eventually 5 mallory_cut || fail "the drop rule is not in force"
  old=$(gateway_pid)
  kill -9 "$main_pid" "$old" 2>/dev/null || true
  wait "$main_pid" 2>/dev/null || true
  wait_gone "$old" || true
  ban_rule_holds
  explain "on_exit: closed"
  ! in_client curl -s -o /dev/null --max-time 1 http://10.72.1.2:8080/ && ok "intercepted traffic fails closed" || fail "it should fail closed"
  write_policy
  start_sluice
  show client curl -sS --max-time 5 http://203.0.113.7/back
  expect "a restart took over what was pinned and serves" '^origin-[12] answers'
  eventually 5 mallory_served || fail "10.71.0.3 should be served again: the file has no drop rule now"

  explain "on_exit: bypass"
  write_policy 's/@ON_EXIT@/bypass/'
  ctl reload >/dev/null || fail "reload"
  old=$(gateway_pid)
  kill -9 "$main_pid" "$old" 2>/dev/null || true
  wait "$main_pid" 2>/dev/null || true
  eventually 10 flows_straight && ok "and flows straight once the lease has run out: the origin sees no gateway" || fail "it should flow straight"
  printf '%s\n' "$out" | sed 's/^/     /'
  write_policy
  start_sluice
}
gateway_replaced() { local now; now=$(gateway_pid) && [ -n "$now" ] && [ "$now" != "$1" ]; }
ban_rule_holds() {
  # Packets to the node's own address show it: nothing of Sluice's runs, and still the kernel drops.
  ! in_client curl -s -o /dev/null --interface 10.71.0.3 --max-time 1 http://10.72.1.2:8080/ || fail "10.71.0.3 got through"
  in_client ping -c 1 -W 1 -I 10.71.0.3 10.71.0.1 >/dev/null 2>&1 && fail "the drop rule did not stay in force" ||
    ok "nothing of Sluice's runs, and the drop rule is in force (ping from 10.71.0.3 dies)"
  in_client ping -c 1 -W 1 -I 10.71.0.2 10.71.0.1 >/dev/null 2>&1 && ok "ping from 10.71.0.2 passes" || fail "ping from 10.71.0.2 died"
}
flows_straight() {
  out=$(in_client curl -sS --max-time 1 http://10.72.1.2:8080/straight) &&
    printf '%s\n' "$out" | grep -q 'called from 10.71.0.2 .*forwarded for: $'
}

step_untouched() {
  heading 8 "untouched: a download across the node survives Sluice's start, crash and stop"
  local sum pid
  stop_sluice
  explain "Sluice is stopped. A download of 16 MiB from origin-1 starts, straight across the node …"
  in_client curl -fsS --max-time 60 -o "$work/big.bin" http://10.72.1.2:8080/big.bin &
  pid=$!
  sleep 1
  start_sluice; explain "… Sluice started"
  sleep 2
  local old; old=$(gateway_pid)
  kill -9 "$main_pid" "$old" 2>/dev/null || true
  wait "$main_pid" 2>/dev/null || true
  explain "… both processes killed"
  sleep 2
  start_sluice; explain "… Sluice started again"
  sleep 1
  stop_sluice; explain "… Sluice stopped"
  wait "$pid" || fail "the download broke"
  sum=$(sha256sum <"$work/big.bin")
  [ "$sum" = "$(sha256sum <"$work/origin-1/big.bin")" ] && ok "the download is whole: ${sum:0:16}…" || fail "the download differs"
  start_sluice
}

step_metrics() {
  heading 9 "metrics: as Prometheus would scrape them"
  in_client curl -s -o /dev/null http://203.0.113.7/
  in_node curl -sS http://127.0.0.1:9464/metrics >"$work/metrics.txt" || fail "no metrics page"
  promtool check metrics <"$work/metrics.txt" && ok "promtool check metrics accepts all $(grep -vc '^#' "$work/metrics.txt") series" ||
    fail "promtool refuses the page"
  explain "Some of them:"
  out=$(grep -E '^sluice_(requests_total|connections_total|guard_rule|policy_generation|steer_assigned)' "$work/metrics.txt" | grep -v ' 0$' | head -n 12)
  printf '%s\n' "$out" | sed 's/^/     /'
}
