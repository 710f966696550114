"""Limits, access rules and diverted sources on one gateway without root: curl before, nginx behind."""
import concurrent.futures
import json
import os
import re
import resource
import socket
import subprocess

import pytest

from certificates import Authority
from harness import HANG, SANITIZED, SLUICE, Nginx, Sluice, connect, curl, eventually, exchange, free_port, read_all


def start(scratch, routes, more="", listener="", extra="", bind="127.0.0.1"):
    """A gateway with upstreams `origin` and `trap`; `routes` is YAML of its routes."""
    origin = Nginx(scratch, extra=extra or "location = /private { return 401; }")
    trap = Nginx(scratch, name="trap")
    port, metrics = free_port(), free_port()
    sluice = Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state
workers: 2
metrics: {{ bind: "127.0.0.1:{metrics}" }}
listeners: {{ web: {{ bind: "{bind}:{port}" {listener} }} }}
upstreams:
  origin: {{ endpoints: ["127.0.0.1:{origin.port}"] }}
  trap: {{ endpoints: ["127.0.0.1:{trap.port}"] }}
routes: {routes}
{more}
""")
    sluice.port, sluice.metrics_port = port, metrics
    return sluice


def get(sluice, path="/", *arguments, address="127.0.0.1"):
    code, body, head = curl(f"http://{address}:{sluice.port}{path}", *arguments)
    status = int(head.split()[1]) if code == 0 else 0
    return status, body.decode(), head


def metric(sluice, name):
    _, page, _ = curl(f"http://127.0.0.1:{sluice.metrics_port}/metrics")
    found = re.search(rf"^{re.escape(name)} (\S+)$", page.decode(), re.M)
    return float(found.group(1)) if found else None


def test_a_refusal_says_when_to_come_back(scratch):
    sluice = start(scratch, "[{ name: api, upstream: origin, limits: [few] }]", "limits: { few: { rate: 2/m, burst: 2 } }")
    assert [get(sluice)[0] for _ in range(2)] == [200, 200]
    status, _, head = get(sluice)
    assert status == 429
    assert re.search(r"^Retry-After: (29|30)$", head, re.M)
    assert re.search(r'^RateLimit-Policy: "few";q=2;w=60$', head, re.M)
    assert re.search(r'^RateLimit: "few";r=0;t=(29|30)$', head, re.M)
    assert metric(sluice, 'sluice_limit_verdicts_total{limit="few",verdict="rejected"}') == 1
    assert metric(sluice, 'sluice_limit_keys{limit="few"}') == 1


@pytest.mark.parametrize("rate, policy", [("3/s", "q=3;w=1"), ("7/m", "q=7;w=60"), ("3/s, burst: 4", "q=4;w=2")])
def test_the_window_that_is_told_is_the_policys_own(scratch, rate, policy):
    sluice = start(scratch, "[{ name: api, upstream: origin, limits: [few] }]", f"limits: {{ few: {{ rate: {rate} }} }}")
    heads = [get(sluice)[2] for _ in range(20)]
    assert re.search(rf'^RateLimit-Policy: "few";{policy}$', "".join(heads), re.M)


def test_limits_by_header_count_each_value_and_all_who_have_none(scratch):
    sluice = start(scratch, "[{ upstream: origin, limits: [by-key] }]",
                   "limits: { by-key: { rate: 1/h, burst: 1, key: [{ header: X-Api-Key }] } }")
    assert get(sluice, "/", "-H", "x-api-key: a")[0] == 200
    assert get(sluice, "/", "-H", "x-api-key: a")[0] == 429
    assert get(sluice, "/", "-H", "x-api-key: b")[0] == 200
    assert get(sluice)[0] == 200
    assert get(sluice)[0] == 429


def test_what_one_limit_refuses_uses_up_no_other(scratch):
    routes = ("[{ name: a, path: /a, upstream: origin, limits: [client, { name: route, cost: 2 }] },"
              " { name: b, path: /b, upstream: origin, limits: [client] }]")
    sluice = start(scratch, routes, "limits: { client: { rate: 1/h, burst: 3 }, route: { rate: 1/h, burst: 2, key: [route] } }")
    assert [get(sluice, "/a")[0] for _ in range(5)] == [200, 429, 429, 429, 429]
    assert [get(sluice, "/b")[0] for _ in range(3)] == [200, 200, 429]


def test_a_limit_that_only_counts_lets_everything_through(scratch):
    sluice = start(scratch, "[{ upstream: origin, limits: [look] }]", "limits: { look: { rate: 1/h, burst: 1, action: count } }")
    assert [get(sluice)[0] for _ in range(3)] == [200] * 3
    assert metric(sluice, 'sluice_limit_verdicts_total{limit="look",verdict="counted"}') == 2


def test_delayed_requests_wait_for_their_turn_and_no_longer_than_allowed(scratch):
    sluice = start(scratch, "[{ upstream: origin, limits: [slow] }]",
                   "limits: { slow: { rate: 5/s, burst: 1, action: delay, max_delay: 1s, key: [route] } }")
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: get(sluice, "/", "-w", "%{time_total}"), range(12)))
    waits = sorted(float(re.search(r"(\d+\.\d+)$", body).group(1)) for status, body, _ in answers if status == 200)
    # One at once, five within a second: those who come meanwhile may make it more.
    assert 6 <= len(waits) < 12
    assert waits[5] >= 0.7
    assert {status for status, _, _ in answers} == {200, 429}
    assert metric(sluice, 'sluice_limit_verdicts_total{limit="slow",verdict="delayed"}') >= 5


def test_a_client_that_leaves_while_delayed_is_noticed(scratch):
    sluice = start(scratch, "[{ upstream: origin, limits: [slow] }]",
                   "limits: { slow: { rate: 2/m, burst: 1, action: delay, max_delay: 60s, key: [route] } }")
    assert get(sluice)[0] == 200
    with connect(sluice.port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: metric(sluice, 'sluice_requests_active{listener="web"}') == 1, "it waits")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: metric(sluice, 'sluice_requests_active{listener="web"}') == 0, "it is gone")


def test_concurrency_is_given_back(scratch):
    slow = "location = /slow { limit_rate 2k; alias ORIGIN/files/slow; }".replace("ORIGIN", f"{scratch.path}/origin")
    sluice = start(scratch, "[{ name: api, upstream: origin, limits: [two] }]",
                   "limits: { two: { unit: concurrency, max: 2, key: [route] } }", extra=slow)
    os.makedirs(f"{scratch.path}/origin/files", exist_ok=True)
    with open(f"{scratch.path}/origin/files/slow", "wb") as file:
        file.write(b"x" * 1_000_000)
    held = [connect(sluice.port) for _ in range(2)]
    for connection in held:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 200")
    status, _, head = get(sluice)
    assert status == 429 and 'RateLimit-Policy: "two";q=2;qu="concurrent-requests"' in head
    held.pop().close()
    eventually(lambda: get(sluice)[0] == 200, "a place is free again")
    held.pop().close()
    eventually(lambda: metric(sluice, 'sluice_limit_keys{limit="two"}') == 0, "all places are given back")


def test_access_rules_of_a_route_refuse_with_403(scratch):
    sluice = start(scratch, "[{ path: /in, upstream: origin, access: { allow: [127.0.0.0/8] } },"
                            " { path: /out, upstream: origin, access: { deny: [127.0.0.1] } }]")
    assert get(sluice, "/in")[0] == 200
    assert get(sluice, "/out")[0] == 403
    assert metric(sluice, 'sluice_access_denied_total{listener="web"}') == 1


def test_a_listener_turns_away_before_it_reads_a_byte_and_a_reload_changes_who(scratch):
    listener = ", access: { deny: [127.0.0.1] }"
    log = f"{scratch.path}/access.log"
    sluice = start(scratch, "[{ upstream: origin }]", f"logs: {{ access: {{ path: {log} }} }}", listener=listener)
    assert exchange(sluice.port, b"") == b""
    eventually(lambda: os.path.getsize(log) > 0, "the refusal is logged")
    with open(log) as file:
        line = json.loads(file.readline())
    assert (line["kind"], line["reason"], line["client"].split(":")[0]) == ("refused", "access denied", "127.0.0.1")
    with open(sluice.policy) as file:
        text = file.read()
    sluice.write_policy(text.replace(listener, ""))
    eventually(lambda: get(sluice)[0] == 200, "the reload lets it in")


def test_plain_tcp_has_access_rules_and_connection_limits(scratch):
    sluice = start(scratch, "[{ listener: web, upstream: origin, limits: [open] }]",
                   "limits: { open: { unit: concurrency, max: 2 }, new: { unit: connections, rate: 1/h, burst: 4 } }",
                   listener=", protocol: tcp, limits: [new]")
    first, second = connect(sluice.port), connect(sluice.port)
    for connection in (first, second):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 200")
    assert exchange(sluice.port, b"") == b""
    first.close()
    eventually(lambda: metric(sluice, 'sluice_connections_active{listener="web",way="bind"}') == 1, "one is gone")
    with connect(sluice.port) as fourth:
        fourth.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert fourth.recv(20).startswith(b"HTTP/1.1 200")
    assert exchange(sluice.port, b"") == b""  # the rate of new ones is used up
    second.close()
    assert metric(sluice, 'sluice_limit_verdicts_total{limit="new",verdict="rejected"}') == 1
    assert metric(sluice, 'sluice_limit_verdicts_total{limit="open",verdict="rejected"}') == 1


def test_connection_limits_of_a_source_come_before_tls(scratch):
    """A handshake costs 0.5 ms of CPU: who has too many connections gets none."""
    pair = Authority(scratch.path).issue("a.example")
    sluice = start(scratch, "[{ upstream: origin }]",
                   "limits: { open: { unit: concurrency, max: 2 }, new: { unit: connections, rate: 1/h, burst: 4 } }",
                   listener=f', tls: {{ certificates: [{{ cert: "{pair.cert}", key: "{pair.key}" }}] }}, limits: [new, open]')
    held = [connect(sluice.port) for _ in range(2)]  # not a byte is sent
    eventually(lambda: metric(sluice, 'sluice_connections_active{listener="web",way="bind"}') == 2, "two are open")
    assert exchange(sluice.port, b"") == b""
    assert metric(sluice, 'sluice_limit_verdicts_total{limit="open",verdict="rejected"}') == 1
    held.pop().close()
    eventually(lambda: metric(sluice, 'sluice_connections_active{listener="web",way="bind"}') == 1, "one is gone")
    assert curl("-k", f"https://127.0.0.1:{sluice.port}/")[0] == 0
    held.pop().close()
    eventually(lambda: metric(sluice, 'sluice_connections_active{listener="web",way="bind"}') == 0, "all are gone")
    assert curl("-k", f"https://127.0.0.1:{sluice.port}/")[0] == 0
    assert curl("-k", f"https://127.0.0.1:{sluice.port}/")[0] != 0  # the rate of new ones is used up
    assert metric(sluice, 'sluice_limit_verdicts_total{limit="new",verdict="rejected"}') == 1


@pytest.mark.parametrize("cause, paths", [
    ("{ event: access_denied, route: bait, count: 1 }", ["/bait"]),
    ("{ event: auth_failure, count: 2 }", ["/private", "/private"]),
    ("{ limit: few, count: 2 }", ["/limited"] * 3),
])
def test_suspicious_sources_go_to_a_honeypot(scratch, cause, paths):
    # Loopback is never banned, so that nobody locks himself out. The machine's own address can be.
    found = re.search(r"inet (\S+)/", subprocess.run(["ip", "-4", "address", "show", "scope", "global"],
                                                     capture_output=True, text=True, check=True).stdout)
    if not found:
        pytest.skip("this machine has no address but loopback")
    routes = ("[{ name: bait, path: /bait, upstream: origin, access: { deny: [0.0.0.0/0] } },"
              " { name: limited, path: /limited, upstream: origin, limits: [few] }, { name: all, upstream: origin }]")
    sluice = start(scratch, routes, f"""limits: {{ few: {{ rate: 1/h, burst: 1 }} }}
bans: {{ rules: [{{ when: {cause}, for: 60s, action: route, upstream: trap }}] }}
""", bind="0.0.0.0")
    own = found.group(1)
    assert get(sluice, address=own)[1].startswith("origin ")
    for path in paths:
        assert get(sluice, path, address=own)[0] in (200, 401, 403, 429)
    assert get(sluice, address=own)[1].startswith("trap ")
    assert get(sluice)[1].startswith("origin ")  # others are not
    assert metric(sluice, "sluice_diverted_sources") == 1
    assert [source["source"] for source in sluice.status()["diverted"]] == [f"{own}/32"]
    assert f"{own}/32" in sluice.ctl("bans").stdout  # no keeper is there: the gateway's own
    sluice.ctl("unban", own)
    assert get(sluice, address=own)[1].startswith("origin ")


def check_in_little_memory(path):
    if SANITIZED:  # its shadow memory alone is terabytes of addresses, and what is freed is kept for a while
        limits = dict(os.environ, ASAN_OPTIONS="hard_rss_limit_mb=1024:quarantine_size_mb=8")
        return subprocess.run([SLUICE, "check", path], capture_output=True, text=True, timeout=HANG, env=limits, check=False)
    limit = 512 << 20  # of address space; the libraries take about 40 MiB of it
    return subprocess.run([SLUICE, "check", path], capture_output=True, text=True, timeout=HANG,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)), check=False)


def test_a_billion_laughs_get_an_error_and_not_the_memory(scratch):
    laughs = "version: 1\nlaughs:\n  a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
    laughs += "".join(f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    done = check_in_little_memory(scratch.write("laughs.yaml", laughs))
    assert done.returncode == 1
    assert re.search(r"laughs\.yaml:4:\d+: error: aliases .* are not part of a policy", done.stdout + done.stderr)


def test_a_hundred_mebibytes_get_an_error_and_not_the_memory(scratch):
    path = scratch.write("huge.yaml", "version: 1\nroutes:\n")
    with open(path, "a") as file:
        for _ in range(100):
            file.write("- { upstream: api, path: /a }\n" * ((1 << 20) // 30))
    done = check_in_little_memory(path)
    assert done.returncode == 1
    assert "huge.yaml" in done.stdout + done.stderr and "MiB" in done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["routes", "nested", "brackets", "one line"])
def test_eight_mebibytes_fit_into_little_memory(scratch, kind):
    """As much as is read at all: an error in one line, or none, but never a crash."""
    unit = {"routes": "- { upstream: api, path: /a }\n", "nested": "[" * 10, "brackets": "[],", "one line": "x"}[kind]
    text = "version: 1\nroutes:\n" + unit * (((8 << 20) - 100) // len(unit))
    done = check_in_little_memory(scratch.write("large.yaml", text))
    assert done.returncode == 1
    assert "error:" in done.stdout + done.stderr and "bad_alloc" not in done.stdout + done.stderr
