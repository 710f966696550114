"""docs/forwarding-gateway.md, run: the policy of the page between a client and an origin that know of nothing."""
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from harness import Scratch, eventually
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
