"""Overload: new work is refused early, what runs is never cut."""
import socket
import threading
import urllib.request

import pytest

from harness import HANG, Nginx, Sluice, connect, eventually, free_port

GET = b"GET /files/x HTTP/1.1\r\nHost: a\r\n\r\n"


def policy(scratch, port, metrics, origin, listener="", overload=""):
    return f"""version: 1
state_dir: {scratch.path}/state
workers: 1
metrics: {{ bind: "127.0.0.1:{metrics}" }}
logs: {{ access: {{ format: none }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{port}"{listener} }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{origin}"] }} }}
routes: [{{ upstream: api }}]
{overload}
"""


def status(connection):
    connection.sendall(GET)
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None, data
        data += more
    return int(data.split()[1]), data.lower()


@pytest.mark.parametrize("listener, overload", [(", max_connections: 10", "overload: { shed_at: 50%, retry_after: 7s }"),
                                                ("", "overload: { max_connections: 10, shed_at: 50%, retry_after: 7s }")])
def test_new_connections_are_refused_and_old_ones_served(scratch, listener, overload):
    origin = Nginx(scratch)
    origin.file("x", 10)
    port, metrics = free_port(), free_port()
    Sluice(scratch, policy(scratch, port, metrics, origin.port, listener, overload))
    kept = []
    for _ in range(5):
        kept.append(connect(port))
        assert status(kept[-1])[0] == 200
    with connect(port) as late:
        code, head = status(late)
        assert code == 503 and b"retry-after: 7\r\n" in head and b"connection: close" in head
    page = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=HANG).read().decode()
    assert 'sluice_overload_refused_total{listener="web",reason="connections"} 1' in page
    # There is room again, and what is open goes on.
    for connection in kept:
        assert status(connection)[0] == 200
        connection.close()

    def serves():
        with connect(port) as fresh:
            return status(fresh)[0] == 200

    eventually(serves, "new connections are served again")


def test_a_full_gateway_lets_new_connections_wait(scratch):
    origin = Nginx(scratch)
    origin.file("x", 10)
    port, metrics = free_port(), free_port()
    Sluice(scratch, policy(scratch, port, metrics, origin.port, "", "overload: { max_connections: 2, shed_at: 100% }"))
    kept = [connect(port), connect(port)]
    for connection in kept:
        assert status(connection)[0] == 200
    with connect(port) as waiting:
        waiting.sendall(GET)
        kept[0].close()
        assert waiting.recv(65536).startswith(b"HTTP/1.1 200 ")
    kept[1].close()


def test_memory(scratch):
    origin = Nginx(scratch)
    origin.file("x", 10)
    port, metrics = free_port(), free_port()
    sluice = Sluice(scratch, policy(scratch, port, metrics, origin.port))
    running = connect(port)
    assert status(running)[0] == 200
    sluice.write_policy(policy(scratch, port, metrics, origin.port, "", "overload: { max_memory: 16MiB, shed_at: 10% }"))
    sluice.ctl("reload")
    code, head = status(running)
    assert code == 503 and b"retry-after: 1" in head
    sluice.write_policy(policy(scratch, port, metrics, origin.port))
    sluice.ctl("reload")
    with connect(port) as fresh:
        assert status(fresh)[0] == 200
