"""What a reload may change of the kernel's side, and how an upstream on the node itself answers a client's address."""
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import threading

import pytest

import netns
from harness import HANG, SLUICE, Scratch, Sluice, curl, eventually, free_port, Nginx
from netns import Net, NodeSluice

POLICY = """
version: 1
state_dir: {state}
workers: 1
metrics: {{ bind: "127.0.0.1:9464" }}
logs: {{ access: {{ format: none }} }}
{more}
listeners:
  web: {{ protocol: http }}
  raw: {{ protocol: tcp }}
upstreams:
  origin: {{ endpoints: ["10.72.0.2:8080"] }}
  here: {{ endpoints: ["{here}"], source_address: client }}
routes: [{{ listener: web, upstream: origin }}, {{ listener: raw, upstream: here }}]
"""
FORWARD = "{ to: [10.72.0.0/16], ports: [8080], listener: web }"


@pytest.fixture
def net():
    with Scratch() as scratch:
        made = Net(scratch)
        made.nginx()
        yield made


def policy(net, more, here="127.0.0.1:7000"):
    return POLICY.format(state=f"{net.scratch.path}/state", more=more, here=here)


def caught(net):
    """Who the origin says called: the node when the gateway did."""
    return "10.72.0.1" in (net.curl("http://10.72.0.2:8080/") or "")


def say_peer(net, address, port=7000):
    """A server on the node that says who called, then echoes."""
    ready = threading.Event()

    def serve(connection, peer):
        connection.sendall(f"called from {peer[0]}\n".encode())
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.close()

    def body():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family)
        ready.set()
        while True:
            threading.Thread(target=serve, args=listener.accept(), daemon=True).start()

    netns.Thread(net.node, body)
    assert ready.wait(HANG)


@pytest.mark.parametrize("version, here", [(4, "127.0.0.1:7000"), (4, "10.72.0.1:7000"), (6, "[::1]:7000"), (6, "[fd72::1]:7000")])
@pytest.mark.parametrize("way", ["local", "bind"])
def test_an_upstream_on_the_node_sees_the_clients_address(net, version, here, way):
    say_peer(net, here.rsplit(":", 1)[0].strip("[]"))
    target = ("203.0.113.7" if version == 4 else "2001:db8:7::7") if way == "local" else ("10.71.0.1" if version == 4 else "fd71::1")
    net.in_node("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.lan0.rp_filter=1")
    more = "intercept: { local: [{ to: [203.0.113.0/24, \"2001:db8:7::/64\"], ports: [7], listener: raw }] }"
    text = policy(net, more if way == "local" else "", here)
    if way == "bind":
        text = text.replace("raw: { protocol: tcp }", f'raw: {{ protocol: tcp, bind: "{"[::]" if version == 6 else "0.0.0.0"}:7" }}')
    NodeSluice(net, text)
    client = {4: "10.71.0.2", 6: "fd71::2"}[version]

    def talk():
        with socket.create_connection((target, 7), HANG) as connection:
            connection.settimeout(HANG)
            stream = connection.makefile("rb")
            said = stream.readline()
            payload = os.urandom(300_000)
            threading.Thread(target=connection.sendall, args=(payload,), daemon=True).start()
            assert stream.read(len(payload)) == payload
            return said

    assert net.as_client(talk).result().decode() == f"called from {client}\n"


def test_the_first_intercept_rule_and_the_last_come_by_reload(net):
    guard = "guard: { interfaces: [lan0], rules: [{ name: nobody, from: [192.0.2.0/24] }] }\n"
    sluice = NodeSluice(net, policy(net, guard).replace(", source_address: client", ""))
    assert not caught(net)
    gateway = sluice.gateway()
    sluice.write_policy(policy(net, guard + f"intercept: {{ forward: [{FORWARD}] }}").replace(", source_address: client", ""))
    sluice.ctl("reload")
    assert caught(net)
    sluice.write_policy(policy(net, guard).replace(", source_address: client", ""))
    sluice.ctl("reload")
    assert not caught(net)
    assert sluice.gateway() == gateway, "the same process served all three"


def test_other_marks_by_reload_cut_no_connection(net):
    say_peer(net, "127.0.0.1")
    entries = f"local: [{{ to: [203.0.113.0/24], ports: [7], listener: raw }}], forward: [{FORWARD}], output: [{{ to: [10.72.0.2/32], ports: [8080], listener: web }}]"
    sluice = NodeSluice(net, policy(net, f"intercept: {{ {entries} }}"))

    def connect():
        connection = socket.create_connection(("203.0.113.7", 7), HANG)
        connection.settimeout(HANG)
        assert b"called from" in connection.recv(100)
        return connection

    def echoes(connection):
        connection.sendall(b"still there\n")
        return connection.recv(100) == b"still there\n"

    before = net.as_client(connect).result()
    gateway = sluice.gateway()
    marks = "marks: { mark: 0x1000000, mask: 0x3000000, table: 5188, priority: 5188 }"
    sluice.write_policy(policy(net, f"intercept: {{ {marks}, {entries} }}"))
    sluice.ctl("reload")
    eventually(lambda: sluice.gateway() not in (None, gateway), "a gateway with the other mark serves")
    assert echoes(before), "the connection through the gateway before"
    assert caught(net)
    # What the node itself opens is caught once, not again when the gateway passes it on.
    assert "origin, called from 10.72.0.1" in net.in_node("curl", "-sS", "--max-time", "5", "http://10.72.0.2:8080/")
    assert echoes(net.as_client(connect).result())
    rules = net.in_node("ip", "rule")
    assert "5188" in rules and "5177" not in rules
    sluice.write_policy(policy(net, f"intercept: {{ marks: {{ mark: 0x2000000, mask: 0x6000000 }}, {entries} }}"))
    refused = sluice.ctl("reload", check=False)
    assert refused.returncode != 0
    assert "intercept.marks: mask 0x6000000 shares bits with 0x3000000" in refused.stdout + refused.stderr + sluice.output()
    assert echoes(before)


def test_what_needs_the_kernel_is_refused_by_a_process_that_has_none():
    with Scratch() as scratch:
        origin, port = Nginx(scratch), free_port()
        text = f"""version: 1
state_dir: {scratch.path}/state
listeners: {{ web: {{ bind: "127.0.0.1:{port}" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{origin.port}"] }} }}
routes: [{{ upstream: api }}]
"""
        sluice = Sluice(scratch, text)
        sluice.write_policy(text + "guard: { rules: [{ name: nobody, from: [192.0.2.0/24] }] }\n")
        refused = sluice.ctl("reload", check=False)
        said = refused.stdout + refused.stderr
        assert refused.returncode != 0 and said.count("needs the kernel") == 1 and "restart it" in said, said
        assert curl(f"http://127.0.0.1:{port}/")[0] == 0


def endpoints(sluice):
    return {e["address"]: e for u in sluice.status()["upstreams"] for e in u["endpoints"]}


def test_orders_for_endpoints_hold_over_restarts_and_upgrades(net):
    more = f"intercept: {{ forward: [{FORWARD}] }}"
    sluice = NodeSluice(net, policy(net, more))
    sluice.ctl("upstream", "drain", "here")
    sluice.ctl("upstream", "weight", "origin", "10.72.0.2:8080", "7")

    def as_ordered():
        known = endpoints(sluice)
        return known["127.0.0.1:7000"]["drained"] and known["10.72.0.2:8080"]["weight"] == 7

    assert as_ordered()
    gateway = sluice.gateway()
    sluice.ctl("upgrade")
    eventually(lambda: sluice.gateway() not in (None, gateway) and as_ordered(), "the next program knows")
    sluice.stop()
    sluice = NodeSluice(net, policy(net, more), name="again")
    eventually(as_ordered, "so does one that was started anew")
    sluice.ctl("upstream", "ready", "here")
    sluice.stop()
    sluice = NodeSluice(net, policy(net, more), name="third")
    eventually(lambda: endpoints(sluice)["10.72.0.2:8080"]["weight"] == 7, "what was not undone")
    assert not endpoints(sluice)["127.0.0.1:7000"]["drained"]


def test_orders_hold_over_a_restart_without_the_kernel():
    with Scratch() as scratch:
        text = f"""version: 1
state_dir: {scratch.path}/state
listeners: {{ web: {{ bind: "127.0.0.1:{free_port()}" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:9", "127.0.0.2:9"] }} }}
routes: [{{ upstream: api }}]
"""
        first = Sluice(scratch, text)
        first.ctl("upstream", "drain", "api", "127.0.0.2:9")
        first.stop()
        again = Sluice(scratch, text, name="again")
        assert {a: e["drained"] for a, e in endpoints(again).items()} == {"127.0.0.1:9": False, "127.0.0.2:9": True}
        kept = json.load(open(f"{scratch.path}/state/endpoint-orders.json"))
        assert [order["action"] for order in kept["orders"]] == ["drain"]


def test_a_policy_that_takes_a_while_to_compile(net):
    """Its bytes go to the gateway before the keeper has judged them: what it judges otherwise changes nothing."""
    listed = os.path.join(net.scratch.path, "listed.txt")

    def write_set(*more):
        with open(listed, "w", encoding="ascii") as file:
            file.write("".join(f"192.0.{i // 256}.{i % 256}/32\n" for i in range(8000)) + "".join(f"{one}\n" for one in more))

    more = (
        f"sets: {{ listed: {{ file: {listed} }} }}\n"
        "guard: { interfaces: [lan0], rules: [{ name: listed, to: [{ set: listed }] }] }\n"
        f"intercept: {{ forward: [{FORWARD}] }}\n"
    )

    def text(answer, then=more):
        route = f"{{ name: said, listener: web, path: {{ prefix: /said }}, direct_response: {{ status: 200, body: {answer} }} }}"
        return policy(net, then).replace(", source_address: client", "").replace("routes: [", f"routes: [{route}, ")

    def said():
        return net.curl("http://10.72.0.2:8080/said").strip()

    write_set()
    sluice = NodeSluice(net, text("first"))
    gateway = sluice.gateway()
    assert said() == "first"

    sluice.write_policy(text("second"))
    sluice.ctl("reload")
    assert said() == "second"

    sluice.write_policy(text("third", more + "nonsense: 1\n"))
    assert sluice.ctl("reload", check=False).returncode != 0
    assert said() == "second"

    sluice.write_policy(text("second") + "# the same\n")
    assert "unchanged" in sluice.ctl("reload", "--output", "json").stdout
    assert said() == "second"

    write_set("10.72.0.9")  # another file than the policy
    sluice.write_policy(text("fourth"))
    sluice.ctl("reload")
    assert said() == "fourth"
    assert "dropped by rule" in sluice.ctl("explain", "--from", "10.71.0.2", "--to", "10.72.0.9", "--port", "9").stdout

    # The set of another name, of which the policy before said nothing.
    sluice.write_policy(text("fifth", more.replace("listed:", "others:").replace("set: listed", "set: others")))
    sluice.ctl("reload")
    assert said() == "fifth"

    # Another number of workers takes another process: what this one was told ahead is withdrawn.
    assert sluice.gateway() == gateway
    sluice.write_policy(text("sixth").replace("workers: 1", "workers: 2"))
    sluice.ctl("reload")
    eventually(lambda: sluice.gateway() not in (None, gateway), "a gateway with two workers serves")
    assert said() == "sixth"
    generation = sluice.status()["generation"]
    eventually(lambda: sluice.metric("sluice_policy_generation") == 2 * generation, "both layers say the same")


@contextlib.contextmanager
def stopped_worker(gateway):
    """One thread of the gateway stands still, the others do not. It runs on before the process can be ended: until who traces it has waited
    for it, nobody else can."""
    libc = ctypes.CDLL(None, use_errno=True)
    seize, interrupt, detach = 0x4206, 0x4207, 17
    thread = next(tid for tid in map(int, os.listdir(f"/proc/{gateway}/task")) if comm(gateway, tid) == "worker-0")
    for request in (seize, interrupt):
        assert libc.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(thread, 0x40000000)  # __WALL: it stands
    try:
        yield
    finally:
        libc.ptrace(detach, thread, None, None)


def comm(pid, tid):
    with open(f"/proc/{pid}/task/{tid}/comm") as file:
        return file.read().strip()


def test_a_gateway_that_hangs_while_it_puts_a_policy_in_force_is_replaced(net):
    def text(answer):
        route = f"{{ name: said, listener: web, path: {{ prefix: /said }}, direct_response: {{ status: 200, body: {answer} }} }}"
        whole = policy(net, f"intercept: {{ forward: [{FORWARD}] }}").replace(", source_address: client", "")
        return whole.replace("routes: [", f"routes: [{route}, ")

    said = lambda: (net.curl("http://10.72.0.2:8080/said") or "").strip()
    sluice = NodeSluice(net, text("first"))
    hung = sluice.gateway()
    assert said() == "first"
    with stopped_worker(hung):
        sluice.write_policy(text("second"))
        reload = subprocess.Popen(net.command(net.node, SLUICE, "reload", "--socket", sluice.socket), stdout=subprocess.DEVNULL)
        try:
            eventually(lambda: said() == "second", "another one takes its place", seconds=HANG + 60)
            assert reload.wait(HANG) == 0
        finally:
            reload.kill()
            reload.wait()
    assert "the gateway runs and does not answer" in sluice.output()
    assert sluice.gateway() != hung
    sluice.write_policy(text("third"))
    sluice.ctl("reload")
    assert said() == "third"


@pytest.mark.parametrize("first", ["direction: both", "hook: xdp", "express: both"])
def test_a_program_of_the_kernel_that_a_reload_asks_for_first(net, first):
    """It is loaded while a timer's signals keep the reload from holding up workers; the verifier gives up where one waits."""
    text = f"""version: 1
state_dir: {net.scratch.path}/state
workers: 1
listeners: {{ web: {{ bind: "10.71.0.1:8000"@EXPRESS@ }} }}
upstreams: {{ origin: {{ endpoints: ["10.72.0.2:8080"] }} }}
routes: [{{ listener: web, upstream: origin }}]
guard: {{ interfaces: ["lan*"]@HOOK@, rules: [{{ name: telnet, to_ports: [23], protocol: tcp@DIRECTION@ }}] }}
"""

    def policy(asked=""):
        return (text.replace("@EXPRESS@", ", express: both" if asked.startswith("express") else "")
                .replace("@HOOK@", ", attach: xdp" if "xdp" in asked else "")
                .replace("@DIRECTION@", ", direction: both" if asked.startswith("direction") else ""))
    sluice = NodeSluice(net, policy())
    for _ in range(2):
        sluice.write_policy(policy(first))
        sluice.ctl("reload")
        assert sluice.status()["warnings"] == []
        sluice.write_policy(policy())
        sluice.ctl("reload")
