"""From an offence in the gateway to packets dropped in the kernel, in two namespaces: the client's and the node's."""
import json
import os
import signal
import subprocess
import sys

import pytest

from harness import HANG, SLUICE, Process, Sluice, eventually
from namespaces import Star, inside


@pytest.fixture
def star():
    if os.getuid() != 0:
        pytest.skip("needs root for network namespaces and BPF")
    with Star("ban", 1) as made:
        yield made


@pytest.fixture(autouse=True)
def no_trace(star):
    yield
    subprocess.run(inside(star.rim[0], SLUICE, "cleanup"), capture_output=True, timeout=HANG, check=False)


class Node(Sluice):
    """The gateway in the rim's namespace; clients are in the hub's, at 10.77.1.1."""

    def __init__(self, scratch, star, bans, name="node", more=""):
        self.star, self.pins = star, f"{scratch.path}/pins"
        super().__init__(scratch, f"""version: 1
state_dir: {scratch.path}/state
workers: 2
listeners: {{ web: {{ bind: "10.77.1.2:8080" }} }}
upstreams: {{ origin: {{ endpoints: ["127.0.0.1:8000"] }}, honeypot: {{ endpoints: ["127.0.0.1:8001"] }} }}
limits: {{ few: {{ rate: 1/h, burst: 1 }} }}
guard: {{ interfaces: [eth0] }}
bans: {bans}
{more}
routes:
  - {{ name: bait, path: /bait, upstream: origin, access: {{ deny: [0.0.0.0/0] }} }}
  - {{ name: limited, path: /limited, upstream: origin, limits: [few] }}
  - {{ name: all, upstream: origin }}
""", name=name)

    def command(self, arguments):
        return inside(self.star.rim[0], *arguments)

    def bans(self):
        return json.loads(self.ctl("bans", "--output", "json").stdout)["bans"]


def origin(scratch, star):
    config = scratch.write("origin.conf", f"""
user root; daemon off; worker_processes 1; pid {scratch.path}/nginx.pid;
events {{ worker_connections 512; }}
http {{ access_log off; server {{ listen 127.0.0.1:8000; return 200 "ok\\n"; }}
  server {{ listen 127.0.0.1:8001; return 418 "honey\\n"; }} }}
""")
    Process(scratch, "origin", inside(star.rim[0], "nginx", "-c", config, "-e", f"{scratch.path}/error.log"))


def ask(star, path, patience=2, forwarded_for=""):
    who = ["-H", f"X-Forwarded-For: {forwarded_for}"] if forwarded_for else []
    done = subprocess.run(inside(star.hub, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", str(patience),
                                 *who, f"http://10.77.1.2:8080{path}"), capture_output=True, text=True, timeout=HANG, check=False)
    return int(done.stdout or 0)


# Keeps a connection open, says so, and prints what ends it.
WAIT = """
import socket, sys
waiting = socket.create_connection(("10.77.1.2", 8080), 20)
waiting.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
assert waiting.recv(100).startswith(b"HTTP/1.1 200")
print("open", flush=True)
sys.stdin.readline()
try:
    waiting.settimeout(15)
    while waiting.recv(1000): pass
    print("closed")
except ConnectionResetError:
    print("reset")
except TimeoutError:
    print("silent")
"""


def test_one_request_for_the_bait_and_the_source_is_dropped_everywhere(scratch, star):
    origin(scratch, star)
    node = Node(scratch, star, "{ rules: [{ when: { event: access_denied, route: bait, count: 1 }, for: 60s, grow: 2 }] }")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    waiting = subprocess.Popen(inside(star.hub, sys.executable, "-c", WAIT), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert waiting.stdout.readline() == "open\n"
        ask(star, "/bait")
        eventually(lambda: [b["address"] for b in node.bans()] in (["10.77.1.1"], ["10.77.1.1/32"]), "the source is banned")
        assert ask(star, "/", patience=1) == 0
        # The gateway's side of what was open has ended at once; what the client hears of it is dropped or a reset.
        eventually(lambda: node.status()["workers"] and sum(w["connections"] for w in node.status()["workers"]) == 0,
                   "its open connections are closed")
        waiting.stdin.write("\n")
        waiting.stdin.flush()
    finally:
        waiting.kill()
        waiting.wait()
        waiting.stdin.close()
        waiting.stdout.close()
    reason = node.bans()[0]["reason"]
    assert "access_denied" in reason and "node.yaml:" in reason

    # A reload keeps it, and so does a gateway that crashes, and a restart of both.
    with open(node.policy) as file:
        node.write_policy(file.read().replace("rate: 1/h", "rate: 2/h"))
    node.ctl("reload")
    assert len(node.bans()) == 1
    node.stop(signal.SIGTERM)
    assert ask(star, "/", patience=1) == 0
    node = Node(scratch, star, "{ rules: [{ when: { event: access_denied, route: bait, count: 1 } }] }", name="again")
    assert len(node.bans()) == 1 and ask(star, "/", patience=1) == 0
    node.ctl("unban", "10.77.1.1")
    eventually(lambda: ask(star, "/") == 200, "it serves again")
    ask(star, "/bait")
    eventually(node.bans, "a pardon is not for the next offence")
    node.stop()


def test_an_audited_rule_bans_nobody(scratch, star):
    origin(scratch, star)
    node = Node(scratch, star, "{ rules: [{ when: { limit: few, count: 2 }, mode: audit },"
                               " { when: { event: access_denied, count: 100 } }] }", more='metrics: { bind: "127.0.0.1:9179" }')
    eventually(lambda: ask(star, "/") == 200, "it serves")
    assert [ask(star, "/limited") for _ in range(4)] == [200, 429, 429, 429]
    eventually(lambda: "would ban (audit)" in node.output(), "it says whom it would ban")
    assert node.bans() == [] and ask(star, "/") == 200
    page = subprocess.run(inside(star.rim[0], "curl", "-sS", "http://127.0.0.1:9179/metrics"), capture_output=True, text=True,
                          timeout=HANG, check=True).stdout
    assert 'sluice_bans_audited_total{limit="few"} 1\n' in page and 'sluice_bans_requested_total{limit="few"} 0\n' in page


def test_who_bans_the_own_address_is_asked(scratch, star, monkeypatch):
    node = Node(scratch, star, "{}")
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.8 51000 203.0.113.1 22")
    refused = node.ctl("ban", "198.51.100.0/24", check=False)
    assert refused.returncode == 1 and "your own SSH connection comes from 198.51.100.8" in refused.stderr
    node.ctl("ban", "198.51.101.0/24")
    node.ctl("ban", "198.51.100.0/24", "--force")
    assert sorted(ban["address"] for ban in node.bans()) == ["198.51.100.0/24", "198.51.101.0/24"]


def test_who_is_protected_is_so_without_a_running_sluice(scratch, star):
    node = Node(scratch, star, "{}", more="protect: { from: [198.51.100.0/24] }\ntrusted_proxies: [203.0.113.7]")
    node.ctl("ban", "192.0.2.7")
    with open(node.policy) as file:
        node.write_policy(file.read().replace("[198.51.100.0/24]", "[198.51.100.0/24, 192.0.2.0/24]"))
    node.ctl("reload")
    assert [(ban["address"], ban["action"], ban["protected"]) for ban in node.bans()] == [("192.0.2.7/32", "drop", True)]
    assert "none: protected" in node.ctl("bans").stdout
    node.stop()

    def offline(*words):
        return subprocess.run(inside(star.rim[0], SLUICE, *words, "--socket", node.socket), capture_output=True, text=True,
                              timeout=HANG, check=False)

    refused = offline("ban", "198.51.100.8")
    assert refused.returncode == 1 and "the policy that was in force last protects it" in refused.stderr, refused
    done = offline("ban", "192.0.3.8")
    assert done.returncode == 0 and "banned 192.0.3.8" in done.stdout and "trusted_proxies" in done.stderr, done
    bans = {ban["address"]: ban.get("protected", False) for ban in json.loads(offline("bans", "--output", "json").stdout)["bans"]}
    assert bans == {"192.0.2.7/32": True, "192.0.3.8/32": False}


BAIT = "{ rules: [{ when: { event: access_denied, route: bait, count: 1 }, %s }] }"


def upgraded(node):
    before = node.status()["gateway"]["pid"]
    node.ctl("upgrade")
    eventually(lambda: node.status()["gateway"]["pid"] != before and node.status()["gateway"]["ready"], "the next one serves")


def test_a_gateway_that_crashes_right_after_an_upgrade_leaves_its_bans(scratch, star):
    origin(scratch, star)
    node = Node(scratch, star, BAIT % "for: 1h, action: route, upstream: honeypot")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    ask(star, "/bait")
    assert ask(star, "/") == 418
    for _ in range(3):
        node.ctl("upgrade")  # done when the new gateway serves
        os.kill(node.status()["gateway"]["pid"], signal.SIGKILL)
        eventually(lambda: ask(star, "/") in (200, 418), "the next one serves")
        assert ask(star, "/") == 418


def test_a_source_that_goes_to_the_honeypot_is_listed_kept_and_let_go(scratch, star):
    origin(scratch, star)
    rules = BAIT % "for: 1h, action: route, upstream: honeypot"
    node = Node(scratch, star, rules)
    eventually(lambda: ask(star, "/") == 200, "it serves")
    ask(star, "/bait")
    assert ask(star, "/") == 418  # what it asks for goes elsewhere, and it is not told
    [ban] = node.bans()
    assert (ban["address"], ban["action"], ban["upstream"]) == ("10.77.1.1/32", "route", "honeypot")
    assert 3500 < ban["seconds_left"] <= 3600 and "access_denied" in ban["reason"]
    assert "route honeypot" in node.ctl("bans").stdout
    upgraded(node)
    assert ask(star, "/") == 418
    node.stop(signal.SIGTERM)
    node = Node(scratch, star, rules, name="again")
    assert ask(star, "/") == 418 and len(node.bans()) == 1
    assert json.loads(node.ctl("unban", "10.77.1.1", "--output", "json").stdout)["was_banned"] is True
    assert ask(star, "/") == 200 and node.bans() == []
    node.stop(signal.SIGTERM)
    node = Node(scratch, star, rules, name="third")
    assert ask(star, "/") == 200 and node.bans() == []
    node.stop()


def test_bans_of_a_repeater_grow_on_over_upgrades_restarts_and_crashes(scratch, star):
    origin(scratch, star)
    rules = BAIT % "for: 1m, grow: 4, up_to: 24h"
    node = Node(scratch, star, rules)
    eventually(lambda: ask(star, "/") == 200, "it serves")

    def offend(node, at_least):
        """One more time: by hand the ban is over early, but the gateway remembers that there was one."""
        ask(star, "/bait")
        left = eventually(node.bans, "it is banned")[0]["seconds_left"]
        assert at_least < left <= at_least + 60, left
        node.ctl("unban", "10.77.1.1")

    offend(node, 0)
    node.stop(signal.SIGTERM)
    kept = f"{scratch.path}/state/gateway-memory"
    assert os.stat(kept).st_mode & 0o777 == 0o600
    age_bans(kept, 61)
    node = Node(scratch, star, rules, name="again")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    offend(node, 180)
    upgraded(node)
    offend(node, 900)
    node.stop(signal.SIGTERM)
    age_bans(kept, 241)
    node = Node(scratch, star, rules, name="third")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    offend(node, 3780)
    node.stop()


def age_bans(path, seconds):
    """As if the node had been off so long: another boot, and a wall clock that went on."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    at = 4 + 12 + 4  # magic, version
    size = int.from_bytes(data[at:at + 4], "little")
    data[at + 4] = ord("x")  # the boot's id
    wall = at + 4 + size + 8
    then = int.from_bytes(data[wall:wall + 8], "little") - seconds * 10**9
    data[wall:wall + 8] = then.to_bytes(8, "little")
    with open(path, "wb") as file:
        file.write(data)


def test_whom_a_proxy_names_is_refused_by_the_gateway_and_the_proxy_goes_on(scratch, star):
    """Nobody has shaken hands as 198.51.100.7: dropping its packets would hit whoever owns the address."""
    origin(scratch, star)
    node = Node(scratch, star, "{ rules: [{ when: { limit: few, count: 2 }, for: 1h }] }", more="trusted_proxies: [10.77.1.1]")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    assert [ask(star, "/limited", forwarded_for="198.51.100.7") for _ in range(4)] == [200, 429, 429, 403]
    assert ask(star, "/", forwarded_for="198.51.100.7") == 403
    assert ask(star, "/", forwarded_for="198.51.100.8") == 200
    [ban] = node.bans()
    assert (ban["address"], ban["action"]) == ("198.51.100.7/32", "refuse")
    assert "packets" not in ban  # nothing of it is in the kernel
    # The proxy itself speaks for many: never banned, whatever it does and whoever asks.
    assert [ask(star, "/limited") for _ in range(5)] == [200, 429, 429, 429, 429]
    assert len(node.bans()) == 1 and ask(star, "/") == 200
    refused = node.ctl("ban", "10.77.1.1", check=False)
    assert refused.returncode == 1 and "trusted_proxies" in refused.stderr
    upgraded(node)
    assert ask(star, "/", forwarded_for="198.51.100.7") == 403
    node.ctl("unban", "198.51.100.7")
    assert ask(star, "/", forwarded_for="198.51.100.7") == 200
    node.stop()


def killed(node):
    """kill -9 to the gateway, once the keeper has heard what it knows."""
    status = node.status()["gateway"]
    def heard_since():
        now = node.status()["gateway"]["memory"]
        heard.append(now.get("age_ms", 0))
        return len(heard) > 1 and heard[-1] < heard[-2]
    for _ in range(2):  # an answer may have been under way: the one after it knows
        heard = []
        eventually(heard_since, "the gateway is asked what it knows")
    os.kill(status["pid"], signal.SIGKILL)
    eventually(lambda: (g := node.status()["gateway"])["pid"] != status["pid"] and g["ready"], "the next one serves")


def test_limits_and_bans_are_carried_over_a_crash_of_the_gateway(scratch, star):
    origin(scratch, star)
    node = Node(scratch, star, "{}", more="trusted_proxies: [10.77.1.1]")
    with open(node.policy) as file:
        text = file.read()
    node.write_policy(text.replace("few: { rate", "bait: { rate: 1/h, burst: 1 }, few: { rate")
                      .replace("bans: {}", "bans: { rules: [{ when: { limit: bait, count: 1 }, for: 1h, action: route, upstream: honeypot }] }")
                      .replace("  - { name: all,", "  - { name: honey, path: /honey, upstream: origin, limits: [bait] }\n  - { name: all,"))
    node.ctl("reload")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    assert [ask(star, "/limited") for _ in range(2)] == [200, 429]
    assert [ask(star, "/honey", forwarded_for="198.51.100.9") for _ in range(2)] == [200, 429]
    assert ask(star, "/", forwarded_for="198.51.100.9") == 418
    killed(node)
    assert ask(star, "/limited") == 429
    assert ask(star, "/", forwarded_for="198.51.100.9") == 418
    node.ctl("unban", "198.51.100.9")
    assert ask(star, "/", forwarded_for="198.51.100.9") == 200
    killed(node)
    assert ask(star, "/", forwarded_for="198.51.100.9") == 200  # who was let go stays free
    node.stop()


SLOW = """
import socket, sys
held = socket.create_connection(("10.77.1.2", 8080), 20)
held.sendall(b"GET /one HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
assert held.recv(100).startswith(b"HTTP/1.1 200")
print("held", flush=True)
sys.stdin.readline()
"""


def test_places_are_counted_by_each_gateway_while_the_old_one_finishes(scratch, star):
    """Both together may allow twice `max`, until the old one is gone: docs/guard.md says so."""
    origin(scratch, star)
    node = Node(scratch, star, "{}")
    os.makedirs(f"{scratch.path}/files")
    with open(f"{scratch.path}/files/one", "wb") as file:
        file.write(b"x" * 10_000_000)
    slow = scratch.write("slow.conf", f"""user root; daemon off; worker_processes 1; pid {scratch.path}/slow.pid;
events {{ worker_connections 64; }} http {{ access_log off; server {{ listen 127.0.0.1:8002; limit_rate 4k; root {scratch.path}/files; }} }}""")
    Process(scratch, "slow", inside(star.rim[0], "nginx", "-c", slow, "-e", f"{scratch.path}/slow.log"))
    with open(node.policy) as file:
        text = file.read()
    node.write_policy(text.replace("few: { rate", "one: { unit: concurrency, max: 1, key: [route] }, few: { rate")
                      .replace("upstreams: {", 'upstreams: { slow: { endpoints: ["127.0.0.1:8002"] },')
                      .replace("  - { name: all,", "  - { name: one, path: /one, upstream: slow, limits: [one] }\n  - { name: all,"))
    node.ctl("reload")
    clients = []

    def hold():
        clients.append(subprocess.Popen(inside(star.hub, sys.executable, "-c", SLOW), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return clients[-1].stdout.readline() == "held\n"

    try:
        eventually(hold, "one place is taken")
        assert ask(star, "/one") == 429
        upgraded(node)
        assert hold()  # the next gateway begins with none
        assert ask(star, "/one") == 429
        assert node.status()["gateway"]["finishing"]  # and the old one has its own
    finally:
        for client in clients:
            client.kill()
            client.wait()
            client.stdin.close()
            client.stdout.close()
    eventually(lambda: ask(star, "/one", patience=1) != 429, "places are given back")
    node.stop()


def test_limits_are_carried_over_an_upgrade(scratch, star):
    origin(scratch, star)
    node = Node(scratch, star, "{}")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    assert [ask(star, "/limited") for _ in range(2)] == [200, 429]
    upgraded(node)
    assert ask(star, "/limited") == 429
    # Another number of workers is another process, too.
    with open(node.policy) as file:
        text = file.read()
    node.write_policy(text.replace("workers: 2", "workers: 1"))
    node.ctl("reload")
    assert ask(star, "/limited") == 429
    assert "begins with fresh limits" not in node.output()
    node.stop()
