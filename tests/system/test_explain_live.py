"""What `explain` says of a running gateway: places taken, shares of the cluster, bans that the gateway enforces itself."""
import json
import os
import signal
import subprocess

import pytest

from harness import HANG, Process, connect, curl, eventually, free_port
from test_bans import Node, ask, no_trace, origin, star  # noqa: F401 (fixtures)
from test_limits import start


def explained(sluice, *words):
    return json.loads(sluice.ctl("explain", *words, "--output", "json").stdout)


def steps(answer, phase):
    return [step for step in answer["steps"] if step["phase"] == phase]


def now_of(answer, phase="limits"):
    """Of a limit's only reason: what it says of this moment."""
    [step] = steps(answer, phase)
    return step["reasons"][0]["text"].split("; now: ")[1]


def test_places_that_are_taken(scratch):
    slow = f"location = /slow {{ limit_rate 2k; alias {scratch.path}/origin/files/slow; }}"
    sluice = start(scratch, "[{ name: api, upstream: origin, limits: [two] }]",
                   "limits: { two: { unit: concurrency, max: 2, key: [client_ip] } }", extra=slow)
    os.makedirs(f"{scratch.path}/origin/files", exist_ok=True)
    with open(f"{scratch.path}/origin/files/slow", "wb") as file:
        file.write(b"x" * 1_000_000)
    question = ("--from", "127.0.0.1", f"http://127.0.0.1:{sluice.port}/")
    assert now_of(explained(sluice, *question)) == "0 of 2 under way"
    held = []
    for taken in (1, 2):
        held.append(connect(sluice.port))
        held[-1].sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert held[-1].recv(20).startswith(b"HTTP/1.1 200")
        answer = explained(sluice, *question)
        assert now_of(answer) == f"{taken} of 2 under way"
        assert (answer.get("status"), answer["verdict"]) == ((429, "refuse") if taken == 2 else (None, "forward"))
    assert now_of(explained(sluice, "--from", "127.0.0.9", f"http://127.0.0.1:{sluice.port}/")) == "0 of 2 under way"
    # Without its client nobody knows whose places are meant.
    assert now_of(explained(sluice, f"http://127.0.0.1:{sluice.port}/")) == "depends on the client"
    for connection in held:
        connection.close()
    eventually(lambda: now_of(explained(sluice, *question)) == "0 of 2 under way", "they are given back")


def test_connections_that_are_open_on_a_listener(scratch):
    sluice = start(scratch, "[{ upstream: origin }]", "limits: { open: { unit: concurrency, max: 1 } }", listener=", limits: [open]")
    packet = ("--from", "127.0.0.1", "--to", "127.0.0.1", "--port", str(sluice.port))
    with connect(sluice.port):
        eventually(lambda: now_of(explained(sluice, *packet)) == "1 of 1 under way", "it is counted")
        answer = explained(sluice, *packet)
        assert answer["verdict"] == "refuse" and answer["outcome"] == "a new connection is closed by limit `open`"
    eventually(lambda: now_of(explained(sluice, *packet)) == "0 of 1 under way", "it is gone")
    assert explained(sluice, *packet)["verdict"] == "caught"


def test_a_delayed_request_is_let_in_and_one_that_would_wait_too_long_is_not(scratch):
    sluice = start(scratch, "[{ upstream: origin, limits: [slow] }]",
                   "limits: { slow: { rate: 2/m, burst: 1, action: delay, max_delay: 40s, key: [route] } }")
    url = f"http://127.0.0.1:{sluice.port}/"
    assert now_of(explained(sluice, url)) == "0 of 1 left after this one"
    assert curl(url)[0] == 0
    answer = explained(sluice, url)
    assert now_of(answer).startswith("none left: waits for ") and answer["verdict"] == "forward"
    with connect(sluice.port) as waits:
        waits.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = eventually(lambda: (a := explained(sluice, url))["verdict"] == "refuse" and a, "the next would wait for too long")
        assert answer["status"] == 429 and now_of(answer).startswith("none left, the next in ")


class Redis(Process):
    def __init__(self, scratch, port, name="redis"):
        config = scratch.write(f"{name}.conf", f'port {port}\nbind 127.0.0.1\nsave ""\nappendonly no\ndir {scratch.path}\n')
        super().__init__(scratch, name, ["redis-server", config])
        self.port = port
        eventually(lambda: "PONG" in self.cli("PING"), "redis answers")

    def cli(self, *words):
        return subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, timeout=HANG, check=False).stdout


@pytest.mark.parametrize("on_loss", ["share", "deny", "per_node"])
def test_shares_of_the_cluster_and_what_holds_without_redis(scratch, on_loss):
    redis = Redis(scratch, free_port())
    sluice = start(scratch, "[{ name: web, path: /web, upstream: origin, limits: [all] }, { name: few, path: /few, upstream: origin, limits: [few] }]",
                   f"""cluster: {{ redis: {{ url: "redis://127.0.0.1:{redis.port}", on_loss: {on_loss} }} }}
limits: {{ all: {{ key: [route], scope: cluster, rate: 100/s, burst: 100 }}, few: {{ key: [route], scope: cluster, rate: 4/h, burst: 3 }} }}
""")
    url = f"http://127.0.0.1:{sluice.port}"
    eventually(lambda: "limits of scope cluster are shared" in sluice.output(), "Redis is there")
    assert now_of(explained(sluice, f"{url}/web")) == ("no share is leased, the first ones go ahead of it; "
                                                       "Redis has not been asked about this key lately")
    assert curl(f"{url}/web")[0] == 0
    # A lease lasts for a second: one that is seen is asked for just before.
    def leased():
        curl(f"{url}/web")
        return " of the leased share left, for " in now_of(explained(sluice, f"{url}/web"))
    eventually(leased, "a share is leased")
    assert "; Redis gave " in now_of(explained(sluice, f"{url}/web"))
    for left in (2, 1, 0):
        assert curl(f"{url}/few")[0] == 0
        assert now_of(explained(sluice, f"{url}/few")).endswith(f", {left} left by that")
    assert curl(f"{url}/few")[2].startswith("HTTP/1.1 429")
    answer = explained(sluice, f"{url}/few")
    assert answer["status"] == 429 and "Redis gave 0, less than asked for, " in now_of(answer)
    redis.stop(signal.SIGKILL)
    eventually(lambda: "cannot be asked" in sluice.output(), "it is noticed")
    answer = explained(sluice, f"{url}/few")
    assert now_of(answer).startswith(f"Redis cannot be asked: `on_loss: {on_loss}` is in force")
    # What it says is what happens: nobody begins with a burst anew.
    assert answer["status"] == 429 and curl(f"{url}/few")[2].startswith("HTTP/1.1 429")
    if on_loss == "deny":
        assert explained(sluice, f"{url}/web")["status"] == 429


def test_a_diverted_source_as_a_packet_as_a_request_and_as_an_address(scratch, star):  # noqa: F811
    origin(scratch, star)
    node = Node(scratch, star, "{ rules: [{ when: { event: access_denied, route: bait, count: 1 }, for: 1h, action: route, upstream: honeypot }] }")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    packet = ("--from", "10.77.1.1", "--to", "10.77.1.2", "--port", "8080")
    assert explained(node, *packet, "http://a/")["outcome"] == "forwarded to upstream `origin`"
    ask(star, "/bait")
    assert ask(star, "/") == 418
    for question in ((*packet, "http://a/"), packet, ("--from", "10.77.1.1", "http://a/"), ("--from", "10.77.1.1")):
        told = [step for step in steps(explained(node, *question), "bans") if "honeypot" in step["verdict"]]
        assert [step["verdict"] for step in told] == ["10.77.1.1/32 is banned: it goes to upstream `honeypot`"], question
        assert "access_denied" in told[0]["reasons"][0]["text"] and "s left" in told[0]["reasons"][0]["text"]
    answer = explained(node, *packet, "http://a/")
    assert not steps(answer, "route") and "`honeypot`" in steps(answer, "balance")[0]["verdict"]
    assert explained(node, "--from", "10.77.1.9", "http://a/")["outcome"] == "forwarded to upstream `origin`"
    node.ctl("unban", "10.77.1.1")
    assert explained(node, *packet, "http://a/")["outcome"] == "forwarded to upstream `origin`"
    node.stop()


def test_whom_a_proxy_names_is_told_from_who_connects(scratch, star):  # noqa: F811
    origin(scratch, star)
    node = Node(scratch, star, "{ rules: [{ when: { limit: few, count: 2 }, for: 1h }] }",
                more=f"trusted_proxies: [10.77.1.1]\nlogs: {{ access: {{ path: {scratch.path}/access.log }} }}")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    assert [ask(star, "/limited", forwarded_for="198.51.100.7") for _ in range(4)] == [200, 429, 429, 403]
    proxy = ("--from", "10.77.1.1", "--to", "10.77.1.2", "--port", "8080")
    answer = explained(node, *proxy, "http://a/", "--header", "X-Forwarded-For: 198.51.100.7")
    assert steps(answer, "client")[0]["verdict"] == "198.51.100.7, by X-Forwarded-For of the trusted proxy 10.77.1.1"
    assert (answer["status"], answer["outcome"]) == (403, "refused by the gateway: 198.51.100.7/32 is banned")
    assert explained(node, *proxy, "http://a/", "--header", "X-Forwarded-For: 198.51.100.8")["verdict"] == "forward"
    assert explained(node, *proxy, "http://a/")["verdict"] == "forward"
    # What was decided is in the log, which names whom the proxy named.
    for status, place in ((429, "limit `few`"), (403, "still banned: limit few (")):
        def line_of(status=status):
            with open(f"{scratch.path}/access.log") as log:
                return next(line for line in map(json.loads, log) if line["status"] == status)
        line = eventually(line_of, "it is logged")
        logged = explained(node, "--request", f"{line['connection']}/{line['request']}", "--log", f"{scratch.path}/access.log")
        assert logged["status"] == status and logged["decided"]["places"][0]["text"].startswith(place), logged
        assert logged["now"]["verdict"] and steps(logged, "listener")
    # Nobody has shaken hands as it: its own packets are let in.
    answer = explained(node, "--from", "198.51.100.7", "--to", "10.77.1.2", "--port", "8080", "http://a/")
    assert answer["verdict"] == "forward" and "only what a proxy says" in steps(answer, "bans")[-1]["verdict"]
    node.stop()


def test_an_address_alone(scratch, star):  # noqa: F811
    origin(scratch, star)
    node = Node(scratch, star, "{}", more="sets: { bad: { elements: [192.0.2.0/24] } }")
    with open(node.policy) as file:
        node.write_policy(file.read().replace("guard: { interfaces: [eth0] }", "guard: { interfaces: [eth0], rules: "
                          "[{ name: bad, from: { set: bad } }, { name: telnet, to_ports: [23], protocol: tcp }] }"))
    node.ctl("reload")
    eventually(lambda: ask(star, "/") == 200, "it serves")
    answer = explained(node, "--from", "192.0.2.7")
    [guard] = steps(answer, "guard")
    assert guard["reasons"][0]["text"] == "rule `bad`: names it, by set `bad`, drops its packets"
    assert guard["reasons"][1]["text"].startswith("1 rule looks at any source")
    assert steps(answer, "access")[0]["verdict"] == "refused by 1 listener or route"  # the bait
    assert ask(star, "/limited") == 200
    assert "limit `few`" in steps(explained(node, "--from", "10.77.1.1"), "limits")[0]["reasons"][0]["text"]
    assert steps(explained(node, "--from", "10.77.1.1"), "limits")[0]["verdict"] == "1 limit is used up"
    node.ctl("ban", "10.77.1.1", "--for", "10m")
    answer = explained(node, "--from", "10.77.1.1")
    assert answer["verdict"] == "drop" and "is banned" in answer["outcome"]
    assert "origin" in steps(explained(node, "--from", "127.0.0.1"), "protect")[0]["reasons"][0]["text"]
    node.stop()


def test_bans_of_a_gateway_without_a_keeper_are_listed_and_let_go(scratch):
    """Without root: nothing of the kernel, but trusted proxies and a honeypot."""
    sluice = start(scratch, "[{ path: /bait, upstream: origin, access: { deny: [0.0.0.0/0] } }, { upstream: origin }]",
                   "trusted_proxies: [127.0.0.1]\nbans: { rules: [{ when: { event: access_denied, count: 1 }, for: 60s, action: route, upstream: trap }] }")
    header = ("-H", "X-Forwarded-For: 198.51.100.7")
    url = f"http://127.0.0.1:{sluice.port}"
    assert curl(f"{url}/bait", *header)[2].startswith("HTTP/1.1 403")
    assert curl(f"{url}/", *header)[1].startswith(b"trap ")
    [ban] = json.loads(sluice.ctl("bans", "--output", "json").stdout)["bans"]
    assert (ban["address"], ban["action"], ban["upstream"]) == ("198.51.100.7/32", "route", "trap")
    assert json.loads(sluice.ctl("unban", "198.51.100.7", "--output", "json").stdout)["was_banned"] is True
    assert curl(f"{url}/", *header)[1].startswith(b"origin ")
