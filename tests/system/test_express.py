"""The express lane: bytes between sockets of one node pass by TCP. Real nginx and curl, in the node's own network namespace and
in pods behind veth; what must work without the lane works in it, and what is not the gateway's never enters."""
import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from harness import HANG, SLUICE, Process, Scratch, eventually, read_all
from netns import Net, NodeSluice, Thread, run

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces")


@pytest.fixture
def net():
    with Scratch() as scratch:
        yield Net(scratch)


def policy(net, express="both", extra="", endpoint="127.0.0.1:8081", protocol="http", upstream=""):
    return f"""version: 1
state_dir: {net.scratch.path}/state
workers: 2
metrics: {{ bind: "127.0.0.1:9464" }}
listeners:
  web: {{ bind: "127.0.0.1:8000", express: {express}, protocol: {protocol} }}
  caught: {{ express: {express}, protocol: {protocol} }}
upstreams:
  app: {{ endpoints: ["{endpoint}"]{upstream} }}
  pod: {{ endpoints: ["10.72.0.2:8080"]{upstream} }}
routes:
  - {{ listener: web, upstream: app }}
  - {{ listener: caught, upstream: pod }}
{extra}"""


FORWARD = "intercept: { forward: [{ to: [10.72.0.0/24], ports: [8080], listener: caught }] }\n"


class Page:
    """The metrics page: sums by name and labels."""

    def __init__(self, net):
        self.lines = net.in_node("curl", "-sS", "--max-time", "5", "http://127.0.0.1:9464/metrics").splitlines()

    def value(self, name, **labels):
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.lines
                   if line.split("{")[0].split(" ")[0] == name and all(one in line for one in wanted))


def counted(net, name, at_least=1, **labels):
    """The keeper's numbers come to the page once a second."""
    eventually(lambda: Page(net).value(name, **labels) >= at_least, f"{name} {labels}")


def by_lane(net, peer):
    page = Page(net)
    return {direction: page.value("sluice_express_bytes_total", peer=peer, direction=direction, way="express")
            for direction in ("sent", "received")}


class Peer:
    """A TCP server in a namespace: serve(connection) for each connection, in a thread of its own."""

    def __init__(self, net, namespace, address, serve):
        self.serve, self.problems = serve, []
        self.listener = Thread(namespace, lambda: socket.create_server(address, backlog=512)).result()
        net.scratch.closers.append(self.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        assert self.problems == []

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(connection,), daemon=True).start()

    def one(self, connection):
        connection.settimeout(HANG)
        with connection:
            try:
                self.serve(connection)
            except (ConnectionError, BrokenPipeError):
                pass  # the other end may go at any time
            except BaseException as problem:
                self.problems.append(repr(problem))


def dial(namespace, address):
    connection = Thread(namespace, lambda: socket.create_connection(address, HANG)).result()
    connection.settimeout(HANG)
    return connection


def nginx(net, namespace, address, location='return 200 "$request_method $remote_addr\\n";'):
    directory = os.path.join(net.scratch.path, f"nginx-{namespace}")
    os.makedirs(f"{directory}/files")
    for name, size in (("small", 300), ("large", 20_000_000)):
        with open(f"{directory}/files/{name}", "wb") as file:
            file.write(os.urandom(size))
    config = net.scratch.write(f"{namespace}.conf", f"""
user root; daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 2048; }}
http {{ access_log off; client_body_temp_path {directory}; client_max_body_size 0; dav_methods_off; }}
""".replace(" dav_methods_off;", f"""
  server {{ listen {address}; root {directory}; location /files/ {{ dav_methods PUT; create_full_put_path on; }}
    location / {{ {location} }} }}"""))
    Process(net.scratch, f"nginx-{namespace}", net.command(namespace, "nginx", "-c", config, "-e", f"{directory}/error.log"))
    host, port = address.split(" ")[0].rsplit(":", 1)
    eventually(lambda: dial(namespace, (host, int(port))).close() or True, "nginx listens")
    return f"{directory}/files"


def curl(net, namespace, *arguments):
    done = subprocess.run(net.command(namespace, "curl", "-sS", "--max-time", str(HANG), *arguments), capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def content(path):
    with open(path, "rb") as file:
        return file.read()


def test_both_sides_on_the_node(net):
    files = nginx(net, net.node, "127.0.0.1:8081")
    NodeSluice(net, policy(net))
    url = "http://127.0.0.1:8000/files/"
    small = content(f"{files}/small")
    for _ in range(3):
        assert curl(net, net.node, url + "small", url + "small") == small * 2
    for peer in ("client", "upstream"):
        eventually(lambda: min(by_lane(net, peer).values()) > 0, f"the lane's bytes of {peer}")
    assert Page(net).value("sluice_express_bytes_total", way="tcp") == 0


def test_large_bodies_leave_the_lane_and_stay_whole(net):
    files = nginx(net, net.node, "127.0.0.1:8081")
    NodeSluice(net, policy(net))
    url = "http://127.0.0.1:8000/files/"
    large = content(f"{files}/large")
    # The same connection: small by the lane, large by TCP, small again.
    got = curl(net, net.node, url + "small", url + "large", url + "small", url + "large")
    small = content(f"{files}/small")
    assert got == small + large + small + large
    curl(net, net.node, "-T", f"{files}/large", url + "uploaded")
    assert content(f"{files}/uploaded") == large
    counted(net, "sluice_express_left_total", peer="client", reason="gateway")
    counted(net, "sluice_express_left_total", peer="upstream", reason="burst")


def test_pods_behind_veth(net):
    files = nginx(net, net.origin, "10.72.0.2:8080")
    NodeSluice(net, policy(net, extra=FORWARD))
    url = "http://10.72.0.2:8080/files/"
    for name in ("small", "large", "small"):
        assert curl(net, net.client, url + name) == content(f"{files}/{name}")
    for peer in ("client", "upstream"):
        eventually(lambda: min(by_lane(net, peer).values()) > 0, f"the lane's bytes of {peer}")


def test_who_is_in_the_lane_is_seen_by_the_connection_not_by_the_policy(net):
    """What was accepted behind a reload had entered by the policy before it, and is read by the lane all the same."""
    files = nginx(net, net.node, "127.0.0.1:8081")

    def only_two(express):
        return policy(net, express=express).replace('bind: "127.0.0.1:8000"', 'bind: "127.0.0.1:8000", max_connections: 2')
    sluice = NodeSluice(net, only_two("both"))
    body = os.urandom(3_000_000)
    for i in range(3):
        served = [dial(net.node, ("127.0.0.1", 8000)) for _ in range(2)]
        for one in served:
            one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
        with dial(net.node, ("127.0.0.1", 8000)) as waits:  # in the backlog
            sluice.write_policy(only_two("none"))
            assert sluice.ctl("reload").returncode == 0
            for one in served:
                one.close()
            waits.sendall(b"PUT /files/up%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (i, len(body)) + body)
            assert waits.recv(4096).startswith(b"HTTP/1.1 201")
        assert content(f"{files}/up{i}") == body
        sluice.write_policy(only_two("both"))
        assert sluice.ctl("reload").returncode == 0


def test_listeners_of_both_versions_at_one_port(net):
    files = nginx(net, net.node, "127.0.0.1:8081")
    both = policy(net).replace('  caught:', '  other: { bind: "[::]:8000" }\n  caught:').replace('bind: "127.0.0.1:8000"', 'bind: "0.0.0.0:8000"')
    NodeSluice(net, both.replace("routes:", "routes:\n  - { listener: other, upstream: app }"))
    large = content(f"{files}/large")
    for i in range(4):
        curl(net, net.node, "-T", f"{files}/large", "-H", "Expect:", f"http://[::1]:8000/files/up{i}")
        assert content(f"{files}/up{i}") == large
    curl(net, net.node, "http://127.0.0.1:8000/files/small")
    counted(net, "sluice_express_connections_total", peer="client")
    assert Page(net).value("sluice_express_connections_total", peer="client") == 1


def test_long_uploads_by_http2_go_by_tcp_and_calls_of_grpc_do_not(net):
    files = nginx(net, net.node, "127.0.0.1:8081 http2")
    NodeSluice(net, policy(net, upstream=", protocol: http2"))
    large = content(f"{files}/large")
    for i in range(6):
        curl(net, net.node, "-T", f"{files}/large", "-H", "Expect:", f"http://127.0.0.1:8000/files/up{i}")
        assert content(f"{files}/up{i}") == large
    before = Page(net).value("sluice_express_connections_total", peer="upstream")
    curl(net, net.node, "-H", "content-type: application/grpc", "-H", "te: trailers", "--http2-prior-knowledge", "-T", "-", "http://127.0.0.1:8000/")
    counted(net, "sluice_express_connections_total", peer="upstream", at_least=before + 1)


def test_tunnels_go_to_the_origin_by_tcp(net):
    """nginx, as many an origin has it in front, would wait for ever in the lane."""
    total = 4_000_000

    def serve(connection):
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        got = 0
        while got < total:
            got += len(connection.recv(65536))
        connection.sendall(b"%d" % got)
    Peer(net, net.node, ("127.0.0.1", 8090), serve)
    nginx(net, net.node, "127.0.0.1:8081", """proxy_pass http://127.0.0.1:8090; proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;""")
    NodeSluice(net, policy(net))
    for _ in range(4):
        with dial(net.node, ("127.0.0.1", 8000)) as client:
            client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(1)
            assert head.startswith(b"HTTP/1.1 101"), head
            client.sendall(b"x" * total)
            assert client.recv(100) == b"%d" % total
    counted(net, "sluice_express_connections_total", peer="client", at_least=4)


def test_only_upstreams(net):
    nginx(net, net.node, "127.0.0.1:8081")
    NodeSluice(net, policy(net, express="upstream"))
    curl(net, net.node, "http://127.0.0.1:8000/")
    counted(net, "sluice_express_connections_total", peer="upstream")
    assert Page(net).value("sluice_express_connections_total", peer="client") == 0


def test_of_the_upstream_itself(net):
    nginx(net, net.node, "127.0.0.1:8081")
    NodeSluice(net, policy(net, express="none", upstream=", express: both"))
    curl(net, net.node, "http://127.0.0.1:8000/")
    counted(net, "sluice_express_connections_total", peer="upstream")
    counted(net, "sluice_express_connections_total", peer="client")


def test_others_never_enter_and_translated_addresses_never_match(net):
    nginx(net, net.origin, "10.72.0.2:8080")
    run(*net.command(net.node, "nft", "add table ip translate; add chain ip translate out { type nat hook output priority -100; }; "
                     "add rule ip translate out ip daddr 10.72.0.9 dnat to 10.72.0.2"))
    NodeSluice(net, policy(net, endpoint="10.72.0.9:8080"))
    assert curl(net, net.node, "http://127.0.0.1:8000/") == b"GET 10.72.0.1\n"
    assert curl(net, net.node, "http://10.72.0.2:8080/") == b"GET 10.72.0.1\n"  # not the gateway's
    counted(net, "sluice_express_connections_total", peer="client")
    assert Page(net).value("sluice_express_connections_total", peer="upstream") == 0


def test_a_silent_reader_turns_it_to_tcp_and_holds_the_writer_back(net):
    """L4 both ways: the gateway writes no more than it may until the peer has spoken, then TCP's own window holds."""
    go_on = threading.Event()
    total = 30_000_000
    piece = os.urandom(65536)

    def serve(connection):
        connection.sendall(b"hello")
        assert go_on.wait(HANG)
        got = 0
        while chunk := connection.recv(1 << 16):
            got += len(chunk)
        connection.sendall(b"%d" % got)
    Peer(net, net.node, ("127.0.0.1", 8081), serve)
    NodeSluice(net, policy(net, protocol="tcp"))
    with dial(net.node, ("127.0.0.1", 8000)) as client:
        assert client.recv(5) == b"hello"
        client.setblocking(False)
        sent, still = 0, 0
        while still < 20:
            try:
                sent += client.send(piece[sent % len(piece):])
                still = 0
            except BlockingIOError:
                still += 1
                threading.Event().wait(0.05)
        assert sent < total, "nothing held the client back"
        client.settimeout(HANG)
        go_on.set()
        client.sendall(b"x" * 1000)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"%d" % (sent + 1000)


def test_towards_a_client_that_has_said_nothing_it_turns_to_tcp_in_time(net):
    """The origin speaks first: 128 KiB go by the lane, not as much as the kernel allows."""
    text = os.urandom(600_000)
    Peer(net, net.node, ("127.0.0.1", 8081), lambda connection: connection.sendall(text))
    NodeSluice(net, policy(net, protocol="tcp"))
    with dial(net.node, ("127.0.0.1", 8000)) as client:
        threading.Event().wait(0.3)
        assert read_all(client) == text
    counted(net, "sluice_express_left_total", peer="client", reason="gateway")
    assert Page(net).value("sluice_express_left_total", peer="client", reason="burst") == 0


def test_half_closes_and_resets(net):
    def serve(connection):
        data = read_all(connection)
        if data == b"reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        connection.sendall(data[::-1])
    Peer(net, net.node, ("127.0.0.1", 8081), serve)
    NodeSluice(net, policy(net, protocol="tcp"))
    for text in (b"", b"abc", os.urandom(100_000), os.urandom(1_000_000)):
        with dial(net.node, ("127.0.0.1", 8000)) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == text[::-1]
    with dial(net.node, ("127.0.0.1", 8000)) as client:
        client.sendall(b"reset")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    eventually(lambda: Page(net).value("sluice_express_connections") == 0, "no connection is left in the lane")


def test_a_ban_closes_what_is_in_the_lane(net):
    nginx(net, net.origin, "10.72.0.2:8080")
    sluice = NodeSluice(net, policy(net, extra=FORWARD + "bans: { rules: [{ when: { event: access_denied, count: 100, within: 1s }, for: 1m }] }\n"))
    with dial(net.client, ("10.72.0.2", 8080)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        eventually(lambda: min(by_lane(net, "client").values()) > 0, "it is in the lane")
        sluice.ctl("ban", "10.71.0.2", "--for", "1m", "--reason", "test")
        assert read_all(client) == b""


def test_gateway_and_keeper_die_and_the_next_ones_use_it_again(net):
    nginx(net, net.origin, "10.72.0.2:8080")
    sluice = NodeSluice(net, policy(net, extra=FORWARD))
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with dial(net.client, ("10.72.0.2", 8080)) as client:
        client.sendall(request)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        os.kill(sluice.gateway(), 9)
        assert read_all(client) == b""
    eventually(lambda: curl(net, net.client, "http://10.72.0.2:8080/"), "the next gateway answers")
    with dial(net.client, ("10.72.0.2", 8080)) as client:
        client.sendall(request)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        sluice.kill_all()
        assert read_all(client) == b""
    NodeSluice(net, policy(net, extra=FORWARD), name="second")
    before = by_lane(net, "client")
    assert curl(net, net.client, "http://10.72.0.2:8080/")
    eventually(lambda: by_lane(net, "client")["sent"] > before["sent"], "by the lane again")


def test_switched_off_by_a_reload_it_goes_with_its_last_connection(net):
    nginx(net, net.node, "127.0.0.1:8081")
    sluice = NodeSluice(net, policy(net))
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with dial(net.node, ("127.0.0.1", 8000)) as client:
        for express in ("both", "none", "none"):
            sluice.write_policy(policy(net, express=express))
            sluice.ctl("reload")
            client.sendall(request)
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        assert curl(net, net.node, "http://127.0.0.1:8000/")
    eventually(lambda: not re.search("^sluice_express_", "\n".join(Page(net).lines), re.M), "the programs are gone")


def forget_flow_of(client):
    """As if the kernel had no room for it any more: from here on both directions go by TCP."""
    port = client.getsockname()[1]
    forgotten = 0
    tables = json.loads(run("bpftool", "-j", "map", "show", "name", "express_flows"))
    for table in tables if isinstance(tables, list) else [tables]:
        for entry in json.loads(run("bpftool", "-j", "map", "dump", "id", str(table["id"]))):
            if int.from_bytes(bytes(int(octet, 16) for octet in entry["value"][32:34]), "little") == port:
                run("bpftool", "map", "delete", "id", str(table["id"]), "key", "hex", *(octet[2:] for octet in entry["key"]))
                forgotten += 1
    return forgotten


def test_what_comes_by_tcp_behind_the_lane_is_read_without_an_event_of_its_own(net):
    nginx(net, net.node, "127.0.0.1:8081")
    sluice = NodeSluice(net, policy(net, express="both"))
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with dial(net.node, ("127.0.0.1", 8000)) as client:
        for _ in range(5):
            client.sendall(request)
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        os.kill(sluice.gateway(), signal.SIGSTOP)
        try:
            client.sendall(request)
            assert forget_flow_of(client) == 1
            client.sendall(request.replace(b"GET", b"PUT"))
        finally:
            os.kill(sluice.gateway(), signal.SIGCONT)
        answers = b""
        while b"PUT " not in answers:
            answers += client.recv(4096)
        assert answers.count(b"HTTP/1.1 200") == 2


def test_tls_is_refused_with_a_reason(net):
    path = net.scratch.write("tls.yaml", policy(net, upstream=", express: upstream, tls: {}"))
    done = subprocess.run([SLUICE, "check", path], capture_output=True, text=True)
    assert done.returncode != 0
    assert re.search(r"tls.yaml:\d+:\d+: error: upstream `app`: TLS never goes by the express lane", done.stderr + done.stdout)
