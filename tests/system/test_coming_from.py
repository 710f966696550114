"""docs/coming-from.md, run: what stands side by side there answers alike."""
import os
import re
import shutil
import socket
import subprocess

import pytest

from harness import HANG, SLUICE, Nginx, Process, Sluice, curl, eventually, free_port
from netns import Net, NodeSluice

PAGE = os.path.join(os.path.dirname(__file__), "../../docs/coming-from.md")
SAY = """
    location = /healthz { return 200 "well\\n"; }
    location /show { return 200 "NAME $http_x_edge $http_x_forwarded_for\\n"; }
    location = /api { return 200 "NAME $http_x_edge $http_x_forwarded_for\n"; }
    location /api/ { return 200 "NAME $http_x_edge $http_x_forwarded_for\n"; }
"""


def block(name):
    """The page's code that begins with `# name`."""
    with open(PAGE) as page:
        found = re.search(rf"```\w+\n# {re.escape(name)}\n(.*?)```", page.read(), re.S)
    return found.group(1)


class Front:
    """One of the proxies, before three origins."""

    def __init__(self, scratch, name):
        self.port = free_port()
        self.origins = {9001: Nginx(scratch, f"{name}-a", extra=SAY.replace("NAME", "api")),
                        9002: Nginx(scratch, f"{name}-b", extra=SAY.replace("NAME", "api")),
                        9003: Nginx(scratch, f"{name}-s", extra=SAY.replace("NAME", "site"))}
        self.path = scratch.write(name, self.placed(block(name)))
        self.start(scratch, name)
        eventually(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() or True, f"{name} listens")
        eventually(lambda: self.get("/api/ready")[0] == 200, "the health checks have seen their servers")

    def placed(self, text):
        ports = {8080: self.port, **{port: origin.port for port, origin in self.origins.items()}}
        return re.sub(r"(127\.0\.0\.1:|port_value: )(\d+)", lambda m: m.group(1) + str(ports[int(m.group(2))]), text)

    def start(self, scratch, name):
        command = {"haproxy.cfg": ["haproxy", "-db", "-f", self.path],
                   "envoy.yaml": [shutil.which("envoy") or "envoy", "-c", self.path, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"],
                   "nginx.conf": ["nginx", "-e", f"{scratch.path}/front.err", "-g",
                                  f"daemon off; pid {scratch.path}/front.pid;" + (" user root;" if os.getuid() == 0 else ""), "-c", self.path]}
        if name == "sluice.yaml":
            Sluice(scratch, f"state_dir: {scratch.path}/state\n" + self.placed(block(name)))
        else:
            Process(scratch, f"front-{name}", command[name])

    def get(self, path):
        code, body, head = curl(f"http://127.0.0.1:{self.port}{path}")
        status = int(head.split()[1]) if code == 0 else 0
        location = re.search(r"(?im)^location: *(\S+)", head)
        return status, body.decode().strip(), location.group(1) if location else None


def path_of(url):
    return re.sub(r"^http://[^/]+", "", url)


@pytest.mark.parametrize("name", ["sluice.yaml", "haproxy.cfg", "nginx.conf", pytest.param(
    "envoy.yaml", marks=pytest.mark.skipif(shutil.which("envoy") is None, reason="Envoy is no package of Debian's; where it is in PATH, it runs"))])
def test_it_answers_as_the_others(scratch, name):
    front = Front(scratch, name)
    for path in ("/api/items", "/api"):
        status, body, _ = front.get(path)
        # The client's address, or where that is loopback, as Envoy has it, the node's.
        assert status == 200 and re.fullmatch(r"api sluice \d+\.\d+\.\d+\.\d+", body)
    assert re.fullmatch(r"site +\d+\.\d+\.\d+\.\d+", front.get("/show")[1])  # no header of the API's
    assert front.get("/apis")[1].startswith(f"{name}-s ")               # a prefix of segments
    assert front.get("/inside/x")[0] == 403
    status, _, location = front.get("/old/page")
    assert status == 301 and path_of(location) == "/new/page"
    statuses = [front.get("/api/x")[0] for _ in range(45)]
    assert set(statuses) == {200, 429} and statuses[:10] == [200] * 10  # burst, then the rate
    assert front.get("/show")[0] == 200                                 # the limit is the API's


def test_the_interception_is_a_policy(scratch):
    path = scratch.write("intercept.yaml", block("intercept.yaml"))
    done = subprocess.run([SLUICE, "check", path], capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def net(scratch):
    net = Net(scratch)
    net.nginx()
    return net


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces of its own")


@needs_root
@pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed")
def test_tproxy_by_iptables_answers(scratch, net):
    """The page's commands, and HAProxy as the proxy that listens with IP_TRANSPARENT."""
    for line in block("tproxy.sh").splitlines():
        if not line.startswith("#"):
            net.in_node(*line.split())
    config = scratch.write("transparent.cfg", """
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  bind 0.0.0.0:8080 transparent
  default_backend site
backend site
  server s 10.72.0.2:8080
""")
    Process(scratch, "haproxy", net.command(net.node, "haproxy", "-db", "-f", config))
    answers_for_addresses_of_no_host(net)


@needs_root
def test_the_same_by_a_policy_answers_alike(scratch, net):
    text = block("intercept.yaml").replace("127.0.0.1:9003", "10.72.0.2:8080")
    NodeSluice(net, f"state_dir: {scratch.path}/state\n{text}")
    answers_for_addresses_of_no_host(net)


def answers_for_addresses_of_no_host(net):
    eventually(lambda: net.curl("http://203.0.113.7/"), "it is caught")
    assert {net.curl(f"http://203.0.113.{host}/").strip() for host in (1, 77, 254)} == {"origin, called from 10.72.0.1"}
    assert net.curl("http://203.0.113.7:81/", "--max-time", "1") is None and net.curl("http://203.0.114.7/", "--max-time", "1") is None
