"""What becomes of open connections that a new policy catches no longer, and of limits for those whom `protect` names."""
import os
import socket

import pytest

from harness import HANG, Scratch, eventually
from netns import Net, NodeSluice, Thread

POLICY = """
version: 1
state_dir: @STATE@
workers: 2
intercept:
  forward: [{ from: [10.71.0.0/24], to: [10.72.0.0/16], ports: [@PORTS@], listener: web, on_change: @CHANGE@ },
            { from: [10.71.0.0/24], to: [10.72.0.0/16], ports: [@ECHO@], listener: echo, on_change: @CHANGE@ }]
protect: { from: [@PROTECT@] }
listeners: { web: { timeouts: { drain: 3s } }, echo: { protocol: tcp, timeouts: { drain: 3s } } }
upstreams: { origin: { endpoints: ["10.72.0.2:8080"] } }
limits: { one: { key: [client_ip], rate: 1/h, burst: 1 } }
routes: [{ listener: web, upstream: origin, limits: [@LIMITS@] }, { listener: echo, upstream: original_destination }]
"""


@pytest.fixture
def node():
    with Scratch() as scratch:
        net = Net(scratch)
        net.nginx()
        yield net


def policy(net, change="drain", ports="8080, 8081", echo="7", protect="", limits=""):
    text = POLICY.replace("@STATE@", os.path.join(net.scratch.path, "state")).replace("@CHANGE@", change).replace("@PORTS@", ports)
    return text.replace("@ECHO@", echo).replace("@PROTECT@", protect).replace("@LIMITS@", limits)


def connect(net, port=8080):
    connection = net.as_client(lambda: socket.create_connection(("10.72.0.2", port), HANG)).result()
    connection.settimeout(HANG)
    return connection


def ask(connection):
    connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    return connection.recv(4096)


@pytest.mark.parametrize("change", ["drain", "keep"])
def test_connections_that_are_caught_no_longer(node, change):
    sluice = NodeSluice(node, policy(node, change))
    idle, busy = connect(node), connect(node)
    for connection in (idle, busy):
        assert ask(connection).startswith(b"HTTP/1.1 200")
    busy.sendall(b"GET / HTTP/1.1\r\n")  # has begun
    sluice.write_policy(policy(node, change, ports="8081"))
    sluice.ctl("reload")
    if change == "keep":
        answer = ask(idle)
        assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" not in answer.lower()
        return
    busy.sendall(b"Host: a\r\n\r\n")
    answer = busy.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer.lower(), answer
    assert busy.recv(1) == b"", "it takes no further request"
    assert idle.recv(1) == b"", "who is idle is let go"
    assert sluice.status()["gateway"]["restarts"] == 0


def test_who_speaks_no_http_has_until_the_deadline(node):
    def echo():
        listener = socket.create_server(("10.72.0.2", 7))
        peer, _ = listener.accept()
        while data := peer.recv(100):
            peer.sendall(data)

    Thread(node.origin, echo)
    sluice = NodeSluice(node, policy(node))
    connection = eventually(lambda: connect(node, 7), "the origin listens")
    connection.sendall(b"one")
    assert connection.recv(3) == b"one"
    sluice.write_policy(policy(node, echo="9"))
    sluice.ctl("reload")
    connection.sendall(b"two")
    assert connection.recv(3) == b"two", "it goes on"
    try:
        assert connection.recv(1) == b"", "and ends"
    except ConnectionResetError:
        pass


def test_limits_are_not_for_those_whom_protect_names(node):
    sluice = NodeSluice(node, policy(node, protect="", limits="one"))
    statuses = lambda: [ask(connect(node)).split()[1] for _ in range(3)]
    assert statuses() == [b"200", b"429", b"429"]
    # `protect` keeps who is forwarded from being caught at all: so the listener is called by its own address.
    sluice.write_policy(policy(node, limits="one").replace("web: {", 'web: { bind: "10.71.0.1:8090",').replace(
        "from: []", "from: [{ cidr: 10.71.0.2 }]"))
    sluice.ctl("reload")

    def by_address():
        connection = node.as_client(lambda: socket.create_connection(("10.71.0.1", 8090), HANG)).result()
        return ask(connection).split()[1]

    assert [by_address() for _ in range(3)] == [b"200"] * 3
