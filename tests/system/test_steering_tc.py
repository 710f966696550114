"""`steering: tc`: a pod's packets are taken at its veth, with no rule of nftables on the node."""
import os

import pytest

from harness import Scratch, eventually
from netns import Net, NodeSluice, run

POLICY = """
version: 1
state_dir: @STATE@
metrics: { bind: "127.0.0.1:9464" }
intercept:
  tc: { interfaces: ["lan*"] }
  forward: [{ from: [10.71.0.0/24, "fd71::/64"], ports: [8080], listener: web, steering: tc, on_exit: bypass, lease: 1s }]
listeners: { web: { protocol: http } }
routes: [{ listener: web, upstream: direct, response_headers: { set: { x-by: sluice } } }]
upstreams: { direct: { endpoints: original_destination } }
"""


@pytest.fixture
def net():
    with Scratch() as scratch:
        made = Net(scratch)
        made.nginx()
        yield made


def sluice_on(net):
    return NodeSluice(net, POLICY.replace("@STATE@", os.path.join(net.scratch.path, "state")))


@pytest.mark.parametrize("origin", ["10.72.0.2", "[fd72::2]"])
def test_a_pod_is_served_by_the_gateway_without_nftables(net, origin):
    url = f"http://{origin}:8080/"
    sluice = sluice_on(net)
    answer = net.curl(url, "-i", "-g")
    assert answer is not None and "x-by: sluice" in answer.lower() and "origin, called from" in answer, sluice.output()
    assert "sluice" not in net.in_node("nft", "list", "ruleset")
    eventually(lambda: sluice.metric("sluice_interception_arrived_total") == 1, "counted; the keeper's numbers come each second")
    status = sluice.status()
    assert status["problems"] == [] and status["warnings"] == []


def test_a_pod_that_comes_later_is_taken_and_a_dead_sluice_lets_it_pass(net):
    sluice = sluice_on(net)
    run("ip", "-n", net.node, "link", "set", "lan0", "down")
    run("ip", "-n", net.node, "link", "set", "lan0", "name", "other0", "up")
    run("ip", "-n", net.node, "addr", "replace", "10.71.0.1/24", "dev", "other0")
    eventually(lambda: sluice.metric("sluice_steer_tc_interfaces") == 0, "left what has another name")
    assert "x-by" not in net.curl("http://10.72.0.2:8080/", "-i").lower()
    run("ip", "-n", net.node, "link", "set", "other0", "down")
    run("ip", "-n", net.node, "link", "set", "other0", "name", "lan1", "up")
    eventually(lambda: sluice.metric("sluice_steer_tc_interfaces") == 1, "is at the new one")
    assert "x-by: sluice" in net.curl("http://10.72.0.2:8080/", "-i").lower()
    sluice.kill_all()
    eventually(lambda: "x-by" not in (net.curl("http://10.72.0.2:8080/", "-i") or "x-by").lower(), "on_exit: bypass")
