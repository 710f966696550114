"""Rules by the labels of this node's Pods, as a stand-in of the API server says who is there."""
import json
import os
import signal

import pytest

import netns
from certificates import Authority
from harness import Scratch, Sluice, curl, eventually, free_port
from kubernetes_api import KubernetesApi, pod, slice_of
from netns import Net, NodeSluice

root = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces")
AGENT, OTHER = "10.71.0.2", "10.71.0.3"  # both at the client
CAUGHT, STRAIGHT = "caught", "origin, called from "


# --- one process, on loopback: access, limits, variables ---

def plain(scratch, api, authority, port):
    return f"""version: 1
state_dir: {scratch.path}/state
workers: 1
kubernetes: {{ server: "{api.url}", token: "file:{scratch.path}/token", ca: {authority.cert}, node: n1 }}
sets: {{ agents: {{ pods: {{ namespace: ai, labels: {{ app: agent }} }} }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{port}" }} }}
limits: {{ one: {{ from: [{{ pods: {{ labels: {{ tier: batch }} }} }}], rate: 1/h, burst: 1 }} }}
routes:
  - {{ path: /agents, direct_response: {{ status: 200, body: hello }}, access: {{ allow: [{{ set: agents }}] }} }}
  - {{ path: /limited, direct_response: {{ status: 200, body: hello }}, limits: [one] }}
  - {{ path: /, direct_response: {{ status: 200, body: hello }}, access: {{ deny: [{{ pods: {{ labels: {{ app: rogue }} }} }}] }} }}
"""


@pytest.fixture
def authority(scratch):
    return Authority(scratch.path)


@pytest.fixture
def api(scratch, authority):
    api = KubernetesApi(scratch, authority)
    scratch.write("token", "token-1")
    yield api
    assert not api.mistakes, api.mistakes


class Plain:
    def __init__(self, scratch, api, authority):
        self.port = free_port()
        self.sluice = Sluice(scratch, plain(scratch, api, authority, self.port))

    def get(self, path, source):
        code, _, head = curl("--interface", source, f"http://127.0.0.1:{self.port}{path}")
        assert code == 0, head
        return int(head.split()[1])

    def members(self, name):
        sets = json.loads(self.sluice.ctl("set", "list", "--output", "json").stdout)["sets"]
        return {s["name"]: s["prefixes"] for s in sets}[name]

    def becomes(self, status, path, source):
        eventually(lambda: self.get(path, source) == status, f"{path} is {status} for {source}")


def test_access_and_limits_go_by_labels(scratch, api, authority):
    api.put("pods", pod("agent-1", "127.0.0.2", namespace="ai", labels={"app": "agent"}))
    gateway = Plain(scratch, api, authority)
    gateway.becomes(200, "/agents", "127.0.0.2")
    assert gateway.get("/agents", "127.0.0.3") == 403
    # Another namespace is another pod; the system's own are nobody's, but by their namespace.
    api.put("pods", pod("agent-2", "127.0.0.3", namespace="shop", labels={"app": "agent"}))
    api.put("pods", pod("rogue", "127.0.0.4", namespace="kube-system", labels={"app": "rogue"}))
    api.put("pods", pod("rogue", "127.0.0.5", namespace="shop", labels={"app": "rogue"}))
    api.put("pods", pod("rogue-host", "127.0.0.6", namespace="shop", labels={"app": "rogue"}, host_network=True))
    gateway.becomes(403, "/", "127.0.0.5")
    assert gateway.get("/agents", "127.0.0.3") == 403
    assert gateway.get("/", "127.0.0.4") == 200 and gateway.get("/", "127.0.0.6") == 200
    # A limit counts those alone that it is for.
    api.put("pods", pod("batch", "127.0.0.7", namespace="shop", labels={"tier": "batch"}))
    eventually(lambda: [gateway.get("/limited", "127.0.0.7") for _ in range(2)][1] == 429, "it is limited")
    assert [gateway.get("/limited", "127.0.0.8") for _ in range(3)] == [200] * 3
    sets = {s["name"]: s["prefixes"] for s in json.loads(gateway.sluice.ctl("set", "list", "--output", "json").stdout)["sets"]}
    assert sets == {"agents": 1, "pods:*/tier=batch": 1, "pods:*/app=rogue": 1}, sets
    assert {r["query"].get("fieldSelector") for r in api.requests} == {"spec.nodeName=n1"}


def test_a_set_lists_the_pods_that_it_means(scratch, api, authority):
    agent = {"namespace": "ai", "labels": {"app": "agent"}}
    api.put("pods", pod("agent-1", "127.0.0.2", **agent))
    api.put("pods", pod("agent-2", "127.0.0.3", **agent))  # neighbours: one prefix would hold both
    api.put("pods", pod("other", "127.0.0.4", namespace="ai", labels={"app": "other"}))
    gateway = Plain(scratch, api, authority)
    gateway.becomes(200, "/agents", "127.0.0.3")
    gateway.sluice.ctl("set", "add", "agents", "127.0.0.9", "--reason", "by hand")

    def listed():
        return json.loads(gateway.sluice.ctl("set", "list", "agents", "--output", "json").stdout)["sets"][0]

    found = listed()
    assert (found["prefixes"], found["pods"], found["added"]) == (3, 2, 1), found
    assert [(m["address"], m.get("pod")) for m in found["members"]] == [
        ("127.0.0.2", "ai/agent-1"), ("127.0.0.3", "ai/agent-2"), ("127.0.0.9/32", None)], found
    shown = [line.split() for line in gateway.sluice.ctl("set", "list", "agents").stdout.splitlines()]
    assert " ".join(shown[0]) == "agents: 0 prefixes by the policy, 1 added at run time, 2 addresses of pods"
    assert shown[2:] == [["127.0.0.2", "-", "ai/agent-1"], ["127.0.0.3", "-", "ai/agent-2"], ["127.0.0.9/32", "-", "by", "hand"]], shown
    api.delete("pods", "ai", "agent-1")
    eventually(lambda: [m["address"] for m in listed()["members"]] == ["127.0.0.3", "127.0.0.9/32"], "it is forgotten")


def test_a_reused_address_inherits_nothing(scratch, api, authority):
    api.put("pods", pod("agent-1", "127.0.0.2", namespace="ai", labels={"app": "agent"}))
    gateway = Plain(scratch, api, authority)
    gateway.becomes(200, "/agents", "127.0.0.2")
    # The old one is about to go, and its address is another's already.
    api.put("pods", pod("agent-1", "127.0.0.2", namespace="ai", labels={"app": "agent"}, deleting=True))
    assert gateway.get("/agents", "127.0.0.2") == 200
    api.put("pods", pod("stranger", "127.0.0.2", namespace="ai", created="2026-02-01T00:00:00Z"))
    gateway.becomes(403, "/agents", "127.0.0.2")
    api.delete("pods", "ai", "agent-1")
    api.delete("pods", "ai", "stranger")
    api.put("pods", pod("agent-2", "127.0.0.2", namespace="ai", labels={"app": "agent"}))
    gateway.becomes(200, "/agents", "127.0.0.2")
    # One that has ended has no address any more, whatever its status says; nor has one that moved to another node.
    api.put("pods", pod("agent-2", "127.0.0.2", namespace="ai", labels={"app": "agent"}, phase="Succeeded"))
    gateway.becomes(403, "/agents", "127.0.0.2")
    api.put("pods", pod("agent-3", "127.0.0.2", namespace="ai", labels={"app": "agent"}))
    gateway.becomes(200, "/agents", "127.0.0.2")
    api.put("pods", pod("agent-3", "127.0.0.2", namespace="ai", labels={"app": "agent"}, node="n2"))
    gateway.becomes(403, "/agents", "127.0.0.2")
    api.put("pods", pod("agent-4", "127.0.0.2", namespace="ai", labels={"app": "agent"}))
    gateway.becomes(200, "/agents", "127.0.0.2")
    api.put("pods", pod("agent-4", "127.0.0.2", namespace="ai", labels={"app": "other"}))
    gateway.becomes(403, "/agents", "127.0.0.2")


def test_a_reused_address_inherits_no_count(scratch, api, authority):
    batch = {"namespace": "shop", "labels": {"tier": "batch"}}
    api.put("pods", pod("batch-1", "127.0.0.7", **batch))
    gateway = Plain(scratch, api, authority)
    gateway.becomes(429, "/limited", "127.0.0.7")
    # Its labels are others, and it is the same pod.
    api.put("pods", pod("batch-1", "127.0.0.7", namespace="shop", labels={"tier": "batch", "more": "yes"}))
    api.put("pods", pod("batch-9", "127.0.0.9", **batch))
    gateway.becomes(429, "/limited", "127.0.0.9")
    assert gateway.get("/limited", "127.0.0.7") == 429
    # Another pod gets its address before anybody heard that it was gone.
    api.put("pods", pod("batch-1", "127.0.0.7", deleting=True, **batch))
    api.put("pods", pod("batch-2", "127.0.0.7", created="2026-02-01T00:00:00Z", **batch))
    gateway.becomes(200, "/limited", "127.0.0.7")
    assert gateway.get("/limited", "127.0.0.7") == 429, "it counts for the new one"
    assert gateway.get("/limited", "127.0.0.9") == 429, "and goes on for those that stay"
    api.delete("pods", "shop", "batch-1")
    api.delete("pods", "shop", "batch-2")
    api.put("pods", pod("batch-3", "127.0.0.7", **batch))
    gateway.becomes(200, "/limited", "127.0.0.7")
    # As a StatefulSet does it: another one by the same name.
    gateway.becomes(429, "/limited", "127.0.0.7")
    api.delete("pods", "shop", "batch-3")
    eventually(lambda: gateway.members("pods:*/tier=batch") == 1, "it is gone")
    api.put("pods", pod("batch-3", "127.0.0.7", **batch))
    eventually(lambda: gateway.members("pods:*/tier=batch") == 2, "the next one is there")
    assert [gateway.get("/limited", "127.0.0.7") for _ in range(2)] == [200, 429]


def test_the_api_server_is_away_at_a_restart(scratch, api, authority):
    api.put("pods", pod("agent-1", "127.0.0.2", namespace="ai", labels={"app": "agent"}))
    gateway = Plain(scratch, api, authority)
    gateway.becomes(200, "/agents", "127.0.0.2")
    api.down()
    gateway.sluice.stop()
    gateway = Plain.__new__(Plain)
    gateway.port = free_port()
    gateway.sluice = Sluice(scratch, plain(scratch, api, authority, gateway.port), name="second")
    assert gateway.get("/agents", "127.0.0.2") == 200, "who was there last"
    assert gateway.get("/agents", "127.0.0.3") == 403
    api.delete("pods", "ai", "agent-1")
    api.forget()
    api.up()
    gateway.becomes(403, "/agents", "127.0.0.2")


# --- keeper and gateway: interception, guard, bans ---

ROUTES = f"routes: [{{ listener: web, direct_response: {{ status: 200, body: {CAUGHT} }} }}]"


def policy(scratch, api, authority, routes):
    return f"""version: 1
state_dir: {scratch.path}/state
workers: 1
metrics: {{ bind: "127.0.0.1:9464" }}
kubernetes: {{ server: "{api.url}", token: "file:{scratch.path}/token", ca: {authority.cert} }}
listeners: {{ web: {{ protocol: http }} }}
intercept: {{ forward: [{{ from: [{{ pods: {{ labels: {{ sluice: "yes" }} }} }}], ports: [8080], listener: web }}] }}
guard: {{ interfaces: [lan0], rules: [{{ name: rogues, from: [{{ pods: {{ labels: {{ app: rogue }} }} }}], to_ports: [8080], protocol: tcp, action: drop }}] }}
bans: {{ rules: [] }}
{routes}"""


class Node:
    def __init__(self, scratch):
        self.scratch, self.routes = scratch, ROUTES
        self.net = Net(scratch)
        self.net.nginx()
        netns.run("ip", "-n", self.net.client, "addr", "add", f"{OTHER}/24", "dev", "eth0")
        self.authority = Authority(scratch.path)
        self.api = KubernetesApi(scratch, self.authority, namespace=self.net.node)
        scratch.write("token", "token-1")

    def start(self, name="sluice"):
        os.environ["NODE_NAME"] = "n1"
        self.sluice = NodeSluice(self.net, policy(self.scratch, self.api, self.authority, self.routes), name)
        return self.sluice

    def get(self, source):
        return (self.net.curl("http://10.72.0.2:8080/", "--interface", source, "--max-time", "2") or "nothing").strip()

    def becomes(self, what, source):
        eventually(lambda: self.get(source).startswith(what), f"{source} gets `{what}`; {self.get(source)}")

    def watcher(self):
        for child in self.sluice.children():
            with open(f"/proc/{child}/comm") as name:
                if name.read().strip() == "sluice-pods":
                    return child
        return None


@pytest.fixture
def node():
    with Scratch() as scratch:
        made = Node(scratch)
        yield made
        assert not made.api.mistakes, made.api.mistakes


@root
def test_interception_and_drops_go_by_labels(node):
    node.api.put("pods", pod("agent", AGENT, labels={"sluice": "yes"}))
    node.start()
    node.becomes(CAUGHT, AGENT)
    assert node.get(OTHER).startswith(STRAIGHT)
    # Gone, and back without the label: nothing is inherited.
    node.api.delete("pods", "default", "agent")
    node.becomes(STRAIGHT, AGENT)
    node.api.put("pods", pod("stranger", AGENT))
    node.api.put("pods", pod("agent", OTHER, labels={"sluice": "yes"}))
    node.becomes(CAUGHT, OTHER)
    assert node.get(AGENT).startswith(STRAIGHT)
    node.api.put("pods", pod("stranger", AGENT, labels={"app": "rogue"}))
    node.becomes("nothing", AGENT)
    assert node.get(OTHER) == CAUGHT
    node.api.put("pods", pod("stranger", AGENT, labels={}))
    node.becomes(STRAIGHT, AGENT)
    assert node.sluice.metric("sluice_kubernetes_watch_up") == 1


@root
def test_a_ban_goes_with_its_pod(node):
    node.api.put("pods", pod("agent", AGENT, labels={"sluice": "yes"}))
    node.start()
    node.becomes(CAUGHT, AGENT)
    node.sluice.ctl("ban", AGENT, "--for", "1h")
    node.sluice.ctl("ban", "192.0.2.7", "--for", "1h")
    node.becomes("nothing", AGENT)
    node.api.delete("pods", "default", "agent")
    node.becomes(STRAIGHT, AGENT)
    bans = [ban["address"] for ban in json.loads(node.sluice.ctl("bans", "--output", "json").stdout)["bans"]]
    assert bans == ["192.0.2.7/32"] or bans == ["192.0.2.7"], bans


@root
def test_a_ban_is_not_the_next_pods_of_that_address(node):
    """Which may have it before the one that was banned is gone."""
    node.api.put("pods", pod("agent", AGENT, labels={"sluice": "yes"}))
    node.start()
    node.becomes(CAUGHT, AGENT)
    node.sluice.ctl("ban", AGENT, "--for", "1h")
    node.becomes("nothing", AGENT)
    node.api.put("pods", pod("agent", AGENT, labels={"sluice": "yes"}, deleting=True))
    node.api.put("pods", pod("stranger", AGENT, labels={"sluice": "yes"}, created="2026-02-01T00:00:00Z"))
    node.becomes(CAUGHT, AGENT)
    node.sluice.ctl("ban", AGENT, "--for", "1h")
    node.becomes("nothing", AGENT)
    node.api.delete("pods", "default", "agent")
    assert node.get(AGENT) == "nothing", "it goes with its pod, not with another one"


@root
def test_whoever_dies_the_pods_stay(node):
    node.api.put("pods", pod("agent", AGENT, labels={"sluice": "yes"}))
    node.start()
    node.becomes(CAUGHT, AGENT)
    watcher = eventually(node.watcher, "somebody watches")
    os.kill(watcher, signal.SIGKILL)
    assert node.get(AGENT) == CAUGHT
    eventually(lambda: node.watcher() not in (None, watcher), "the next one watches")
    node.api.put("pods", pod("other", OTHER, labels={"sluice": "yes"}))
    node.becomes(CAUGHT, OTHER)
    # The API server away, everybody killed: what was heard last is in force from the start.
    node.api.down()
    node.sluice.kill_all()
    node.start("second")
    assert node.get(AGENT) == CAUGHT and node.get(OTHER) == CAUGHT
    node.api.delete("pods", "default", "other")
    node.api.up()
    node.becomes(STRAIGHT, OTHER)
    assert node.get(AGENT) == CAUGHT
    eventually(node.watcher, "somebody watches")
    # A policy that is just being put in force holds an upgrade up.
    eventually(lambda: node.sluice.ctl("upgrade", check=False).returncode == 0, "it upgrades")
    eventually(node.watcher, "somebody watches after an upgrade")
    node.api.put("pods", pod("other", OTHER, labels={"sluice": "yes"}))
    node.becomes(CAUGHT, OTHER)
    assert node.get(AGENT) == CAUGHT


@root
def test_a_gateway_that_begins_without_the_api_server_has_its_endpoints(node):
    """Killed, upgraded, and everything started again."""
    node.api.put("pods", pod("agent", AGENT, labels={"sluice": "yes"}))
    node.api.put("endpointslices", slice_of("api-1", "api", ["10.72.0.2"], port=8080))
    node.routes = "upstreams: { api: { endpoints: [{ kubernetes: { service: api, namespace: shop } }] } }\nroutes: [{ listener: web, upstream: api }]\n"
    node.start()
    through = "origin, called from 10.72.0.1"
    node.becomes(through, AGENT)
    node.api.down()
    status = lambda: node.sluice.status()["gateway"]
    eventually(lambda: status()["memory"]["bytes"] > 0, "the keeper has what the gateway knows")
    victim = status()["pid"]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: status()["pid"] not in (0, victim) and status()["alive"], "the next one has begun")
    assert node.get(AGENT).startswith(through)
    node.sluice.ctl("upgrade")
    assert node.get(AGENT).startswith(through)
    node.sluice.stop()
    node.start("second")
    assert node.get(AGENT).startswith(through)
    assert "known before" in node.sluice.output()
    node.api.delete("endpointslices", "shop", "api-1")
    node.api.up()
    eventually(lambda: not node.get(AGENT).startswith(through), "what the API server says now holds")


@root
def test_who_watches_has_no_privileges(node):
    node.api.put("pods", pod("agent", AGENT, labels={"sluice": "yes"}))
    node.start()
    node.becomes(CAUGHT, AGENT)
    with open(f"/proc/{node.watcher()}/status") as status:
        fields = dict(line.split(":", 1) for line in status.read().splitlines())
    assert int(fields["CapEff"], 16) == 1 << 13 and fields["NoNewPrivs"].strip() == "1" and fields["Seccomp"].strip() == "2"
    assert "seccomp refused" not in node.sluice.output()
    assert "token-1" not in node.sluice.output()
