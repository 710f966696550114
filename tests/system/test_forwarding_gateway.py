"""docs/forwarding-gateway.md, run: the policy of the page between a client and an origin that know of nothing."""
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from harness import SLUICE, Scratch, eventually
from netns import Net, NodeSluice, Thread

PAGE = os.path.join(os.path.dirname(__file__), "../../docs/forwarding-gateway.md")
SERVED, STRAIGHT = "called from 10.72.0.1", "called from 10.71.0.2"


@pytest.fixture
def net():
    with Scratch() as scratch:
        net = Net(scratch)
        net.nginx()
        yield net


def policy(net):
    """The page's, on this test's addresses and interfaces."""
    with open(PAGE) as page:
        text = re.search(r"```yaml\n# gateway.yaml\n(.*?)```", page.read(), re.S).group(1)
    for there, here in (("10.1.0.0/16", "10.71.0.0/24"), ("[10.0.0.0/8, 192.168.0.0/16]", "[10.99.0.0/16]"), ("eth1", "lan0"),
                        ("/var/lib/sluice", f"{net.scratch.path}/state")):
        assert there in text, there
        text = text.replace(there, here)
    return text + 'metrics: { bind: "127.0.0.1:9464" }\n'


def dropped(net, port):
    done = subprocess.run(net.command(net.client, "curl", "-s", "--connect-timeout", "1", f"telnet://10.71.0.1:{port}"),
                          capture_output=True, stdin=subprocess.DEVNULL)
    return done.returncode == 28  # a timeout; 7 would be a refusal


def answers(count):
    """The statuses of so many requests at once, on one connection."""
    with socket.create_connection(("10.72.0.2", 8080), 30) as connection:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        connection.sendall(request * (count - 1) + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        text = b""
        while data := connection.recv(65536):
            text += data
    return [int(code) for code in re.findall(rb"^HTTP/1.1 (\d{3})", text, re.M)]


def test_the_page_does_what_it_says(net):
    assert STRAIGHT in net.curl("http://10.72.0.2:8080/")
    sluice = NodeSluice(net, policy(net))
    assert SERVED in net.curl("http://10.72.0.2:8080/")
    head = net.curl("http://10.72.0.2:8080/", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: blocked.example")
    assert head == "403"
    # Too many of one client's.
    assert 100 <= net.as_client(lambda: answers(600).count(200)).result() < 600
    assert dropped(net, 23) and not dropped(net, 24)
    # Who speaks no HTTP is relayed.
    def serve():
        with socket.create_server(("10.72.0.2", 80)) as listener:
            connection, peer = listener.accept()
            with connection:
                connection.sendall(b"server first\n")
                return peer[0], connection.recv(100)

    server = Thread(net.origin, serve)
    time.sleep(0.3)

    def talk():
        with socket.create_connection(("10.72.0.2", 80), 10) as connection:
            said = connection.recv(100)
            connection.sendall(b"\x00\x01 not HTTP")
            return said

    assert net.as_client(talk).result() == b"server first\n"
    assert server.result() == ("10.72.0.1", b"\x00\x01 not HTTP")
    # Nobody there: straight, after the lease.
    sluice.kill_all()
    eventually(lambda: STRAIGHT in (net.curl("http://10.72.0.2:8080/", "--max-time", "1") or ""), "it flows straight")
    assert dropped(net, 23), "the guard's rules stay"


def test_a_stop_lets_it_flow(net):
    sluice = NodeSluice(net, policy(net))
    assert SERVED in net.curl("http://10.72.0.2:8080/")
    assert sluice.stop(signal.SIGTERM) == 0
    assert STRAIGHT in net.curl("http://10.72.0.2:8080/")


# --- what closed connections leave behind --------------------------------------------------------
# A port that a client uses again: the kernel must not take its packets for those of the connection before.

PORTS = range(20000, 20150)
SOURCES = {"the node's": "", "the client's": ", source_address: client"}


def own_policy(source=""):
    return f"""version: 1
listeners: {{ passing: {{ timeouts: {{ drain: 20s }} }} }}
upstreams: {{ onwards: {{ endpoints: original_destination{source} }} }}
routes: [{{ upstream: onwards }}]
intercept:
  forward:
    - {{ from: [10.71.0.0/24, "fd71::/64"], to: [10.72.0.0/24, "fd72::/64"], ports: [8080-8081], listener: passing, on_exit: bypass, lease: 1s }}
"""


def connect(port, v6=False):
    source, target = (("fd71::2", "fd72::2") if v6 else ("10.71.0.2", "10.72.0.2"))
    made = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(2)
    made.bind((source, port))
    made.connect((target, 8080))
    return made


def fetch(port, v6=False):
    """Who called, as the origin says; the server's side closes first, and keeps the TIME_WAIT."""
    try:
        with connect(port, v6) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return read_all(connection)
    except OSError as error:
        return repr(error)


def read_all(connection):
    text = b""
    while data := connection.recv(65536):
        text += data
    return text.decode().partition("\r\n\r\n")[2].strip()


def all_fetched(net, ports=PORTS):
    """What came, by how often; from each port by IPv4 and by IPv6. After ten failures it is clear."""
    def body():
        seen = {}
        for port in ports:
            for v6 in (False, True):
                said = fetch(port, v6)
                seen[said] = seen.get(said, 0) + 1
            if sum(count for said, count in seen.items() if "origin" not in said) > 10:
                break
        return seen

    return Thread(net.client, body).result()


def expect_straight(net, ports=PORTS):
    seen = all_fetched(net, ports)
    assert seen == {"origin, called from 10.71.0.2": len(ports), "origin, called from fd71::2": len(ports)}, seen


def time_waits(net, *where):
    return [line.split()[2] for line in net.in_node("ss", "-Htan", "state", "time-wait", *where).splitlines()]


def leave_a_time_wait_of_the_node(net):
    with_server = Thread(net.node, lambda: close_first("10.71.0.1"))
    net.as_client(lambda: eventually(lambda: socket.create_connection(("10.71.0.1", 9000), 1).recv(1) == b"", "it is closed")).result()
    with_server.result()


def close_first(address):
    with socket.create_server((address, 9000)) as listener:
        connection, _ = listener.accept()
        connection.close()


@pytest.mark.parametrize("source", SOURCES)
def test_after_a_stop_ports_used_before_flow_straight(net, source):
    sluice = NodeSluice(net, own_policy(SOURCES[source]))
    # The first neighbours of an IPv6 that has just come up are asked for twice, a second apart.
    net.as_client(lambda: eventually(lambda: "origin" in fetch(PORTS[0] - 1, v6=True), "IPv6 has settled")).result()
    leave_a_time_wait_of_the_node(net)
    seen = all_fetched(net)
    assert sum(seen.values()) == 2 * len(PORTS) and all(said.startswith("origin") for said in seen), seen
    assert len(time_waits(net, "dst", "10.71.0.2", "sport", "8080")) >= len(PORTS), "there is something to fall over"
    assert sluice.stop(signal.SIGTERM) == 0
    expect_straight(net)
    assert time_waits(net, "sport", "9000"), "what is the node's own stays"


def test_while_it_drains_ports_used_before_flow_straight(net):
    sluice = NodeSluice(net, own_policy())
    half, rest = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", b"\r\n"

    def body():
        with connect(PORTS[0]) as lasting, connect(PORTS[1]) as brief:
            for connection in (lasting, brief):
                connection.sendall(half)
            time.sleep(0.3)
            os.kill(sluice.pid, signal.SIGTERM)
            eventually(lambda: "10.71.0.2" in fetch(PORTS[2]), "interception has ended")
            brief.sendall(rest)
            assert "10.72.0.1" in read_all(brief)
            brief.close()
            eventually(lambda: "10.71.0.2" in fetch(PORTS[1]), "the port of one that has ended flows straight", 6)
            assert sluice.process.poll() is None
            lasting.sendall(rest)
            assert "10.72.0.1" in read_all(lasting)

    Thread(net.client, body).result()
    eventually(lambda: sluice.process.poll() == 0, "it has drained")


def test_cleanup_after_a_kill_lets_ports_used_before_flow_straight(net):
    sluice = NodeSluice(net, own_policy())
    leave_a_time_wait_of_the_node(net)
    assert set(all_fetched(net)) == {"origin, called from 10.72.0.1", "origin, called from fd72::1"}
    sluice.kill_all()
    # Nobody is left to clear up: doctor says what becomes of them until then.
    told = net.in_node(SLUICE, "doctor", "--policy", sluice.policy, check=False)
    assert re.search(r"early_demux: .*kill -9.*\n +do: .*net.ipv4.tcp_early_demux=0", told), told
    assert "closed connections that were intercepted" in net.in_node(SLUICE, "cleanup")
    expect_straight(net)
    assert time_waits(net, "sport", "9000"), "what is the node's own stays"


def test_the_last_answer_arrives_though_the_process_has_ended(net):
    """What lies in the gateway's sockets when it ends needs our routes until the client has it."""
    sluice = NodeSluice(net, own_policy())
    size = 30_000

    def origin():
        with socket.create_server(("10.72.0.2", 8081)) as listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
                time.sleep(0.5)

    def client():
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.settimeout(5)
            connection.connect(("10.72.0.2", 8081))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            eventually(lambda: "FIN-WAIT-1" in net.in_node("ss", "-Htan", "sport", "8081"), "the gateway has no more to do with it")
            os.kill(sluice.pid, signal.SIGTERM)
            eventually(lambda: not sluice.children(), "the gateway has ended")
            time.sleep(0.3)  # shorter than the keeper's patience
            return len(read_all(connection))

    server = Thread(net.origin, origin)
    time.sleep(0.3)
    assert Thread(net.client, client).result() == size
    server.result()
    eventually(lambda: sluice.process.poll() == 0, "it has ended")
