"""WebSocket over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441), in every mix of the two sides."""
import base64
import hashlib
import socket
import threading
import time

import h2.events
import h2.settings
import pytest

from harness import HANG, Sluice, connect, eventually, free_port
from scripted import Origin, Proxy, serving
from test_http2 import Client, text

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3


class Echo:
    """An origin that switches protocols and sends every byte back in upper case; it speaks first unless greeting is b""."""

    def __init__(self, accept=None, greeting=b"hello"):
        self.greeting = greeting
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.heads, self.ended, self.accept = [], threading.Event(), accept
        threading.Thread(target=self.serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listening.close()

    def serve(self):
        while True:
            try:
                peer = self.listening.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        data = b""
        while b"\r\n\r\n" not in data:
            more = peer.recv(4096)
            if not more:
                return
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        self.heads.append(head.decode().lower())
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        key = [line.split(": ", 1)[1] for line in head.decode().split("\r\n")[1:] if line.lower().startswith("sec-websocket-key")]
        if fields.get("upgrade") != "websocket" or not key:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno\n")
            return peer.close()
        accept = self.accept or base64.b64encode(hashlib.sha1((key[0] + GUID).encode()).digest()).decode()
        peer.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode() + self.greeting)
        peer.sendall(rest.upper())
        while data := peer.recv(65536):
            if data.endswith(b"quit"):
                break
            peer.sendall(data.upper())
        self.ended.set()
        peer.close()


def policy(scratch, name, port, endpoint, upstream=""):
    return f"""version: 1
state_dir: {scratch.path}/{name}
workers: 1
logs: {{ access: {{ format: none }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{port}" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{endpoint}"] {upstream} }} }}
routes: [{{ upstream: api }}]
"""


def front(scratch, origin, chain):
    """chain: "h1", one sluice; "h2": one that speaks HTTP/2 to a second one."""
    inner = free_port()
    Sluice(scratch, policy(scratch, "inner", inner, origin.port), name="inner")
    if chain == "h1":
        return inner
    outer = free_port()
    Sluice(scratch, policy(scratch, "outer", outer, inner, ", protocol: http2"), name="outer")
    return outer


def until(connection, end):
    data = b""
    while not data.endswith(end):
        more = connection.recv(65536)
        assert more, data
        data += more
    return data


@pytest.mark.parametrize("chain", ["h1", "h2"])
def test_over_http1(scratch, chain):
    with Echo() as origin:
        with connect(front(scratch, origin, chain)) as client:
            client.sendall(f"GET /chat?x=1 HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode())
            head = until(client, b"hello")
            assert head.startswith(b"HTTP/1.1 101 ") and b"upgrade: websocket" in head.lower()
            assert head.lower().count(b"sec-websocket-accept: " + ACCEPT.lower().encode()) == 1, head
            client.sendall(b"one")
            until(client, b"ONE")
            client.sendall(b"x" * 300_000 + b"two")
            assert len(until(client, b"TWO")) == 300_003
            client.sendall(b"quit")
            assert client.recv(1) == b""
        assert "get /chat?x=1 http/1.1" in origin.heads[0]


def test_a_switch_that_took_a_second_try(scratch):
    with Echo() as origin:
        proxy = Proxy(scratch, [free_port(), origin.port], workers=1)
        for _ in range(4):
            with proxy.connect() as client:
                client.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode())
                until(client, b"hello")
            with proxy.connect() as client:  # the same exchange may serve it
                client.sendall(b"GET / HTT")
                time.sleep(0.1)
        assert proxy.metrics().value("sluice_upstream_retries_total") >= 1


@pytest.mark.parametrize("chain", ["h1", "h2"])
def test_over_http2(scratch, chain):
    with Echo() as origin:
        client = Client(front(scratch, origin, chain))
        client.until(lambda: any(isinstance(e, h2.events.RemoteSettingsChanged) for e in client.events))
        assert client.h2.remote_settings.enable_connect_protocol == 1
        stream = client.request("/chat?x=1", "CONNECT", [("sec-websocket-version", "13")], end=False, protocol="websocket")
        body = lambda: b"".join(e.data for e in client.of(stream, h2.events.DataReceived))
        client.until(lambda: body() == b"hello")
        fields = client.fields(stream)
        assert fields[":status"] == "200" and "sec-websocket-accept" not in fields and "upgrade" not in fields
        client.data(stream, b"one")
        client.until(lambda: body() == b"helloONE")
        for _ in range(6):
            client.data(stream, b"y" * 10_000)
        client.until(lambda: len(body()) == 60_008)
        # Another stream of the connection is not in its way.
        other = client.request("/plain")
        assert client.answer(other)[0] == 400
        client.data(stream, b"quit")
        client.until(lambda: client.of(stream, h2.events.StreamEnded))
        assert client.of(stream, h2.events.StreamEnded) and not client.of(stream, h2.events.StreamReset)
        assert origin.ended.is_set()


@pytest.mark.parametrize("chain", ["h1", "h2"])
def test_the_switch_is_told_before_anybody_speaks(scratch, chain):
    """As with browsers: nothing is sent before the switch is known, and the origin waits for the client's first word."""
    with Echo(greeting=b"") as origin:
        client = Client(front(scratch, origin, chain))
        client.answer(client.request("/plain"))  # settings and their acknowledgements have gone by
        stream = client.request("/", "CONNECT", [("sec-websocket-version", "13")], end=False, protocol="websocket")
        client.until(lambda: client.of(stream, h2.events.ResponseReceived))
        assert client.fields(stream)[":status"] == "200"
        client.data(stream, b"one")
        client.until(lambda: client.of(stream, h2.events.DataReceived))
        assert client.of(stream, h2.events.DataReceived)[0].data == b"ONE"


def test_a_client_that_ends_its_side(scratch):
    with Echo() as origin:
        client = Client(front(scratch, origin, "h1"))
        stream = client.request("/", "CONNECT", [("sec-websocket-version", "13")], end=False, protocol="websocket")
        client.until(lambda: client.of(stream, h2.events.DataReceived))
        client.data(stream, b"", end=True)
        eventually(origin.ended.is_set, "the origin sees the end")
        client.until(lambda: client.of(stream, h2.events.StreamEnded))
        assert client.of(stream, h2.events.StreamEnded)


@pytest.mark.parametrize("upstream", ["http1", "http2"])
def test_over_http2_it_has_one_line_in_the_log(scratch, upstream):
    with Echo() as origin:
        port = origin.port if upstream == "http1" else front(scratch, origin, "h1")
        proxy = Proxy(scratch, [port], upstream=f"protocol: {upstream}")
        client = Client(proxy.port)
        client.read()
        stream = client.request("/chat", "CONNECT", [("sec-websocket-version", "13")], end=False, protocol="websocket")
        client.until(lambda: client.of(stream, h2.events.DataReceived))
        assert proxy.log_lines() == []
        client.data(stream, b"quit")
        client.until(lambda: client.of(stream, h2.events.StreamEnded))
        assert proxy.logged(kind="request")["status"] == 101
        client.answer(client.request("/plain"))
        proxy.logged(path="/plain")
        assert [line["kind"] for line in proxy.log_lines()] == ["request", "request"]


def test_a_wrong_accept_is_no_switch(scratch):
    with Echo(accept="bm90IHRoZSByaWdodCBvbmU=") as origin:
        client = Client(front(scratch, origin, "h1"))
        stream = client.request("/", "CONNECT", [("sec-websocket-version", "13")], end=False, protocol="websocket")
        assert client.answer(stream)[0] == 502


@pytest.mark.parametrize("upstream", ["http1", "http2"])
def test_an_answer_without_a_switch_opens_nothing(scratch, upstream):
    """RFC 8441 section 5: any 2xx would. And a page that knows nothing of WebSocket has done nothing wrong."""
    page = Origin(scratch, serving())
    port = page.port if upstream == "http1" else front(scratch, page, "h1")
    proxy = Proxy(scratch, [port], upstream=f"protocol: {upstream}, outlier_detection: {{ consecutive_gateway_errors: 1, max_ejection_percent: 100 }}")
    client = Client(proxy.port)
    client.read()
    for _ in range(3):
        stream = client.request("/page", "CONNECT", [("sec-websocket-version", "13")], end=False, protocol="websocket")
        assert client.answer(stream)[0] == 502
    assert proxy.logged(path="/page")["status"] == 502
    assert client.answer(client.request("/page"))[0] == 200
    assert proxy.metrics().value("sluice_upstream_ejections_total") == 0


def test_an_answer_of_our_own_opens_nothing(scratch):
    port = free_port()
    Sluice(scratch, policy(scratch, "own", port, free_port()).replace("routes: [{ upstream: api }]", """
routes: [{ path: /own, direct_response: { status: 200, body: hello } }, { path: /none, direct_response: { status: 204 } }, { upstream: api }]"""))
    client = Client(port)
    client.read()
    ask = lambda path, **more: client.answer(client.request(path, "CONNECT", [("sec-websocket-version", "13"), *more.items()],
                                                            end=False, protocol="websocket"))
    assert [ask(path)[0] for path in ("/own", "/none")] == [502, 502]
    assert ask("/api", **{"content-type": "application/grpc"})[0] == 502, "not the 200 of a call that has failed"
    assert client.answer(client.request("/own")) == (200, b"hello\n")


def test_other_protocols_are_refused(scratch):
    with Echo() as origin:
        client = Client(front(scratch, origin, "h1"))
        stream = client.request("/", "CONNECT", end=False, protocol="connect-udp")
        assert client.answer(stream)[0] == 400
        stream = client.request(None, "CONNECT", end=False, scheme=None, authority="a.example:443")
        assert client.answer(stream)[0] == 405
        assert origin.heads == []
