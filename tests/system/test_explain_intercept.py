"""What `explain` says of interception and steering, offline and live, against real connections and an oracle that
shares no code with either: random local and forward rules, by sk_lookup and by tproxy, both IP versions."""
import ipaddress
import json
import os
import random
import socket
import subprocess
import threading

import pytest

import netns
from harness import HANG, SLUICE, Scratch
from netns import Net, NodeSluice, run

ROUNDS, RULES, CONNECTIONS = (18, 12, 150) if os.environ.get("NIGHTLY") else (6, 9, 60)
SEED = int(os.environ.get("SLUICE_TEST_SEED", "21"))
PORTS = [80, 81, 443, 8000, 8080]
LISTENERS = ["l0", "l1", "l2", "l3"]
SOURCES = {4: ["10.71.0.2", "10.71.0.3", "10.71.0.130"], 6: ["fd71::2", "fd71::3", "fd71::8002"]}
WORLD = {4: "10.80.0.0/14", 6: "fd80::/16"}


class World:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def destination(self, version):
        r = self.random
        if version == 4:
            return ipaddress.ip_address(f"10.{80 + r.randrange(3)}.{r.choice([0, 1])}.{r.choice([1, 2, 129])}")
        return ipaddress.ip_address(f"fd80:{r.randrange(3)}:{r.choice([0, 1])}::{r.choice(['1', '2', '8001'])}")

    def prefix(self, version):
        length = self.random.choice([14, 16, 23, 24, 25, 32] if version == 4 else [16, 32, 47, 48, 113, 128])
        return ipaddress.ip_network(f"{self.destination(version)}/{length}", strict=False)

    def source(self, version):
        length = self.random.choice([24, 25, 32] if version == 4 else [64, 113, 128])
        return ipaddress.ip_network(f"{self.random.choice(SOURCES[version])}/{length}", strict=False)

    def ports(self):
        r = self.random
        some = r.sample(PORTS, 2)
        return [(p, p) for p in sorted(some)] if r.random() < 0.6 else [(min(some), max(some))]

    def rule(self, way):
        r = self.random
        version = r.choice([4, 6])
        rule = {"to": [self.prefix(version) for _ in range(r.randrange(1, 3))], "ports": self.ports(),
                "listener": r.choice(LISTENERS)}
        if way == "forward" and r.random() < 0.5:
            rule["from"] = [self.source(version)]
        if r.random() < 0.4:
            rule["except"] = {"to": [self.prefix(version)]}
            if r.random() < 0.5:
                rule["except"]["from"] = [self.source(version)]
        return rule

    def connection(self):
        version = self.random.choice([4, 6])
        return {"from": ipaddress.ip_address(self.random.choice(SOURCES[version])), "to": self.destination(version),
                "port": self.random.choice(PORTS)}


def overlap(a, b):
    return any(x.version == y.version and x.overlaps(y) for x in a for y in b)


def ports_overlap(a, b):
    return any(x[0] <= y[1] and y[0] <= x[1] for x in a["ports"] for y in b["ports"])


def claims_the_same(way, a, b):
    """What a policy may not say: forward rules have no order, and local ones none between equals."""
    if a["listener"] == b["listener"]:
        return False
    if way == "local":
        return any(x == y for x in a["to"] for y in b["to"]) and any(x == y for x in a["ports"] for y in b["ports"])
    everybody = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    return overlap(a.get("from", everybody), b.get("from", everybody)) and overlap(a["to"], b["to"]) and ports_overlap(a, b)


def rules_of(world, way):
    rules = []
    for _ in range(RULES * 3):
        rule = world.rule(way)
        if len(rules) < RULES and not any(claims_the_same(way, rule, other) for other in rules):
            rules.append(rule)
    return rules


# --- the oracle -----------------------------------------------------------------------------------


def in_any(networks, address):
    return any(address.version == network.version and address in network for network in networks)


def in_ports(ranges, port):
    return any(first <= port <= last for first, last in ranges)


def closeness(rule, connection):
    """The longest prefix, then the narrowest ports; None: it does not catch the connection."""
    if "from" in rule and not in_any(rule["from"], connection["from"]):
        return None
    if any(in_any(networks, connection[side]) for side, networks in rule.get("except", {}).items()):
        return None
    fitting = [(network.prefixlen, first - last) for network in rule["to"] for first, last in rule["ports"]
               if in_any([network], connection["to"]) and first <= connection["port"] <= last]
    return max(fitting, default=None)


def closest(rules, connection):
    caught = [(closeness(rule, connection), rule["listener"]) for rule in rules]
    return max((one for one in caught if one[0] is not None), default=(None, None))[1]


def oracle(local, forward, protect, connection):
    """(way, who answers): a listener, the origin, or nobody, since the address is the node's."""
    if any(in_any(rule["to"], connection["to"]) for rule in local):
        listener = closest(local, connection)
        return ("local", listener) if listener else (None, "nobody")
    for entry in protect:
        ends = (connection["from"], connection["to"])
        if any(in_any([entry["cidr"]], end) for end in ends) and in_ports(entry["to_ports"], connection["port"]):
            return None, "origin"
    listener = closest(forward, connection)
    return ("forward", listener) if listener else (None, "origin")


# --- the same for sluice, and on the wire ---------------------------------------------------------


def plain(value):
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [f"{v[0]}-{v[1]}" if isinstance(v, tuple) else plain(v) for v in value]
    return str(value) if not isinstance(value, (int, str)) else value


def policy(scratch, local, forward, protect, steering):
    steered = [[{**plain(rule), "steering": steering} for rule in rules] for rules in (local, forward)]
    return json.dumps({
        "version": 1, "state_dir": scratch.path + "/state", "workers": 1, "logs": {"access": {"format": "none"}},
        "protect": {"from": plain(protect)},
        "intercept": {"local": steered[0], "forward": steered[1]},
        "listeners": {name: {"protocol": "tcp"} for name in LISTENERS},
        "upstreams": {name: {"endpoints": [f"127.0.0.1:{7000 + n}"]} for n, name in enumerate(LISTENERS)},
        "routes": [{"listener": name, "upstream": name} for name in LISTENERS]})


def told(answer):
    return answer.get("way"), answer.get("listener")


def explain(where, questions, command=()):
    done = subprocess.run([*command, SLUICE, "explain", *where, "--questions", "-"], capture_output=True, text=True,
                          input="".join(json.dumps(q) + "\n" for q in questions), timeout=3 * HANG)
    assert done.returncode == 0, done.stderr + done.stdout[-500:]
    return [told(json.loads(line)) for line in done.stdout.splitlines()]


def serve(namespace, address, port, name):
    """Says its name to whoever connects."""
    ready = threading.Event()

    def body():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, dualstack_ipv6=address == "::", backlog=64)
        ready.set()
        while True:
            connection, _ = listener.accept()
            connection.sendall(name.encode())
            connection.close()

    netns.Thread(namespace, body)
    assert ready.wait(HANG)


def ask(connection):
    family = socket.AF_INET if connection["to"].version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(HANG)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((str(connection["from"]), 0))
        try:
            client.connect((str(connection["to"]), connection["port"]))
            text = b""
            while data := client.recv(100):
                text += data
        except ConnectionRefusedError:
            return "nobody"
        return text.decode()


@pytest.fixture
def net():
    with Scratch() as scratch:
        net = Net(scratch)
        for version, option in ((4, []), (6, ["-6"])):
            gateway = "10.72.0.2" if version == 4 else "fd72::2"
            run("ip", "-n", net.node, *option, "route", "add", WORLD[version], "via", gateway)
            run("ip", "-n", net.origin, *option, "route", "add", "local", WORLD[version], "dev", "lo")
            for address in SOURCES[version][1:]:
                run("ip", "-n", net.client, "addr", "add", f"{address}/{24 if version == 4 else 64}", "dev", "eth0",
                    *(["nodad"] if version == 6 else []))
        for port in PORTS:
            serve(net.origin, "::", port, "origin")
        for number, name in enumerate(LISTENERS):
            serve(net.node, "127.0.0.1", 7000 + number, name)
        yield net


def test_explain_offline_live_real_connections_and_an_oracle_agree(net):
    world, running = World(SEED), None
    answers = {"local": 0, "forward": 0, "origin": 0, "nobody": 0}
    for number in range(ROUNDS):
        steering = ["sk_lookup", "tproxy", "auto"][number % 3]
        local = rules_of(world, "local")[: RULES // 2]
        # A wide local prefix would leave nothing to forward rules.
        local = [rule for rule in local if all(n.prefixlen > (16 if n.version == 4 else 32) for n in rule["to"])]
        forward = rules_of(world, "forward")
        protect = [{"cidr": world.prefix(version), "to_ports": world.ports()} for version in (4, 6)]
        text = policy(net.scratch, local, forward, protect, steering)
        if running is None:
            running = NodeSluice(net, text)
        else:
            running.write_policy(text)
            running.ctl("reload")
        connections = [world.connection() for _ in range(CONNECTIONS)]
        expected = [oracle(local, forward, protect, connection) for connection in connections]
        questions = [{"from": str(c["from"]), "to": str(c["to"]), "to_port": c["port"]} for c in connections]
        offline = explain(["--policy", running.policy], questions)
        live = explain(["--socket", running.socket], questions, net.command(net.node))
        answered = net.as_client(lambda: [ask(connection) for connection in connections]).result()
        for index, connection in enumerate(connections):
            way, who = expected[index]
            answers[way or who] += 1
            context = f"round {number} ({steering}), seed {SEED}: {connection}\n{text}"
            assert answered[index] == who, f"on the wire: {context}"
            caught = (way, who) if way else (None, None)
            assert offline[index] == caught, f"offline: {context}"
            assert live[index] == caught, f"live: {context}"
    # A world in which nearly all goes one way proves nothing.
    assert min(answers.values()) > ROUNDS * CONNECTIONS / 30, answers
