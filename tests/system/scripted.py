"""Peers that misbehave by script, and a proxy whose answers, log lines and metrics a test can put side by side."""
import json
import os
import re
import socket
import struct
import threading

from harness import HANG, Sluice, eventually, free_port


class Origin:
    """A TCP server that plays `script(connection, number)` on each connection, in a thread of its own.

    `connection` is an OriginConnection; `number` counts from 0. The connection is closed when the script returns.
    """

    def __init__(self, scratch, script, port=0, address="127.0.0.1"):
        self.script = script
        self.listening = socket.create_server((address, port), backlog=512)
        self.port = self.listening.getsockname()[1]
        self.connections = []
        self.requests = []  # every head that was read, in the order in which they came
        self.accepted = 0
        self.closed = False
        scratch.closers.append(self.close)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                raw, _ = self.listening.accept()
            except OSError:
                return
            raw.settimeout(HANG)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = OriginConnection(raw, self.requests)
            self.connections.append(connection)
            number, self.accepted = self.accepted, self.accepted + 1
            threading.Thread(target=self._play, args=(connection, number), daemon=True).start()

    def _play(self, connection, number):
        try:
            self.script(connection, number)
        except (OSError, EOFError):
            pass
        connection.close()

    def close(self):
        self.closed = True
        try:
            self.listening.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass
        self.listening.close()
        for connection in self.connections:
            connection.close()


class OriginConnection:
    def __init__(self, raw, heads):
        self.raw = raw
        self.heads = heads
        self.received = b""  # behind the last head
        self.lock = threading.Lock()

    def head(self):
        """The next request's head, b"" when the peer is done."""
        while b"\r\n\r\n" not in self.received:
            data = self.raw.recv(65536)
            if not data:
                return b""
            self.received += data
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        self.heads.append(head)
        return head

    def body(self, size):
        while len(self.received) < size:
            data = self.raw.recv(65536)
            if not data:
                raise EOFError
            self.received += data
        body, self.received = self.received[:size], self.received[size:]
        return body

    def send(self, data):
        self.raw.sendall(data)

    def answer(self, body=b"ok", status=b"200 OK", fields=b""):
        self.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n" % len(body) + fields + b"\r\n" + body)

    def until_closed(self):
        """Waits until the peer closes."""
        try:
            while self.raw.recv(65536):
                pass
        except OSError:
            pass

    def reset(self):
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        with self.lock:
            try:
                self.raw.close()
            except OSError:
                pass


def serving(body=b"ok"):
    """A well-behaved script: answers whatever has no body, until the client closes."""
    def script(connection, _):
        while connection.head():
            connection.answer(body)
    return script


class MetricsPage:
    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.splitlines():
            match = re.fullmatch(r'([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)', line)
            if match:
                labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
                self.samples.append((match[1], labels, float(match[3])))

    def value(self, name, **labels):
        """The sum of the samples of this name with these labels; fails where there is none."""
        found = [v for n, l, v in self.samples if n == name and labels.items() <= l.items()]
        assert found, f"no sample {name} {labels} on the page:\n{self.text}"
        return sum(found)


class Proxy(Sluice):
    """sluice with one HTTP listener before `endpoints` (ports), its access log in a file, its metrics served."""

    def __init__(self, scratch, endpoints, listener="", upstream="", route="", extra="", workers=2, name="proxy", command=None):
        self.port, self.metrics_port = free_port(), free_port()
        self.log_file = os.path.join(scratch.path, f"{name}-access.json")
        listed = ", ".join(f'"127.0.0.1:{p}"' for p in endpoints)
        self.parts = {"endpoints": listed, "listener": listener, "upstream": upstream, "route": route, "extra": extra}
        self.workers = workers
        self.state = os.path.join(scratch.path, f"{name}-state")
        super().__init__(scratch, self.policy_text(), name=name, command=command)

    def policy_text(self, **changed):
        parts = self.parts | changed
        comma = {key: ", " + text if text else "" for key, text in parts.items()}
        return f"""version: 1
state_dir: {self.state}
workers: {self.workers}
metrics: {{ bind: "127.0.0.1:{self.metrics_port}" }}
logs: {{ access: {{ format: json, path: "{self.log_file}" }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}"{comma['listener']} }} }}
upstreams: {{ origins: {{ endpoints: [{parts['endpoints']}]{comma['upstream']} }} }}
routes: [{{ listener: web, name: all, upstream: origins{comma['route']} }}]
{parts['extra']}
"""

    def connect(self, timeout=HANG):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def metrics(self):
        with socket.create_connection(("127.0.0.1", self.metrics_port), HANG) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
            data = b""
            while chunk := connection.recv(65536):
                data += chunk
        head, body = data.split(b"\r\n\r\n", 1)
        assert b" 200 " in head, head
        return MetricsPage(body.decode())

    def settled(self):
        """The page once no request is under way: a client has its answer a little before that is counted."""
        eventually(lambda: self.metrics().value("sluice_requests_active") == 0, "no request is under way")
        return self.metrics()

    def log_lines(self):
        try:
            with open(self.log_file) as log:
                return [json.loads(line) for line in log if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def logged(self, **fields):
        """The first line of the access log with these values, waited for."""
        def find():
            return next((line for line in self.log_lines() if fields.items() <= line.items()), None)
        return eventually(find, f"a log line with {fields}; there are:\n{self.log_lines()[-5:]}")


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def status_of(answer):
    """200 of b"HTTP/1.1 200 …"; None where no answer came."""
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(match[1]) if match else None


def read_answer(connection):
    """One answer with a Content-Length from a connection that stays open; fails when it ends before."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        assert chunk, f"closed within the head: {data!r}"
        data += chunk
    head, body = data.split(b"\r\n\r\n", 1)
    size = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(body) < size:
        chunk = connection.recv(65536)
        assert chunk, "closed within the body"
        body += chunk
    assert len(body) == size, body
    return head + b"\r\n\r\n" + body
