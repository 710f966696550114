"""What becomes of open connections that a new policy catches no longer, and of limits for those whom `protect` names."""
import contextlib
import os
import socket
import ssl
import threading
import time

import pytest

from certificates import Authority
from harness import HANG, Scratch, eventually, read_all
from lasting_clients import frame
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


def test_who_comes_later_is_not_told_to_close(node):
    """What became of one connection is not known of the next one that the gateway keeps in the same place."""
    sluice = NodeSluice(node, policy(node))
    drained = [connect(node) for _ in range(8)]
    for connection in drained:
        assert ask(connection).startswith(b"HTTP/1.1 200")
    sluice.write_policy(policy(node, ports="8081"))
    sluice.ctl("reload")
    for connection in drained:
        assert connection.recv(1) == b""
    sluice.write_policy(policy(node))
    sluice.ctl("reload")
    for _ in range(16):
        connection = connect(node)
        for _ in range(2):
            answer = ask(connection)
            assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" not in answer.lower(), answer


def serve(node, port, speak):
    listening = Thread(node.origin, lambda: socket.create_server(("10.72.0.2", port))).result()

    def accept():
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=speak, args=(connection,), daemon=True).start()

    Thread(node.origin, accept)


def say_back(connection):
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(4096):
            connection.sendall(data)


def switch(connection):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(4096)
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: words\r\n\r\n")
    say_back(connection)


def until_end(connection):
    """What comes until the other side closes, or resets."""
    connection.settimeout(HANG)
    try:
        return read_all(connection)
    except ssl.SSLError:
        return b""


def test_one_that_becomes_a_tunnel_meanwhile_has_until_the_deadline(node):
    serve(node, 9, switch)
    text = lambda **changed: policy(node, **changed).replace("10.72.0.2:8080", "10.72.0.2:9").replace("drain: 3s", "drain: 3s, idle: 1h")
    sluice = NodeSluice(node, text())
    busy = connect(node)
    busy.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
    eventually(lambda: sluice.status()["listeners"][0]["connections"] == 1, "it is there")
    sluice.write_policy(text(ports="8081"))
    sluice.ctl("reload")
    busy.sendall(b"Connection: Upgrade\r\nUpgrade: words\r\n\r\n")
    assert busy.recv(4096).startswith(b"HTTP/1.1 101")
    busy.sendall(b"hello")
    assert busy.recv(5) == b"hello", "it goes on"
    assert until_end(busy) == b""


def tls_policy(node, pair, ports="8080, 8081"):
    text = policy(node, ports=ports).replace("web: { ", f"web: {{ tls: {{ certificates: [{{ cert: {pair.cert}, key: {pair.key} }}] }}, ")
    assert text != policy(node, ports=ports)
    return text.replace("drain: 3s", "drain: 10s, idle: 1h")


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_one_that_shakes_hands_meanwhile_is_told(node, protocol):
    pair = Authority(node.scratch.path).issue("a.example")
    sluice = NodeSluice(node, tls_policy(node, pair))
    context = ssl._create_unverified_context()
    context.set_alpn_protocols([protocol])
    plain = connect(node)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(into, out, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = out.read()
    plain.sendall(hello[:20])
    eventually(lambda: sluice.status()["listeners"][0]["connections"] == 1, "it is there")
    sluice.write_policy(tls_policy(node, pair, ports="8081"))
    sluice.ctl("reload")
    plain.sendall(hello[20:])

    def answered(step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                plain.sendall(out.read())
                data = plain.recv(65536)
                into.write(data) if data else into.write_eof()

    answered(tls.do_handshake)
    assert tls.selected_alpn_protocol() == protocol
    if protocol == "h2":
        tls.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
    else:
        tls.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    plain.sendall(out.read())
    said = b""

    def ended():
        nonlocal said
        try:
            piece = answered(lambda: tls.read(65536))
        except (ssl.SSLError, ConnectionError):
            return True
        said += piece
        return not piece

    while not ended():
        pass
    if protocol == "h2":
        assert 7 in frames_of(said), "GOAWAY"
    else:
        assert said.startswith(b"HTTP/1.1 200") and b"connection: close" in said.lower(), said


def frames_of(said):
    """Their types."""
    kinds = []
    while len(said) >= 9:
        kinds.append(said[3])
        said = said[9 + int.from_bytes(said[:3]):]
    return kinds


def test_each_drain_has_a_deadline_of_its_own(node):
    serve(node, 7, say_back)
    serve(node, 9, say_back)
    sluice = NodeSluice(node, policy(node, echo="7, 9"))
    first, second = connect(node, 7), connect(node, 9)
    for connection in (first, second):
        connection.sendall(b"one")
        assert connection.recv(3) == b"one"
    sluice.write_policy(policy(node, echo="9"))
    sluice.ctl("reload")
    time.sleep(1.5)
    begun = time.monotonic()
    sluice.write_policy(policy(node, echo="10"))
    sluice.ctl("reload")
    assert until_end(first) == b"" and until_end(second) == b""
    assert time.monotonic() - begun >= 3, "it has had its three seconds"


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
