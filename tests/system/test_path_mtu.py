"""A hop on the way to the client has a smaller MTU and says so, to the address that the gateway speaks for. IPv6 begins at
1280, so 1300 it is."""
import os
import sys

import pytest

from harness import Process, Scratch, eventually
from netns import Net, NodeSluice, run

SIZE = 300_000
POLICY = """
version: 1
state_dir: @STATE@
intercept:
  tc: { interfaces: ["lan*"] }
  forward: [{ from: [10.71.0.0/24, "fd71::/64"], ports: [8080], listener: web, @STEERING@ on_exit: bypass, lease: 1s }]
listeners: { web: { protocol: http } }
routes: [{ listener: web, upstream: direct, response_headers: { set: { x-by: sluice } } }]
upstreams: { direct: { endpoints: original_destination } }
"""


@pytest.fixture
def net():
    """client ── router ── node ── origin: the router's way to the client is narrow, and the client does not know."""
    with Scratch() as scratch:
        made = Net(scratch)
        router = made.client + "-router"
        scratch.closers.append(lambda: run("ip", "netns", "del", router, check=False))
        run("ip", "netns", "add", router)
        run(*made.command(router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"))
        made.in_node("ip", "link", "del", "lan0")
        made.join(router, "73", "lan0")
        run("ip", "link", "add", "eth0", "netns", made.client, "type", "veth", "peer", "name", "narrow", "netns", router)
        for where, name, host in ((made.client, "eth0", "2"), (router, "narrow", "1")):
            run("ip", "-n", where, "addr", "add", f"10.71.0.{host}/24", "dev", name)
            run("ip", "-n", where, "addr", "add", f"fd71::{host}/64", "dev", name, "nodad")
            run("ip", "-n", where, "link", "set", name, "up")
        run("ip", "-n", router, "link", "set", "narrow", "mtu", "1300")
        for version, client, gateway, back in (("-4", "10.71.0.0/24", "10.71.0.1", "10.73.0.2"),
                                               ("-6", "fd71::/64", "fd71::1", "fd73::2")):
            run("ip", "-n", made.client, version, "route", "replace", "default", "via", gateway)
            made.in_node("ip", version, "route", "replace", client, "via", back)
        directory = os.path.join(scratch.path, "served")
        os.makedirs(directory)
        with open(os.path.join(directory, "big"), "wb") as file:
            file.write(bytes(SIZE))
        Process(scratch, "origin", made.command(made.origin, sys.executable, "-m", "http.server", "8080", "--bind", "::",
                                                "--directory", directory))
        eventually(lambda: made.in_node("curl", "-sSI", "http://10.72.0.2:8080/big", check=False), "the origin listens")
        yield made


@pytest.mark.parametrize("steering", ["", "steering: tproxy,", "steering: tc,"])
def test_the_gateway_learns_of_a_narrow_hop_towards_the_client(net, steering):
    urls = ["http://10.72.0.2:8080/big", "http://[fd72::2]:8080/big"]

    def fetch(url):
        return net.curl(url, "-g", "-o", "/dev/null", "-w", "%{size_download} %header{x-by}")
    assert [fetch(url) for url in urls] == [f"{SIZE} "] * 2, "the origin itself learns of it"
    sluice = NodeSluice(net, POLICY.replace("@STATE@", os.path.join(net.scratch.path, "state"))
                                   .replace("@STEERING@", steering))
    assert [fetch(url) for url in urls] == [f"{SIZE} sluice"] * 2, sluice.output()
