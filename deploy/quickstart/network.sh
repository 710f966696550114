# The demo's network, in namespaces of its own: sourced by quickstart.sh.
#
#   client ── lan0 [ node ] wan1 ── origin-1
#   10.71.0.2       │      \─ wan2 ── origin-2
#   10.71.0.3    Sluice        10.72.1.2, 10.72.2.2 (port 8080: nginx)
#
# shellcheck shell=bash disable=SC2154

ns_prefix="sluice-demo-$$"
client=$ns_prefix-client
node=$ns_prefix-node
origins=("$ns_prefix-origin-1" "$ns_prefix-origin-2")

make_link() {  # NS_A IF_A ADDR4_A ADDR6_A  NS_B IF_B ADDR4_B ADDR6_B
  ip link add "$2" netns "$1" type veth peer name "$6" netns "$5"
  ip -n "$1" addr add "$3" dev "$2"
  ip -n "$1" addr add "$4" dev "$2" nodad
  ip -n "$5" addr add "$7" dev "$6"
  ip -n "$5" addr add "$8" dev "$6" nodad
  ip -n "$1" link set "$2" up
  ip -n "$5" link set "$6" up
}

make_network() {
  local ns i
  for ns in "$client" "$node" "${origins[@]}"; do
    ip netns add "$ns"
    ip -n "$ns" link set lo up
  done
  make_link "$client" eth0 10.71.0.2/24 fd71::2/64 "$node" lan0 10.71.0.1/24 fd71::1/64
  ip -n "$client" addr add 10.71.0.3/24 dev eth0
  ip -n "$client" route add default via 10.71.0.1
  ip -n "$client" -6 route add default via fd71::1
  for i in 1 2; do
    make_link "${origins[i - 1]}" eth0 10.72.$i.2/24 "fd72:$i::2/64" "$node" "wan$i" 10.72.$i.1/24 "fd72:$i::1/64"
    ip -n "${origins[i - 1]}" route add default via 10.72.$i.1
    ip -n "${origins[i - 1]}" -6 route add default via "fd72:$i::1"
  done
  in_node sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
}

remove_network() {
  local ns
  for ns in "$client" "$node" "${origins[@]}"; do
    ip netns del "$ns" 2>/dev/null || true
  done
}

# nsenter and not `ip netns exec`: the latter mounts a /sys without the BPF file system.
in_ns() { local ns=$1; shift; nsenter --net="/run/netns/$ns" "$@"; }
in_client() { in_ns "$client" "$@"; }
in_node() { in_ns "$node" "$@"; }

start_origin() {  # 1 | 2
  local dir=$work/origin-$1
  mkdir -p "$dir"
  [ -e "$dir/big.bin" ] || head -c 16M /dev/urandom >"$dir/big.bin"
  cat >"$dir/nginx.conf" <<EOF
user root;
pid $dir/nginx.pid;
error_log $dir/error.log;
worker_processes 1;
daemon on;
events { worker_connections 512; }
http {
  access_log off;
  keepalive_requests 100000;
  server {
    listen 8080;
    listen [::]:8080;
    location / {
      default_type text/plain;
      return 200 "origin-$1 answers; called from \$remote_addr for http://\$http_host\$request_uri; forwarded for: \$http_x_forwarded_for\n";
    }
    location /big.bin { root $dir; limit_rate 1m; }
  }
}
EOF
  in_ns "${origins[$1 - 1]}" nginx -c "$dir/nginx.conf" -e "$dir/error.log"
}

stop_origin() {  # 1 | 2
  local pid
  pid=$(cat "$work/origin-$1/nginx.pid" 2>/dev/null) || return 0
  kill -TERM "$pid" 2>/dev/null || true
  wait_gone "$pid"
}

wait_gone() {  # PID
  local _
  for _ in $(seq 100); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.05
  done
  return 1
}
