"""`sluice upgrade` and other changes of gateway processes: nobody's connection is lost."""
import base64
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import HANG, SLUICE, Scratch, eventually
from netns import Net, NodeSluice

POLICY = """
version: 1
state_dir: @STATE@
workers: 2
metrics: { bind: "127.0.0.1:9464" }
intercept:
  local: [{ to: [203.0.113.0/24], ports: [80, 8080], listener: web },
          { to: [203.0.113.0/24], ports: [7], listener: echo }]
listeners:
  web: { protocol: http, timeouts: { drain: 5s } }
  echo: { protocol: tcp, timeouts: { drain: 5s } }
upstreams:
  origin: { endpoints: ["10.72.0.2:8080"] }
  echo: { endpoints: ["10.72.0.2:7"] }
  chat: { endpoints: ["10.72.0.2:9"] }
routes: [{ listener: web, upstream: origin }, { listener: web, path: /chat, upstream: chat }, { listener: echo, upstream: echo }]
bans: { max: 1000, rules: [{ when: { limit: hard, count: 50, within: 10s }, for: 60s }] }
limits: { hard: { key: [client_ip], rate: 100000/s } }
"""


@pytest.fixture
def node():
    with Scratch() as scratch:
        net = Net(scratch)
        net.nginx()
        # Waited for nowhere: a thread of this process, gone with it.
        net.echo = threading.Thread(target=serve_echo, args=(net,), daemon=True)
        net.echo.start()
        serve_chat(net)
        yield net


def policy(net, text=POLICY):
    return text.replace("@STATE@", os.path.join(net.scratch.path, "state"))


def serve_echo(net):
    import netns

    def serve():
        listener = socket.create_server(("10.72.0.2", 7))
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection):
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.close()

    netns.Thread(net.origin, serve)


def accept_of(key):
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def ws_frame(opcode, payload, mask=b""):
    """RFC 6455 section 5.2, up to 125 bytes, whole."""
    if mask:
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([0x80 | opcode, (0x80 if mask else 0) | len(payload)]) + mask + payload


def ws_read(stream):
    """(opcode, payload); nothing at the stream's end."""
    head = stream.read(2)
    if len(head) < 2:
        return None
    assert head[0] & 0x70 == 0 and head[0] & 0x80, head
    mask = stream.read(4) if head[1] & 0x80 else bytes(4)
    payload = stream.read(head[1] & 0x7f)
    return head[0] & 15, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def serve_chat(net):
    """A WebSocket origin that says back what it hears, close frames too."""
    import netns

    def serve():
        listener = socket.create_server(("10.72.0.2", 9))
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=chat, args=(connection,), daemon=True).start()

    def chat(connection):
        with connection, connection.makefile("rb") as stream:
            key = b""
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                key = value.strip() if name.lower() == b"sec-websocket-key" else key
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               b"Sec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\n")
            while (frame := ws_read(stream)) is not None:
                connection.sendall(ws_frame(*frame))
                if frame[0] == 8:
                    return

    threading.Thread(target=lambda: netns.Thread(net.origin, serve), daemon=True).start()


class Load:
    """Clients that go on until told to stop; failures and totals by kind."""

    def __init__(self, net, *kinds):
        self.stop_asked = threading.Event()
        self.done, self.failures = {kind.__name__: 0 for kind in kinds}, []
        self.threads = [net.as_client(lambda kind=kind: self.drive(kind)) for kind in kinds]

    def drive(self, kind):
        name = kind.__name__
        while not self.stop_asked.is_set():
            try:
                for _ in kind(self.stop_asked):
                    self.done[name] += 1
            except (OSError, AssertionError) as error:
                self.failures.append(f"{name}: {error!r}")

    def stop(self):
        self.stop_asked.set()
        for thread in self.threads:
            thread.result()
        return self.done


def http1(stopped):
    """Requests on a kept connection; a new one after `Connection: close`, as RFC 9112 section 9.6 has it."""
    with socket.create_connection(("203.0.113.7", 80), HANG) as connection:
        connection.settimeout(HANG)
        stream = connection.makefile("rb")
        while not stopped.is_set():
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            status = stream.readline()
            if not status:
                # Closed while idle: what a client may repeat (section 9.3.1), but this proxy says so beforehand.
                raise AssertionError("closed without a word")
            assert status.startswith(b"HTTP/1.1 200"), status
            length, close = 0, False
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, value = line.lower().split(b":", 1)
                length = int(value) if name == b"content-length" else length
                close = close or (name == b"connection" and b"close" in value)
            assert len(stream.read(length)) == length
            yield
            if close:
                return


def new_connections(stopped):
    """A connection for each request: a refused SYN shows."""
    while not stopped.is_set():
        with socket.create_connection(("203.0.113.9", 8080), HANG) as connection:
            connection.settimeout(HANG)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            text = b""
            while data := connection.recv(65536):
                text += data
            assert text.startswith(b"HTTP/1.1 200"), text[:80]
        yield


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2(stopped):
    """Streams on one connection; a new one after GOAWAY, whose last stream is the last that counts (RFC 9113 section 6.8).
    By hand: python3-h2 takes no answer after a GOAWAY."""
    with socket.create_connection(("203.0.113.8", 80), HANG) as connection:
        connection.settimeout(HANG)
        reader = connection.makefile("rb")
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        stream, last = -1, None
        while not stopped.is_set() and last is None:
            stream += 2
            # :method GET, :scheme http, :path / by index; :authority a.
            try:
                connection.sendall(frame(1, 5, stream, b"\x82\x86\x84\x01\x01a"))
            except (BrokenPipeError, ConnectionResetError):
                pass  # closed behind a GOAWAY that is still to be read
            answered = ended = False
            while not ended:
                head = reader.read(9)
                if len(head) < 9:
                    assert last is not None and stream > last, f"closed in stream {stream}, last {last}, answered {answered}"
                    return
                size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                payload = reader.read(size)
                if kind in (0, 1):
                    assert int.from_bytes(head[5:]) == stream
                    answered = answered or payload[0] == 0x88  # :status 200
                    ended = bool(flags & 1)
                elif kind == 3:
                    raise AssertionError(f"stream {stream} reset, code {int.from_bytes(payload)}, last {last}")
                elif kind == 4 and not flags & 1:
                    connection.sendall(frame(4, 1, 0))
                elif kind == 6 and not flags & 1:
                    connection.sendall(frame(6, 1, 0, payload))
                elif kind == 7:
                    last = int.from_bytes(payload[:4]) & 0x7fffffff
                    assert int.from_bytes(payload[4:8]) == 0, f"GOAWAY with code {int.from_bytes(payload[4:8])}"
                    if stream > last:
                        return
            assert answered
            connection.sendall(frame(8, 0, 0, struct.pack(">I", 65535 // 2)))
            yield


def layer4(stopped):
    """A connection that is held open, and one after it when the gateway's deadline has ended it."""
    with socket.create_connection(("203.0.113.7", 7), HANG) as connection:
        connection.settimeout(HANG)
        opened = time.monotonic()
        while not stopped.is_set() and time.monotonic() - opened < 3:
            message = struct.pack("<d", time.monotonic()) * 100
            connection.sendall(message)
            received = b""
            while len(received) < len(message):
                data = connection.recv(len(message) - len(received))
                assert data, "cut"
                received += data
            assert received == message
            yield


def websocket(stopped):
    """Messages that come back, in order, on a connection that is held over upgrades and closed as RFC 6455 section 7 has it."""
    with socket.create_connection(("203.0.113.7", 80), HANG) as connection, connection.makefile("rb") as stream:
        connection.settimeout(HANG)
        key = base64.b64encode(os.urandom(16))
        connection.sendall(b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
        assert stream.readline().startswith(b"HTTP/1.1 101"), "no upgrade"
        accepted = b""
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            accepted = value.strip() if name.lower() == b"sec-websocket-accept" else accepted
        assert accepted == accept_of(key)
        opened, number = time.monotonic(), 0
        while not stopped.is_set() and time.monotonic() - opened < 3:
            message = struct.pack("<QQ", number, id(stream))
            connection.sendall(ws_frame(2, message, os.urandom(4)))
            assert ws_read(stream) == (2, message), "cut, or another's"
            number += 1
            yield
        connection.sendall(ws_frame(8, struct.pack(">H", 1000), os.urandom(4)))
        assert ws_read(stream) == (8, struct.pack(">H", 1000)), "closed without a word"


UPGRADES = 20 if os.environ.get("NIGHTLY") else 4


def test_upgrades_under_load_lose_nothing(node):
    sluice = NodeSluice(node, policy(node))
    sluice.ctl("ban", "198.51.100.7", "--for", "1h")
    keeper = sluice.pid
    gateways = {sluice.gateway()}
    load = Load(node, http1, http1, new_connections, new_connections, http2, layer4, websocket, websocket)
    eventually(lambda: all(load.done.values()), "every kind of client is served")
    for number in range(1, UPGRADES + 1):
        before = dict(load.done)
        sluice.ctl("upgrade")
        status = sluice.status()
        assert status["pid"] == keeper
        assert status["upgrade"]["state"] == "done"
        gateways.add(status["gateway"]["pid"])
        assert len(gateways) == number + 1
        eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on")
    done = load.stop()
    assert sorted(load.failures) == []
    assert all(done.values()), done
    assert "198.51.100.7" in sluice.ctl("bans").stdout, "bans are carried over"
    eventually(lambda: sluice.metric("sluice_keeper_upgrades_total") == UPGRADES, "counted")
    # The first ones have gone at their deadlines; nothing is left but the keeper and the gateway that serves.
    eventually(lambda: sluice.children() == [sluice.gateway()], "the gateways before have gone")
    assert sluice.stop() == 0


def test_a_program_that_cannot_take_over_changes_nothing(node):
    sluice = NodeSluice(node, policy(node))
    gateway = sluice.gateway()
    for program, why in (("/bin/true", "does not know how"), ("/nowhere/sluice", "No such file")):
        failed = sluice.ctl("upgrade", "--binary", program, check=False)
        assert failed.returncode == 1
        assert why in failed.stderr
    assert sluice.gateway() == gateway
    assert node.curl("http://203.0.113.7/")


def test_a_gateway_that_cannot_start_leaves_the_old_one_serving(node):
    sluice = NodeSluice(node, policy(node))
    gateway = sluice.gateway()
    load = Load(node, http1, new_connections, layer4, websocket)
    # No thread can have a stack as large as that: the keeper has one thread, a gateway cannot start its workers.
    before = subprocess.run(["prlimit", "--pid", str(sluice.pid), "--stack", "--output", "SOFT,HARD", "--noheadings"],
                            capture_output=True, text=True).stdout.split()
    subprocess.run(["prlimit", "--pid", str(sluice.pid), f"--stack={1 << 47}:"], check=True)
    failed = sluice.ctl("upgrade", check=False)
    assert failed.returncode == 1, failed.stdout
    assert sluice.gateway() == gateway
    eventually(lambda: all(load.done.values()), "everybody is served")
    if "ThreadSanitizer" in failed.stderr:  # which starts no program at all with such a stack
        assert "nothing has changed" in failed.stderr
    else:
        assert "the new gateway process ended" in failed.stderr
        assert "going back to the program before" in sluice.output()
    subprocess.run(["prlimit", "--pid", str(sluice.pid), f"--stack={before[0]}:"], check=True)
    sluice.ctl("upgrade")
    assert sluice.gateway() != gateway
    load.stop()
    assert load.failures == []


def test_another_program_takes_over_from_where_it_is_installed(node):
    program = os.path.join(node.scratch.path, "installed")
    shutil.copy(SLUICE, program)
    sluice = NodeSluice(node, policy(node), binary=program)
    # As packages do it: beside, and moved over.
    shutil.copy(SLUICE, program + ".new")
    os.rename(program + ".new", program)
    assert os.readlink(f"/proc/{sluice.pid}/exe").endswith("(deleted)")
    sluice.ctl("upgrade")
    assert os.readlink(f"/proc/{sluice.pid}/exe") == program
    assert os.readlink(f"/proc/{sluice.gateway()}/exe") == program
    assert node.curl("http://203.0.113.7/")


def test_reloads_follow_an_upgrade(node):
    sluice = NodeSluice(node, policy(node))
    sluice.ctl("upgrade")
    generation = sluice.status()["generation"]
    sluice.write_policy(policy(node, POLICY.replace("[80, 8080]", "[80, 8081]")))
    eventually(lambda: sluice.status()["generation"] > generation, "the policy is followed")
    assert node.curl("http://203.0.113.7:8081/")
    assert node.curl("http://203.0.113.7:8080/") is None


def test_a_reload_changes_the_number_of_workers(node):
    sluice = NodeSluice(node, policy(node))
    gateway = sluice.gateway()
    load = Load(node, http1, new_connections, layer4, websocket)
    for workers in (3, 1, 2):
        before = dict(load.done)
        sluice.write_policy(policy(node, POLICY.replace("workers: 2", f"workers: {workers}")))
        sluice.ctl("reload")
        status = sluice.status()
        assert status["policy"]["last_reload"]["ok"]
        assert len(status["workers"]) == workers, status["workers"]
        eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on")
    assert sluice.gateway() != gateway
    load.stop()
    assert load.failures == []
    eventually(lambda: sluice.metric("sluice_gateway_replacements_total") == 3, "counted")


def test_the_first_intercept_rule_comes_by_reload(node):
    guard_only = """
version: 1
state_dir: @STATE@
metrics: { bind: "127.0.0.1:9464" }
guard: { rules: [{ name: all, from: [10.71.0.0/24], action: count }] }
listeners: { web: { bind: "127.0.0.1:9999" } }
upstreams: { origin: { endpoints: ["10.72.0.2:8080"] } }
routes: [{ listener: web, upstream: origin }]
"""
    sluice = NodeSluice(node, policy(node, guard_only))
    gateway = sluice.gateway()
    assert "called from 10.71.0.2" in node.curl("http://10.72.0.2:8080/")
    sluice.write_policy(policy(node, guard_only + """
intercept: { output: [{ to: [10.72.0.0/16], ports: [8080], listener: web }],
             forward: [{ to: [10.72.0.0/16], ports: [8080], listener: web }] }
default_route: { forward: origin, output: origin }
"""))
    sluice.ctl("reload")
    assert "called from 10.72.0.1" in node.curl("http://10.72.0.2:8080/"), "through the gateway, which is not caught itself"
    assert sluice.gateway() == gateway
