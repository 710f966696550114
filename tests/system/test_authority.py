"""`verify_authority`: a client on the other side of a node, a DNS server, and names that lie about addresses.

    good.test is 10.72.0.2 and fd72::2; the origin also has 10.72.0.9, which no name stands for
"""
import os
import socket
import ssl
import subprocess

import pytest

from certificates import Authority
from harness import HANG, Process, Scratch, eventually, read_all
from netns import Net, NodeSluice, run

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces")

POLICY = """version: 1
state_dir: {state}
workers: 1
logs: {{ access: {{ path: {log} }} }}
metrics: {{ bind: "127.0.0.1:9464" }}
intercept:
  forward:
    - {{ from: [10.71.0.0/24, "fd71::/64"], to: [10.72.0.0/24, "fd72::/64"], ports: [8080], listener: web }}
    - {{ from: [10.71.0.0/24], to: [10.72.0.0/24], ports: [8443], listener: pass }}
listeners:
  web: {{ protocol: http, verify_authority: {mode} }}
  pass: {{ protocol: tls, verify_authority: {mode} }}
upstreams:
  direct: {{ endpoints: original_destination }}
  fixed: {{ endpoints: ["10.72.0.2:8080"] }}
  tls: {{ endpoints: ["10.72.0.2:8443"] }}
routes:
  - {{ listener: web, host: good.test, upstream: direct }}
  - {{ listener: web, host: "*.lies.test", upstream: direct }}
  - {{ listener: web, path: /fixed, upstream: fixed }}
  - {{ listener: web, host: own.test, direct_response: {{ status: 203 }} }}
  - {{ listener: pass, host: good.test, upstream: direct }}
  - {{ listener: pass, upstream: tls }}
"""
RECORDS = ("--host-record=good.test,10.72.0.2,fd72::2,1",)


class World:
    def __init__(self, scratch):
        self.scratch, self.net, self.dns = scratch, Net(scratch), None
        run("ip", "-n", self.net.origin, "addr", "add", "10.72.0.9/24", "dev", "eth0")
        self.net.nginx()
        pair = Authority(scratch.path).issue("good.test")
        Process(scratch, "s_server", self.net.command(
            self.net.origin, "openssl", "s_server", "-accept", "8443", "-cert", pair.cert, "-key", pair.key, "-www", "-quiet"))
        self.answer(*RECORDS)
        self.resolv = scratch.write("resolv.conf", "nameserver 10.72.0.2\noptions timeout:1 attempts:1\n")
        self.log = f"{scratch.path}/access.log"

    def answer(self, *records):
        """dnsmasq on the origin, anew; without records: nobody."""
        if self.dns:
            self.dns.stop()
        self.dns = Process(self.scratch, "dnsmasq", self.net.command(
            self.net.origin, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
            "--pid-file=", "--local-ttl=1", "--log-facility=-", "--log-queries", "--local=/test/", *records)) if records else None
        if records:
            eventually(lambda: "started" in self.dns.output(), "dnsmasq runs")

    def start(self, mode="strict"):
        # A mount namespace of its own, with another resolv.conf in it.
        prefix = ["unshare", "-m", "sh", "-c", f'mount --bind {self.resolv} /etc/resolv.conf && exec "$@"', "sh"]
        self.sluice = NodeSluice(self.net, POLICY.format(state=f"{self.scratch.path}/state", log=self.log, mode=mode), limits=prefix)
        return self

    def ask(self, host, address="10.72.0.2", path="/", version="1.1"):
        """The status of a request to an address under a name; the name None: without one."""
        def body():
            with socket.create_connection((address, 8080), HANG) as client:
                name = f"Host: {host}\r\n" if host is not None else ""
                client.sendall(f"GET {path} HTTP/{version}\r\n{name}Connection: close\r\n\r\n".encode())
                return read_all(client).split(b"\r\n")[0].split(b" ")[1].decode()
        return self.net.as_client(body).result()

    def handshake(self, name, address="10.72.0.2"):
        """True: TLS was passed through to the origin."""
        def body():
            context = ssl._create_unverified_context()
            with socket.create_connection((address, 8443), HANG) as client:
                try:
                    with context.wrap_socket(client, server_hostname=name):
                        return True
                except (ssl.SSLError, OSError):
                    return False
        return self.net.as_client(body).result()

    def count(self, result):
        page = self.net.in_node("curl", "-sS", "--max-time", "5", "http://127.0.0.1:9464/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
                   if line.startswith("sluice_authority_checks_total{") and f'result="{result}"' in line)

    def logged(self, text):
        with open(self.log) as log:
            return text in log.read()


@pytest.fixture
def world():
    with Scratch() as scratch:
        yield World(scratch)


def test_a_name_must_resolve_to_the_address_that_was_dialled(world):
    world.start()
    assert world.ask("good.test") == "200"
    assert world.ask("GOOD.test.:8080") == "200"
    assert world.ask("good.test", "fd72::2") == "200"
    assert world.ask("good.test", "10.72.0.9") == "421"
    assert world.ask("good.test:80") == "421"
    assert world.ask("x.lies.test") == "421"  # there is no such name
    assert world.count("verified") == 3 and world.count("mismatch") == 3
    eventually(lambda: world.logged("authority: the name is not of the address that was dialled"), "logged")


def test_only_where_the_name_decides(world):
    world.start()
    assert world.ask("else.test", "10.72.0.9") == "200"  # no route: the original destination, whatever it is called
    assert world.ask("own.test", "10.72.0.9") == "203"  # an answer of our own goes nowhere
    assert world.ask("10.72.0.9", "10.72.0.9", "/fixed") == "200"  # named as it was dialled
    assert world.ask("10.72.0.2", "10.72.0.9", "/fixed") == "421"
    assert world.ask(None, "10.72.0.9", "/fixed", version="1.0") == "421"
    assert world.count("no_name") == 1


def test_while_dns_is_down_what_was_known_counts(world):
    world.start()
    assert world.ask("good.test") == "200"
    world.answer()
    assert world.ask("good.test") == "200"
    assert world.ask("x.lies.test") == "503"
    assert world.count("unresolved") == 1
    world.answer(*RECORDS, "--host-record=y.lies.test,10.72.0.2,1")
    eventually(lambda: world.ask("y.lies.test") == "200", "it recovers by itself")


def test_names_follow_dns(world):
    world.start()
    assert world.ask("good.test", "10.72.0.9") == "421"
    world.answer("--host-record=good.test,10.72.0.9,1")
    eventually(lambda: world.ask("good.test", "10.72.0.9") == "200", "the new address")


def test_tls_that_is_passed_through(world):
    world.start()
    assert world.handshake("good.test")
    assert not world.handshake("good.test", "10.72.0.9")
    assert not world.handshake("other.test")  # to a fixed origin, under a name that is not its
    assert not world.handshake(None)  # no SNI (or one that is encrypted without an outer name): nothing to go by
    eventually(lambda: world.logged("authority no_name") and world.logged("authority mismatch"), "logged")
    assert world.count("verified") == 1 and world.count("no_name") == 1


def test_an_audit_refuses_nobody(world):
    world.start("audit")
    assert world.ask("good.test", "10.72.0.9") == "200"
    assert world.handshake("good.test", "10.72.0.9")
    assert world.count("mismatch") == 2
    eventually(lambda: world.logged("audit: authority mismatch"), "logged")


def test_many_names_at_once_are_bounded(world):
    """Each request asks for another name while DNS is silent: all end, and so does the load on DNS."""
    world.start()
    world.answer()
    names = [f"n{i}.lies.test" for i in range(300)]

    def body():
        clients = []
        for name in names:
            client = socket.create_connection(("10.72.0.2", 8080), HANG)
            client.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            clients.append(client)
        return [read_all(client).split(b"\r\n")[0].split(b" ")[1].decode() for client in clients]

    assert set(world.net.as_client(body).result()) == {"503"}
    assert world.count("unresolved") == len(names)


def test_explain_says_what_will_be_asked(world):
    world.start()
    said = world.sluice.ctl("explain", "--from", "10.71.0.2", "--to", "10.72.0.9", "http://good.test:8080/").stdout
    assert "authority" in said and "`good.test` must resolve to 10.72.0.9" in said
