"""HTTP/2 as real clients speak it, and as hostile ones do: h2c in front, HTTP/1.1 or HTTP/2 behind."""
import os
import subprocess
import threading
import time
import urllib.request

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hyperframe.frame
import pytest

from harness import HANG, Nginx, Sluice, connect, eventually, free_port
from lasting_clients import frame as raw_frame
from scripted import Origin, Proxy, serving


PING, GOAWAY = 6, 7
PUT = "location /put/ { dav_methods PUT; create_full_put_path on; }"  # reads the whole body before it answers


def policy(port, origin, upstream="", extra="", metrics=None):
    measured = f'metrics: {{{{ bind: "127.0.0.1:{metrics}" }}}}' if metrics else ""
    return f"""version: 1
state_dir: {{state}}
workers: 1
logs: {{{{ access: {{{{ format: none }}}} }}}}
listeners: {{{{ web: {{{{ bind: "127.0.0.1:{port}" }}}} }}}}
upstreams: {{{{ origins: {{{{ endpoints: ["127.0.0.1:{origin}"] {upstream} }}}} }}}}
routes: [{{{{ listener: web, upstream: origins }}}}]
{measured}
{extra}
"""


def start(scratch, text):
    return Sluice(scratch, text.format(state=scratch.path + "/state"))


class Front:
    """A sluice in front of one origin."""

    def __init__(self, scratch, origin, **more):
        self.port, self.metrics = free_port(), free_port()
        self.sluice = start(scratch, policy(self.port, origin, metrics=self.metrics, **more))

    def metric(self, name, *labels):
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=HANG).read().decode()
        found = [line for line in page.splitlines() if line.startswith(name) and all(label in line for label in labels)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def client(self):
        return Client(self.port)


class Client:
    """One HTTP/2 connection with prior knowledge; events are kept by stream."""

    def __init__(self, port, **settings):
        self.socket = connect(port)
        self.socket.settimeout(HANG)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False,
                                      validate_inbound_headers=False))
        self.h2.initiate_connection()
        self.events = []
        self.closed = self.gone_away = False
        self.unread = b""
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def request(self, path="/", method="GET", fields=(), end=True, authority="a.example", **pseudo):
        stream = self.h2.get_next_available_stream_id()
        head = {":method": method, ":scheme": "http", ":authority": authority, ":path": path}
        head.update({f":{name}": value for name, value in pseudo.items()})
        self.h2.send_headers(stream, [(k, v) for k, v in head.items() if v is not None] + list(fields), end_stream=end)
        self.flush()
        return stream

    def data(self, stream, bytes_, end=False):
        self.h2.send_data(stream, bytes_, end_stream=end)
        self.flush()

    def raw(self, bytes_):
        try:
            self.socket.sendall(bytes_)
        except OSError:
            pass

    def read(self, acknowledge=True):
        """One read's events; False at the end of the connection."""
        try:
            bytes_ = self.socket.recv(1 << 16)
        except ConnectionError:
            bytes_ = b""
        if not bytes_:
            self.closed = True
            return False
        self.unread += bytes_
        while (size := frame_size(self.unread)) is not None:
            self.take(self.unread[:size], acknowledge)
            self.unread = self.unread[size:]
        try:
            self.flush()
        except OSError:
            pass
        return True

    def take(self, frame, acknowledge):
        if self.gone_away:  # the library takes no frames after a GOAWAY
            if frame[3] == PING and not frame[4] & 1:
                self.raw(frame[:4] + b"\x01" + frame[5:])
            return
        self.gone_away = frame[3] == GOAWAY
        for event in self.h2.receive_data(frame):
            self.events.append(event)
            if acknowledge and isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def of(self, stream, kind):
        return [e for e in self.events if isinstance(e, kind) and getattr(e, "stream_id", None) == stream]

    def until(self, condition, acknowledge=True):
        while not condition():
            if not self.read(acknowledge):
                break
        return condition()

    def answer(self, stream):
        ended = lambda: self.of(stream, h2.events.StreamEnded) or self.of(stream, h2.events.StreamReset)
        self.until(ended)
        heads = self.of(stream, h2.events.ResponseReceived)
        status = int(dict(text(heads[0].headers))[":status"]) if heads else None
        return status, b"".join(e.data for e in self.of(stream, h2.events.DataReceived))

    def fields(self, stream):
        return dict(text(self.of(stream, h2.events.ResponseReceived)[0].headers))

    def goaway(self):
        """The error that the server ended the connection with."""
        self.until(lambda: any(isinstance(e, h2.events.ConnectionTerminated) for e in self.events))
        found = [e for e in self.events if isinstance(e, h2.events.ConnectionTerminated)]
        return found[0].error_code if found else None


def frame_size(bytes_):
    """Of the frame that is whole at their beginning (RFC 9113 section 4.1)."""
    size = 9 + int.from_bytes(bytes_[:3])
    return size if size <= len(bytes_) else None


def text(fields):
    return [(k.decode() if isinstance(k, bytes) else k, v.decode() if isinstance(v, bytes) else v) for k, v in fields]


@pytest.fixture
def front(scratch):
    origin = Nginx(scratch, extra="client_max_body_size 0; location /status { return 204; } " + PUT)
    return Front(scratch, origin.port)


def run(*command):
    return subprocess.run(command, capture_output=True, timeout=HANG * 3)


# --- real clients

def test_curl_with_prior_knowledge(front):
    done = run("curl", "-s", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", f"http://127.0.0.1:{front.port}/x?q=1")
    assert done.stdout.endswith(b"\n2 200"), done
    assert b"GET 127.0.0.1:%d /x?q=1" % front.port in done.stdout


def test_nghttp_and_trailing_streams(front):
    done = run("nghttp", "-nv", f"http://127.0.0.1:{front.port}/", f"http://127.0.0.1:{front.port}/status")
    assert done.stdout.count(b":status: 200") == 1 and done.stdout.count(b":status: 204") == 1, done.stdout


def test_h2load_finishes_all_streams(front):
    done = run("h2load", "-n", "4000", "-c", "4", "-m", "50", f"http://127.0.0.1:{front.port}/")
    assert b"4000 succeeded, 0 failed" in done.stdout, done.stdout
    assert front.metric("sluice_requests_total", 'code="2xx"') == 4000


def test_http1_and_http2_share_a_listener(front):
    one = run("curl", "-s", "--http1.1", "-w", "%{http_version}", f"http://127.0.0.1:{front.port}/")
    two = run("curl", "-s", "--http2-prior-knowledge", "-w", "%{http_version}", f"http://127.0.0.1:{front.port}/")
    assert one.stdout.endswith(b"1.1") and two.stdout.endswith(b"2")


def test_an_upload_arrives_whole(front, scratch):
    path = scratch.path + "/upload"
    with open(path, "wb") as file:
        file.write(bytes(range(256)) * 20000)
    done = run("curl", "-s", "--http2-prior-knowledge", "-T", path, "-o", "/dev/null", "-w", "%{http_code}",
               f"http://127.0.0.1:{front.port}/put/it")
    assert done.stdout == b"201", done
    with open(scratch.path + "/origin/put/it", "rb") as stored, open(path, "rb") as sent:
        assert stored.read() == sent.read()


# --- heads

def test_a_preface_in_pieces(front):
    client = connect(front.port)
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
        client.sendall(bytes([byte]))
        time.sleep(0.001)
    client.sendall(b"\0\0\0\4\0\0\0\0\0")
    assert client.recv(9)[3] == 4  # SETTINGS


@pytest.mark.parametrize("head, status", [
    (dict(path="no-slash"), 400),
    (dict(path="http://evil/"), 400),
    (dict(path="/a b"), 400),
    (dict(path="/\r\nx: y"), 400),
    (dict(path="/../x"), 400),
    (dict(authority="a b"), 400),
    (dict(authority="user@a"), 400),
    (dict(authority="a\r\nx: y"), 400),
    (dict(method="GET / HTTP/1.1\r\nx:"), 400),
    (dict(scheme="gopher"), 400),
    (dict(fields=[("x", "a\r\nb: c")]), 400),
    (dict(fields=[("x", "a\0b")]), 400),
    (dict(fields=[("host", "other.example")]), 400),
    (dict(fields=[("transfer-encoding", "chunked")]), 400),
    (dict(fields=[("connection", "close")]), 400),
    (dict(fields=[("te", "gzip")]), 400),
    (dict(fields=[("Upper", "x")]), 400),
    (dict(fields=[("content-length", "5")]), 400),
    (dict(fields=[("content-length", "5"), ("content-length", "6")], end=False), 400),
])
def test_what_would_smuggle_is_refused(front, head, status):
    """Either with an answer, or by PROTOCOL_ERROR on the stream; never forwarded."""
    client = front.client()
    stream = client.request(**head)
    got, _ = client.answer(stream)
    resets = [e.error_code for e in client.of(stream, h2.events.StreamReset)]
    assert got == status or resets == [h2.errors.ErrorCodes.PROTOCOL_ERROR], (got, resets)
    assert client.answer(client.request())[0] == 200  # the connection goes on


def test_what_is_refused_by_a_reset_is_told_as_what_gets_a_400(scratch):
    proxy = Proxy(scratch, [Origin(scratch, serving()).port], workers=1)
    client = Client(proxy.port)
    client.read()
    stream = client.request(fields=[("connection", "close")])
    assert client.answer(stream)[0] is None
    line = proxy.logged(status=400)
    assert (line["kind"], line["request"], line["reason"]) == ("request", 1, "the request has no form in HTTP/1.1")
    assert proxy.settled().value("sluice_parse_errors_total", reason="malformed_http2") == 1
    assert client.answer(client.request())[0] == 200


def test_a_refusal_behind_a_head_request_has_its_body(front):
    client = front.client()
    assert client.answer(client.request(method="HEAD")) == (200, b"")
    status, body = client.answer(client.request(fields=[("host", "b")]))  # of two authorities: its method is not known
    assert status == 400 and body.startswith(b"sluice: ")


def test_cookies_are_one_line_again(scratch):
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        stream = client.request(fields=[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")])
        with origin.accept() as peer:
            head = peer.read_head()
            assert b"cookie: a=1; b=2\r\n" in head and head.startswith(b"GET / HTTP/1.1\r\nhost: a.example\r\n")
            peer.send(b"HTTP/1.1 200 OK\r\nX-Mixed-Case: Yes\r\nConnection: x-gone\r\nX-Gone: 1\r\nContent-Length: 2\r\n\r\nok")
            assert client.answer(stream) == (200, b"ok")
        assert client.fields(stream)["x-mixed-case"] == "Yes" and "x-gone" not in client.fields(stream)


def test_a_head_over_the_limit_is_431(front):
    client = front.client()
    client.read()
    stream = client.request(fields=[(f"x-{i}", "v" * 1000) for i in range(40)])
    assert client.answer(stream)[0] == 431


@pytest.mark.parametrize("body, end", [(b"x" * 100, False), (b"x", True)])
def test_a_body_of_another_length_ends_the_exchange_at_once(scratch, body, end):
    """The origin does not wait for the rest, and the log says whose fault it was."""
    gone = threading.Event()

    def script(connection, _):
        connection.head()
        connection.until_closed()
        gone.set()
    proxy = Proxy(scratch, [Origin(scratch, script).port], workers=1)
    client = Client(proxy.port)
    client.read()
    stream = client.request(method="POST", fields=[("content-length", "5")], end=False)
    eventually(lambda: proxy.metrics().value("sluice_upstream_requests_active") == 1, "the origin has the head")
    client.data(stream, body, end=end)
    assert client.answer(stream)[0] is None
    assert [e.error_code for e in client.of(stream, h2.events.StreamReset)] == [h2.errors.ErrorCodes.PROTOCOL_ERROR]
    assert gone.wait(HANG)
    assert proxy.logged(method="POST")["reason"] == "request breaks HTTP/2: its length, or a frame"


# --- bodies, trailers, flow control

def test_trailers_go_both_ways(scratch):
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        stream = client.request(method="POST", end=False, fields=[("te", "trailers")])
        client.data(stream, b"hello")
        client.h2.send_headers(stream, [("x-sum", "5")], end_stream=True)
        client.flush()
        with origin.accept() as peer:
            head = peer.read_head()
            assert b"transfer-encoding: chunked" in head and b"te: trailers" in head
            assert peer.read_until(b"x-sum: 5\r\n\r\n").endswith(b"5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n")
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Status: fine\r\nHost: no\r\n\r\n")
            assert client.answer(stream) == (200, b"abcde")
        assert text(client.of(stream, h2.events.TrailersReceived)[0].headers) == [("x-status", "fine")]


def test_a_head_does_not_wait_for_its_body(scratch):
    """A stream of events may have nothing to say for a long time; interim answers are there to be early."""
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        client.read()  # the settings, whose acknowledgement would take a head along
        stream = client.request()
        with origin.accept() as peer:
            peer.read_head()
            peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
            client.until(lambda: client.of(stream, h2.events.InformationalResponseReceived))
            assert client.of(stream, h2.events.InformationalResponseReceived)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.until(lambda: client.of(stream, h2.events.ResponseReceived))
            assert client.fields(stream)[":status"] == "200"
            peer.send(b"2\r\nab\r\n0\r\n\r\n")
            assert client.answer(stream) == (200, b"ab")


def test_a_slow_reader_stalls_nobody_else_and_costs_no_memory(scratch):
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        client.h2.increment_flow_control_window(16 << 20)  # the connection's: only the stream is slow
        slow = client.request("/slow")
        peer = origin.accept()
        peer.read_head()
        total = 64 << 20
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        sent = []
        feeder = threading.Thread(target=lambda: sent.append(peer.send_until_stuck(total)), daemon=True)
        feeder.start()
        feeder.join(HANG)
        assert sent[0] < 16 << 20  # sockets' memory, not ours
        for _ in range(3):  # another stream on the same connection is not held up
            stream = client.request("/fast")
            with origin.accept() as other:
                other.read_head()
                other.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                client.until(lambda: client.of(stream, h2.events.StreamEnded), acknowledge=False)
        assert not client.of(slow, h2.events.StreamEnded)
        assert resident_kib(front.sluice.pid) < 200_000
        peer.close()


def test_an_upload_waits_for_a_slow_origin(scratch):
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        stream = client.request(method="POST", end=False)
        peer = origin.accept()
        peer.read_head()
        sent = 0
        deadline = time.monotonic() + 2
        client.socket.settimeout(0.2)
        while time.monotonic() < deadline:
            room = client.h2.local_flow_control_window(stream)
            if room:
                client.data(stream, b"x" * min(room, 16384))
                sent += min(room, 16384)
                continue
            try:
                client.read()
            except TimeoutError:
                break
        assert sent < 16 << 20
        client.socket.settimeout(HANG)
        got = len(peer.drain(1))
        client.until(lambda: client.h2.local_flow_control_window(stream) > 0)
        assert got > 0
        peer.close()


def test_an_early_answer_ends_the_upload(scratch):
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        stream = client.request(method="POST", end=False)
        client.data(stream, b"some")
        with origin.accept() as peer:
            peer.read_until(b"some\r\n")
            peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
            assert client.answer(stream) == (413, b"big")
        client.until(lambda: client.of(stream, h2.events.StreamReset))
        assert client.of(stream, h2.events.StreamReset)[0].error_code == 0


def test_a_cut_answer_is_a_reset_stream(scratch):
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        stream = client.request()
        with origin.accept() as peer:
            peer.read_head()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        client.answer(stream)
        assert not client.of(stream, h2.events.StreamEnded)
        assert client.of(stream, h2.events.StreamReset)[0].error_code == h2.errors.ErrorCodes.INTERNAL_ERROR


# --- floods

def frame(frame_):
    return frame_.serialize()


def abuse(kind):
    f = hyperframe.frame
    if kind == "ping":
        return frame(f.PingFrame(0, opaque_data=b"12345678")) * 500
    if kind == "settings":
        return frame(f.SettingsFrame(0)) * 200
    if kind == "priority":
        return frame(f.PriorityFrame(1, depends_on=0, stream_weight=1)) * 2000
    if kind == "continuation":
        head = f.HeadersFrame(1, data=b"\x82\x87\x84")
        return frame(head) + frame(f.ContinuationFrame(1, data=b"\x40\x01a\x01b")) * 50
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["ping", "settings", "priority", "continuation"])
def test_a_flood_ends_its_connection_and_is_counted(front, kind):
    client = front.client()
    client.read()
    client.raw(abuse(kind))
    assert client.goaway() == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert front.metric("sluice_http2_abuse_total", f'kind="{kind}"') == 1
    assert run("curl", "-s", "--http2-prior-knowledge", f"http://127.0.0.1:{front.port}/").returncode == 0


def test_rapid_reset(front):
    client = front.client()
    client.read()
    for _ in range(400):
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")], end_stream=True)
        client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    client.flush()
    assert client.goaway() == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert front.metric("sluice_http2_abuse_total", 'kind="rapid_reset"') == 1


def test_resets_of_a_stream_that_has_ended(front):
    client = front.client()
    client.read()
    stream = client.request()
    assert client.answer(stream)[0] == 200
    client.raw(frame(hyperframe.frame.RstStreamFrame(stream, error_code=8)) * 2000)
    assert client.goaway() == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert front.metric("sluice_http2_abuse_total", 'kind="reset"') == 1


@pytest.mark.parametrize("body, end", [(b"xx", False), (b"", True)], ids=["too much", "too little"])
def test_resets_that_a_client_has_us_make(front, body, end):
    """CVE-2025-8671: the origin works for each, and the client sends no RST_STREAM."""
    client = front.client()
    client.read()
    for _ in range(90):
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("content-length", "1")])
        client.h2.send_data(stream, body, end_stream=end)
    client.flush()
    assert client.goaway() == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert front.metric("sluice_http2_abuse_total", 'kind="malformed"') == 1


@pytest.mark.parametrize("padding", [{}, dict(pad_length=5, flags=["PADDED"]), dict(pad_length=0, flags=["PADDED"])], ids=["bare", "padded", "pad length 0"])
def test_empty_data_frames(front, padding):
    client = front.client()
    client.read()
    stream = client.request(method="POST", end=False)
    client.raw(frame(hyperframe.frame.DataFrame(stream, **padding)) * 500)
    assert client.goaway() == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert front.metric("sluice_http2_abuse_total", 'kind="empty_data"') == 1


def test_an_hpack_bomb(front):
    """One large field in the table, then thousands of one-byte references to it."""
    client = front.client()
    client.read()
    f = hyperframe.frame
    block = b"\x82\x86\x84\x41\x01a" + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 8000
    head = f.HeadersFrame(1, data=block, flags={"END_HEADERS", "END_STREAM"})
    client.raw(frame(head))
    assert client.goaway() == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert front.metric("sluice_http2_abuse_total", 'kind="header_list"') == 1


# --- ends

def test_a_drain_finishes_open_streams(scratch):
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        stream = client.request()
        with origin.accept() as peer:
            peer.read_head()
            front.sluice.process.terminate()
            assert client.goaway() == h2.errors.ErrorCodes.NO_ERROR
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            # The library takes no frames after a GOAWAY.
            rest = b""
            while more := client.socket.recv(1 << 16):
                rest += more
            assert hyperframe.frame.DataFrame(stream, data=b"ok", flags={"END_STREAM"}).serialize() in rest
        assert front.sluice.process.wait(HANG) == 0


def test_a_drain_answers_what_was_on_its_way(scratch):
    """A stream that began before the client heard of the end: RFC 9113 section 6.8."""
    front = Front(scratch, Origin(scratch, serving()).port)
    with connect(front.port) as connection:
        reader = connection.makefile("rb")

        def read_frame():
            head = reader.read(9)
            return (head[3], head[4], int.from_bytes(head[5:]), reader.read(int.from_bytes(head[:3]))) if head else None

        def ask(stream):
            connection.sendall(raw_frame(1, 5, stream, b"\x82\x86\x84\x01\x01a"))  # GET http://a/
            while (got := read_frame())[2] != stream:
                pass
            assert got[0] == 1 and got[3][0] == 0x88  # :status 200

        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + raw_frame(4, 0, 0))
        ask(1)
        front.sluice.process.terminate()
        while (notice := read_frame())[0] != GOAWAY:
            pass
        assert notice[3] == b"\x7f\xff\xff\xff" + bytes(4)
        kind, flags, _, payload = read_frame()
        assert (kind, flags) == (PING, 0)
        ask(3)
        connection.sendall(raw_frame(PING, 1, 0, payload))
        while (last := read_frame())[0] != GOAWAY:
            pass
        assert last[3] == (3).to_bytes(4) + bytes(4)
        assert reader.read() == b""
    assert front.sluice.process.wait(HANG) == 0


# --- HTTP/2 upstream

@pytest.fixture
def http2_chain(scratch):
    """front (h1 or h2) ─► sluice that speaks HTTP/2 to ─► sluice ─► nginx"""
    origin = Nginx(scratch, extra="client_max_body_size 0;" + PUT)
    inner_port = free_port()
    Sluice(scratch, policy(inner_port, origin.port).format(state=scratch.path + "/inner"), name="inner")
    return Front(scratch, inner_port, upstream=", protocol: http2")


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_an_upstream_over_http2(http2_chain, scratch, version):
    done = run("curl", "-s", version, "-w", "%{http_code}", f"http://127.0.0.1:{http2_chain.port}/x?q=1")
    assert done.stdout.endswith(b"200") and b"/x?q=1" in done.stdout, done


def test_many_slow_readers_stall_nobody_else_behind_one_connection(http2_chain, scratch):
    """Their windows together are more than a connection's."""
    os.makedirs(f"{scratch.path}/origin/files")
    with open(f"{scratch.path}/origin/files/big", "wb") as file:
        file.truncate(64 << 20)
    held = [connect(http2_chain.port) for _ in range(40)]
    for client in held:
        client.sendall(b"GET /files/big HTTP/1.1\r\nHost: a\r\n\r\n")
    for client in held:
        client.settimeout(HANG)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    for _ in range(20):
        done = run("curl", "-s", "--max-time", "10", f"http://127.0.0.1:{http2_chain.port}/x")
        assert done.returncode == 0 and b"/x" in done.stdout, done
        time.sleep(0.1)
    assert resident_kib(http2_chain.sluice.pid) < 200_000
    for client in held:
        client.close()


def test_many_requests_share_one_upstream_connection(http2_chain):
    done = run("h2load", "-n", "3000", "-c", "2", "-m", "40", f"http://127.0.0.1:{http2_chain.port}/")
    assert b"3000 succeeded, 0 failed" in done.stdout, done.stdout
    assert http2_chain.metric("sluice_upstream_connections_total") <= 2


def test_large_bodies_over_http2_upstream(http2_chain, scratch):
    path = scratch.path + "/upload"
    with open(path, "wb") as file:
        file.write(b"0123456789abcdef" * 100_000)
    done = run("curl", "-s", "--http2-prior-knowledge", "-T", path, "-o", "/dev/null", "-w", "%{http_code}",
               f"http://127.0.0.1:{http2_chain.port}/put/it")
    assert done.stdout == b"201", done
    with open(scratch.path + "/origin/put/it", "rb") as stored, open(path, "rb") as sent:
        assert stored.read() == sent.read()
    done = run("curl", "-s", "--http2-prior-knowledge", f"http://127.0.0.1:{http2_chain.port}/put/it")
    assert len(done.stdout) == 1_600_000


# --- helpers

def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


class Peer:
    def __init__(self, accepted):
        self.socket = accepted
        self.socket.settimeout(HANG)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def read_until(self, end):
        while end not in self.pending:
            bytes_ = self.socket.recv(1 << 16)
            assert bytes_, f"ended before {end!r}: {self.pending!r}"
            self.pending += bytes_
        at = self.pending.index(end) + len(end)
        taken, self.pending = self.pending[:at], self.pending[at:]
        return taken

    def read_head(self):
        return self.read_until(b"\r\n\r\n")

    def send(self, bytes_):
        self.socket.sendall(bytes_)

    def send_until_stuck(self, total):
        self.socket.settimeout(1)
        sent = 0
        try:
            while sent < total:
                sent += self.socket.send(b"z" * 65536)
        except TimeoutError:
            pass
        return sent

    def drain(self, quiet):
        self.socket.settimeout(quiet)
        got = self.pending
        try:
            while bytes_ := self.socket.recv(1 << 16):
                got += bytes_
        except TimeoutError:
            pass
        return got


class RawOrigin:
    def __init__(self):
        import socket
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(HANG)
        self.port = self.listening.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listening.close()

    def accept(self):
        return Peer(self.listening.accept()[0])
