# How the demo talks: headings, commands with their real output, checks. Sourced by quickstart.sh.
# shellcheck shell=bash disable=SC2154

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' dim='' green='' red='' plain=''
fi

heading() { printf '\n%s%s. %s%s\n' "$bold" "$1" "$2" "$plain"; }
explain() { printf '   %s\n' "$*"; }
ok() { printf '   %s✓%s %s\n' "$green" "$plain" "$*"; }
fail() { printf '   %s✗ %s%s\n' "$red" "$*" "$plain"; exit 1; }

# show WHERE COMMAND…: prints the command as a reader would type it, runs it, prints and keeps its output in $out.
show() {
  local where=$1; shift
  printf '   %s%s$ %s%s\n' "$dim" "$where" "$*" "$plain"
  out=$("in_$where" "$@" 2>&1) && status=0 || status=$?
  [ -z "$out" ] || printf '%s\n' "$out" | sed 's/^/     /'
}
expect() {  # DESCRIPTION PATTERN (extended regular expression, against $out)
  if printf '%s\n' "$out" | grep -Eq -- "$2"; then ok "$1"; else fail "$1: expected /$2/"; fi
}

# eventually SECONDS COMMAND…: until it succeeds, or fails after so many seconds.
eventually() {
  local until=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $until ] || return 1
    sleep 0.05
  done
}

show_topology() {
  printf '\n%sThe network%s (namespaces of this demo alone; nothing is configured at the client)\n' "$bold" "$plain"
  cat <<EOF
   client 10.71.0.2, 10.71.0.3 ── lan0 [ node: Sluice ] wan1 ── origin-1 10.72.1.2:8080 (nginx)
                                                    └── wan2 ── origin-2 10.72.2.2:8080 (nginx)
EOF
}

show_evidence() {
  printf '\n%sWhat Sluice said last:%s\n' "$bold" "$plain"
  tail -n 25 "$work/sluice.log" 2>/dev/null | sed 's/^/   /' || true
}
