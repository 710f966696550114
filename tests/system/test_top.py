"""`sluice top` on real traffic: five services, each of which leads by another column, and two sources."""
import json
import os
import subprocess
import sys

import pytest

from harness import SLUICE, Process, Sluice, eventually
from namespaces import Star, inside, run

COLUMNS = {"packets": "packets", "bytes": "bytes", "connections": "connections", "resets": "resets", "requests": "requests_estimate"}
PORTS = {name: 8080 + i for i, name in enumerate(COLUMNS)}

# Takes what comes and says nothing, but answers a request.
SINK = """
import socketserver
class Sink(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(1 << 20):
            if data.startswith(b"GET "):
                self.request.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n" * data.count(b"GET "))
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer(("127.0.0.1", 8000), Sink).serve_forever()
"""

# In turns, so that however slow the machine is, each leads by its own column. Connections come from an address of their own.
# With pauses: ports of closed connections rest for a minute, and an unbridled loop runs out of them and dies.
LOAD = """
import socket, struct, sys, time
ports = {ports}
def connect(name, source="10.77.1.1"):
    made = socket.create_connection(("10.77.1.2", ports[name]), 20, source_address=(source, 0))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
packets, volume, requests = (connect(name) for name in ("packets", "bytes", "requests"))
while True:
    for _ in range(100):
        packets.send(b"x")
    volume.sendall(b"x" * 60000)
    for _ in range(12):
        connect("connections", "10.77.1.9").close()
    for _ in range(5):
        reset = connect("resets")
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
    for _ in range(20):
        requests.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        requests.recv(4096)
    time.sleep(0.05)
"""


@pytest.fixture
def node(scratch):
    if os.getuid() != 0:
        pytest.skip("needs root for network namespaces and BPF")
    with Star("top", 1) as star:
        run("ip", "-n", star.hub, "address", "add", "10.77.1.9/24", "dev", "rim1")

        class Node(Sluice):
            def command(self, arguments):
                return inside(star.rim[0], *arguments)

        listeners = ", ".join(f'{name}: {{ bind: "10.77.1.2:{port}", protocol: {"http" if name == "requests" else "tcp"} }}'
                              for name, port in PORTS.items())
        routes = ", ".join(f"{{ name: {name}, listener: {name}, upstream: sink }}" for name in PORTS)
        Process(scratch, "sink", inside(star.rim[0], sys.executable, "-c", SINK))
        made = Node(scratch, f"""version: 1
state_dir: {scratch.path}/state
guard: {{ interfaces: [eth0], monitor: [service, source] }}
upstreams: {{ sink: {{ endpoints: ["127.0.0.1:8000"] }} }}
listeners: {{ {listeners} }}
routes: [{routes}]
""")
        Process(scratch, "load", inside(star.hub, sys.executable, "-c", LOAD.replace("{ports}", repr(PORTS))))
        yield made
        made.stop()
        subprocess.run(inside(star.rim[0], SLUICE, "cleanup"), capture_output=True, check=False)


def rows_of(node, *words):
    return json.loads(node.ctl("top", "--once", "--output", "json", *words).stdout.splitlines()[-1])["rows"]


def test_each_column_sorts(node):
    for sort, key in COLUMNS.items():
        def leads():
            rows = rows_of(node, "--sort", sort)
            assert [row[key] for row in rows] == sorted((row[key] for row in rows), reverse=True)
            return len(rows) == len(PORTS) and rows[0]["name"] == f"10.77.1.2:{PORTS[sort]}" and rows[0]["listener"] == sort
        eventually(leads, f"{sort} has its own service first")

        def leads_on_screen():
            head, first, *_ = node.ctl("top", "--once", "--sort", sort).stdout.splitlines()
            assert sum("*" in word for word in head.split()) == 1
            assert f"{sort[:4].upper()}" in next(word for word in head.split() if word.endswith("*"))
            return first.split()[:2] == [f"10.77.1.2:{PORTS[sort]}", sort]
        eventually(leads_on_screen, f"the table sorts by {sort}")


def sources_are(node, names, *words):
    def shown():
        rows = rows_of(node, "--by", "source", *words)
        assert [row["name"] for row in rows] == names, rows
        return True
    return shown


def test_sources_sort_too_and_lines_are_as_many_as_asked_for(node):
    eventually(sources_are(node, ["10.77.1.9", "10.77.1.1"], "--sort", "connections"), "who opens the most connections is first")
    eventually(sources_are(node, ["10.77.1.1", "10.77.1.9"], "--sort", "bytes"), "who sends the most is first")
    eventually(sources_are(node, ["10.77.1.1"], "--lines", "1"), "one line is one line")
    refused = node.ctl("top", "--sort", "weight", check=False)
    assert refused.returncode == 2 and "packets, bytes, connections, resets or requests" in refused.stderr
