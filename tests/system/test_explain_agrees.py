"""What `explain` says, offline and live, against real packets and an oracle that shares no code with either.

Random rules over a small world, so that things meet; every packet is sent through the real guard.
"""
import ipaddress
import json
import os
import random
import subprocess

from harness import HANG, SLUICE, eventually
from wire import PROTOCOLS, SluiceInside, Wire
from wire_netns import link

# A third of a minute on two busy cores; NIGHTLY=1 makes it thousands of rules and packets.
ROUNDS, RULES, PACKETS = (12, 120, 320) if os.environ.get("NIGHTLY") else (4, 60, 90)
SEED = int(os.environ.get("SLUICE_TEST_SEED", "20"))
PORTS = [1, 2, 22, 53, 80, 81, 443, 8000, 8080, 65535]
WITH_PORTS = {6, 17, 132}


class World:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def host(self, v4, side):
        """Sources and destinations apart: a source that is the node's own would be a martian."""
        r = self.random
        if v4:
            return ipaddress.ip_address(f"{172 if side == 'from' else 10}.{16 + r.randrange(3)}.{r.choice([0, 1, 200])}.{r.choice([1, 2, 129])}")
        return ipaddress.ip_address(f"2001:db8:{1 if side == 'from' else 2}:{r.randrange(3)}::{r.choice(['1', '2', 'ff00:1'])}")

    def prefix(self, side, v4=None):
        v4 = self.random.random() < 0.5 if v4 is None else v4
        length = self.random.choice([8, 12, 15, 16, 24, 25, 31, 32] if v4 else [32, 47, 48, 63, 64, 112, 127, 128])
        return ipaddress.ip_network(f"{self.host(v4, side)}/{length}", strict=False)

    def ports(self):
        a, b = sorted(self.random.choice(PORTS) for _ in range(2))
        return (a, a) if self.random.random() < 0.5 else (a, b)

    def match(self, chance):
        """Of one IP version where both sides are named: other rules are refused as never matching."""
        r = self.random
        out = {}
        v4 = r.random() < 0.5
        for side in ("from", "to"):
            if r.random() < chance:
                out[side] = [self.prefix(side, v4) for _ in range(r.randrange(1, 4))]
            if r.random() < chance / 2:
                out[side + "_ports"] = [self.ports() for _ in range(r.randrange(1, 3))]
        return out

    def rule(self, number):
        r = self.random
        rule = {"name": f"r{number}", **self.match(0.75)}
        if r.random() < 0.5:
            rule["except"] = self.match(0.6)
        if not rule.get("except"):
            rule.pop("except", None)
        if r.random() < 0.4:
            ports = any(side.endswith("_ports") for match in (rule, rule.get("except", {})) for side in match)
            rule["protocol"] = r.choice(["tcp", "udp", "sctp"] if ports else list(PROTOCOLS))
        rule["action"] = r.choice(["drop", "drop", "count"])
        if r.random() < 0.2:
            rule["mode"] = "audit"
        if r.random() < 0.3:
            rule["direction"] = r.choice(["ingress", "egress", "both"])
        if r.random() < 0.2:
            rule["interfaces"] = r.choice([["w1"], ["w*"], ["other"]])
        return rule

    def packet(self):
        v4 = self.random.random() < 0.5
        return {"from": self.host(v4, "from"), "to": self.host(v4, "to"), "protocol": self.random.choice(list(PROTOCOLS.values())),
                "from_port": self.random.choice(PORTS), "to_port": self.random.choice(PORTS)}


# --- the oracle -----------------------------------------------------------------------------------


def in_any(networks, address):
    return any(address.version == network.version and address in network for network in networks)


def holds(match, packet):
    for side in ("from", "to"):
        if side in match and not in_any(match[side], packet[side]):
            return False
        ports = match.get(side + "_ports")
        if ports and not (packet["protocol"] in WITH_PORTS and any(a <= packet[side + "_port"] <= b for a, b in ports)):
            return False
    return True


def matches(rule, packet):
    if rule.get("direction", "ingress") == "egress" or rule.get("interfaces") == ["other"]:
        return False
    if "protocol" in rule and PROTOCOLS[rule["protocol"]] != packet["protocol"]:
        return False
    return holds(rule, packet) and not ("except" in rule and holds(rule["except"], packet))


def oracle(rules, protect, packet):
    """The name of the rule that drops it; None: it passes."""
    for entry in protect:
        ports = entry.get("to_ports")
        if in_any([entry["cidr"]], packet["from"]) and (
                not ports or packet["protocol"] in WITH_PORTS and any(a <= packet["to_port"] <= b for a, b in ports)):
            return None
    for rule in rules:
        if rule["action"] == "drop" and rule.get("mode") != "audit" and matches(rule, packet):
            return rule["name"]
    return None


# --- the same for sluice, and on the wire ---------------------------------------------------------


def plain(value):
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [f"{v[0]}-{v[1]}" if isinstance(v, tuple) else plain(v) for v in value]
    return str(value) if not isinstance(value, (int, str)) else value


def policy(scratch, rules, protect):
    return json.dumps({
        "version": 1, "state_dir": scratch.path + "/state", "logs": {"access": {"format": "none"}},
        "protect": {"from": plain(protect)},
        "guard": {"interfaces": ["w*"], "rules": plain(rules)}})


def question(packet):
    return {"from": str(packet["from"]), "to": str(packet["to"]), "protocol": str(packet["protocol"]),
            "from_port": packet["from_port"], "to_port": packet["to_port"], "interface": "w1"}


def dropped_by(answer):
    if answer["verdict"] != "drop":
        return None
    return next(step["name"] for step in answer["steps"] if step["phase"] == "guard")


def offline(path, questions):
    done = subprocess.run([SLUICE, "explain", "--policy", path, "--questions", "-"], capture_output=True, text=True,
                          input="".join(json.dumps(q) + "\n" for q in questions), timeout=HANG)
    assert done.returncode == 0, done.stderr
    return [dropped_by(json.loads(line)) for line in done.stdout.splitlines()]


def live(running, questions):
    done = subprocess.run([SLUICE, "explain", "--socket", running.socket, "--questions", "-"], capture_output=True,
                          text=True, input="".join(json.dumps(q) + "\n" for q in questions), timeout=3 * HANG)
    assert done.returncode == 0, done.stderr + done.stdout[-500:]
    return [dropped_by(json.loads(line)) for line in done.stdout.splitlines()]


def test_explain_offline_live_real_packets_and_an_oracle_agree(scratch):
    world = World(SEED)
    wire = Wire(scratch)
    mark = {"from": ipaddress.ip_address("172.31.255.254"), "to": ipaddress.ip_address("10.99.99.99"), "protocol": 17,
            "from_port": 9, "to_port": 9}
    running = None
    verdicts = {"drop": 0, "pass": 0}
    for round_number in range(ROUNDS):
        rules = [world.rule(number) for number in range(RULES)]
        rules = [rule for rule in rules if any(side in rule for side in ("from", "to")) and not matches(rule, mark)]
        protect = [{"cidr": world.prefix("from"), "to_ports": [world.ports()]} for _ in range(2)]
        text = policy(scratch, rules, protect)
        if running is None:
            running = SluiceInside(scratch, text, wire.far)
        else:
            running.write_policy(text)
            running.ctl("reload")
        packets = [world.packet() for _ in range(PACKETS)]
        expected = [oracle(rules, protect, packet) for packet in packets]
        questions = [question(packet) for packet in packets]
        said_offline, said_live = offline(running.policy, questions), live(running, questions)
        arrived = wire.delivered(packets, mark)
        for index, packet in enumerate(packets):
            verdicts["drop" if expected[index] else "pass"] += 1
            told = f"round {round_number}, seed {SEED}: {packet}\n{text}"
            assert said_offline[index] == expected[index], f"offline: {told}"
            assert said_live[index] == expected[index], f"live: {told}"
            assert (index not in arrived) == (expected[index] is not None), f"on the wire: {told}"
    # A world in which nearly all is one verdict proves nothing.
    assert min(verdicts.values()) > ROUNDS * PACKETS / 10, verdicts


def test_what_auto_stands_for_is_known_live_and_is_what_the_kernel_does(scratch):
    wire = Wire(scratch)
    link(wire.near, "v0", wire.far, "v1")
    rules = [{"name": "auto", "from": [ipaddress.ip_network("172.16.0.0/16")], "to_ports": [(9, 9)], "interfaces": "auto"}]
    mark = {"from": ipaddress.ip_address("172.31.255.254"), "to": ipaddress.ip_address("10.99.99.99"), "protocol": 17,
            "from_port": 9, "to_port": 9}
    packet = {**mark, "from": ipaddress.ip_address("172.16.3.4")}
    running = SluiceInside(scratch, policy(scratch, rules, []), wire.far)
    asked = {**question(packet), "interface": "w1"}
    # Without a default route: every interface that is up.
    assert live(running, [asked]) == ["auto"] and wire.delivered([packet], mark) == set()
    wire.far.ip("addr", "add", "192.168.78.1/24", "dev", "v1")
    wire.far.ip("route", "add", "default", "via", "192.168.78.9", "dev", "v1")
    assert live(running, [asked]) == [None] and live(running, [{**asked, "interface": "v1"}]) == ["auto"]
    eventually(lambda: wire.delivered([packet], mark) == {0}, "the guard follows the route")
    assert offline(running.policy, [asked]) == ["auto"]


def test_a_ban_and_a_default_gateway_are_known_live_only(scratch):
    wire = Wire(scratch)
    wire.far.ip("route", "add", "default", "via", "192.168.77.9", "dev", "w1")
    rules = [{"name": "all", "from": [ipaddress.ip_network("192.168.77.0/24")], "action": "drop"}]
    running = SluiceInside(scratch, policy(scratch, rules, []), wire.far)
    running.ctl("ban", "172.16.0.0/16", "--reason", "noise")
    asked = {"from": "172.16.3.4", "to": "10.16.0.1", "to_port": 80, "interface": "w1"}
    answer = json.loads(running.ctl("explain", "--from", asked["from"], "--to", asked["to"], "--port", "80",
                                    "--output", "json").stdout)
    assert answer["verdict"] == "drop" and answer["outcome"] == "dropped: 172.16.0.0/16 is banned"
    assert offline(running.policy, [asked]) == [None]
    gateway = {"from": "192.168.77.9", "to": "192.168.77.1", "to_port": 80, "interface": "w1"}
    assert offline(running.policy, [gateway]) == ["all"]
    assert live(running, [gateway]) == [None]
