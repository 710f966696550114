"""An origin that breaks off or lies in HTTP/2: what clients of either version get, what the log and the metrics say.

As test_origin_faults.py has it for HTTP/1.1: a fault within the body is a cut answer, whose log line has a reason.
"""
import re
import subprocess
import time

import h2.errors
import h2.events
import hpack
import hyperframe.frame as frames
import pytest

from harness import HANG, Nginx, eventually, free_port, read_all
from scripted import GET_CLOSE, Origin, Proxy
from test_http2 import Client
from test_origin_faults import FAILED, is_whole

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WEBSOCKET = (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")


def read_frame(connection):
    """Its header alone; what it carries is read and forgotten."""
    frame, size = frames.Frame.parse_frame_header(memoryview(connection.body(9)))
    connection.body(size)
    return frame


def serve(connection, answers=True, settings=None):
    """All requests on one connection, at once; takes no extended CONNECT. Without `answers` only PINGs are answered."""
    connection.body(len(PREFACE))
    encoder = hpack.Encoder()
    send = lambda *what: connection.send(b"".join(frame.serialize() for frame in what))
    send(frames.SettingsFrame(0, settings=settings or {}))
    while True:
        frame = read_frame(connection)
        if "ACK" in frame.flags:
            continue
        if isinstance(frame, frames.SettingsFrame):
            send(frames.SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, frames.PingFrame):
            send(frames.PingFrame(0, opaque_data=bytes(8), flags=["ACK"]))
        elif isinstance(frame, frames.HeadersFrame) and answers:
            head = encoder.encode([(":status", "200"), ("content-length", "2")])
            send(frames.HeadersFrame(frame.stream_id, data=head, flags=["END_HEADERS"]),
                 frames.DataFrame(frame.stream_id, data=b"ok", flags=["END_STREAM"]))


class Stream:
    """The origin's side of the first request on a connection; what it sends is not checked."""

    def __init__(self, connection):
        self.connection = connection
        self.encoder = hpack.Encoder()
        self.id = self.read_request()
        self.send(frames.SettingsFrame(0), frames.SettingsFrame(0, flags=["ACK"]))

    def read_request(self):
        self.connection.body(len(PREFACE))
        while True:
            frame = read_frame(self.connection)
            if isinstance(frame, frames.HeadersFrame):
                return frame.stream_id

    def send(self, *what):
        self.connection.send(b"".join(frame.serialize() for frame in what))

    def head(self, *fields, end=False):
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        return frames.HeadersFrame(self.id, data=self.encoder.encode(fields), flags=flags)

    def answer(self, *fields):
        self.send(self.head((":status", "200"), *fields))

    def data(self, data, end=False):
        return frames.DataFrame(self.id, data=data, flags=["END_STREAM"] if end else [])

    def reset(self, error):
        return frames.RstStreamFrame(self.id, error_code=error)


def begun(*then, length=None):
    """Some of the body is with the client before the fault comes."""
    def script(stream):
        stream.answer(*([("content-length", str(length))] if length else []))
        stream.send(stream.data(b"some"))
        time.sleep(0.1)
        stream.send(*[make(stream) for make in then])
    return script


def at_once(*then):
    return lambda stream: stream.send(*[make(stream) for make in then])


def raw(data):
    return lambda stream: stream.connection.send(data)


BREAKS = "upstream's answer breaks HTTP/2"
IN_BODY = BREAKS + ": its length, or a frame"
RESET = "upstream reset the stream: INTERNAL_ERROR"
GOAWAY = frames.GoAwayFrame(0, last_stream_id=1, error_code=2)

# name: (script, closes behind it, status, reason, counter's reason); None for a status: the answer is cut.
FAULTS = {
    "length_too_large": (begun(lambda s: s.data(b"x", end=True), length=100), False, None, IN_BODY, "malformed"),
    "length_too_small": (begun(lambda s: s.data(b"x" * 100), length=8), False, None, IN_BODY, "malformed"),
    "resets_in_the_body": (begun(lambda s: s.reset(2)), False, None, RESET, "cut_short"),
    "cancels_in_the_body": (begun(lambda s: s.reset(8)), False, None, "upstream reset the stream: CANCEL", "cut_short"),
    "ends_it_without_an_error": (begun(lambda s: s.reset(0)), False, None, "upstream reset the stream: NO_ERROR", "cut_short"),
    "closes_in_the_body": (begun(), True, None, "upstream closed within the body", "cut_short"),
    "goes_away_and_closes": (begun(lambda s: GOAWAY), True, None, "upstream closed within the body", "cut_short"),
    "data_on_stream_0": (lambda s: (begun()(s), s.connection.send(b"\0\0\1\0\0\0\0\0\0x")), False, None, IN_BODY, "malformed"),
    "garbage_in_the_body": (lambda s: (begun()(s), s.connection.send(b"\xff" * 100)), False, None, IN_BODY, "malformed"),
    "trailers_in_upper_case": (begun(lambda s: s.head(("X-Sum", "1"), end=True)), False, None, IN_BODY, "malformed"),
    "says_http1": (raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), False, 502, BREAKS, "malformed"),
    "head_in_upper_case": (at_once(lambda s: s.head((":status", "200"), ("X-A", "1"))), False, 502, BREAKS, "malformed"),
    "data_before_the_head": (at_once(lambda s: s.data(b"x")), False, 502, BREAKS, "malformed"),
    "resets_before_the_head": (at_once(lambda s: s.reset(2)), False, 502, RESET, "reset"),
    "closes_before_the_head": (at_once(), True, 502, "upstream closed the connection without an answer", "reset"),
}


def over_http1(proxy):
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        answer = read_all(client)
    return int(re.match(rb"HTTP/1\.1 (\d{3}) ", answer)[1]), is_whole(answer)


def over_http2(proxy):
    client = Client(proxy.port)
    stream = client.request()
    status, _ = client.answer(stream)
    resets = [event.error_code for event in client.of(stream, h2.events.StreamReset)]
    assert resets in ([], [h2.errors.ErrorCodes.INTERNAL_ERROR])
    return status, not resets


@pytest.mark.parametrize("ask", [over_http1, over_http2])
@pytest.mark.parametrize("name", FAULTS)
def test_fault(scratch, name, ask):
    script, closes, status, reason, counted = FAULTS[name]

    def play(connection, _):
        script(Stream(connection))
        if not closes:
            connection.until_closed()
    origin = Origin(scratch, play)
    proxy = Proxy(scratch, [origin.port], upstream="protocol: http2, retry: { retry_on: [] }", workers=1)
    assert ask(proxy) == (status or 200, status is not None)
    line = proxy.logged(upstream="origins")
    assert (line["status"], line["reason"]) == (status or 200, reason), line
    page = proxy.settled()
    assert page.value(FAILED, reason=counted) == 1, page.text
    assert page.value(FAILED) == 1, "counted once, for one reason"
    if counted == "malformed":
        assert page.value("sluice_upstream_parse_errors_total", upstream="origins", reason="malformed_http2") == 1
    assert page.value("sluice_upstream_requests_active") == 0
    assert page.value("sluice_upstream_stale_connections_total") == 0


def test_a_reset_on_a_kept_connection_is_no_stale_connection(scratch):
    """It tells of the request: whether that is sent again is for `retry` to say."""
    def play(connection, _):
        stream = Stream(connection)
        stream.send(stream.head((":status", "200"), ("content-length", "2")), stream.data(b"ok", end=True))
        stream.id += 2
        while True:
            if isinstance(read_frame(connection), frames.HeadersFrame):
                break
        stream.send(stream.reset(2))
        connection.until_closed()
    origin = Origin(scratch, play)
    proxy = Proxy(scratch, [origin.port], upstream="protocol: http2, retry: { retry_on: [] }", workers=1)
    assert over_http1(proxy) == (200, True)
    assert over_http1(proxy) == (502, True)
    assert origin.accepted == 1
    page = proxy.settled()
    assert page.value("sluice_upstream_stale_connections_total") == 0 and page.value(FAILED, reason="reset") == 1


@pytest.mark.parametrize("refusals", [3, 99])
def test_what_nobody_looked_at_is_sent_again_but_not_without_end(scratch, refusals):
    """A POST whose connections are let go before it is looked at, as by an origin with a small keepalive_requests."""
    def play(connection, number):
        stream = Stream(connection)
        if number < refusals:
            stream.send(frames.GoAwayFrame(0, last_stream_id=0, error_code=0))
        else:
            stream.send(stream.head((":status", "200"), ("content-length", "2")), stream.data(b"ok", end=True))
        connection.until_closed()
    origin = Origin(scratch, play)
    proxy = Proxy(scratch, [origin.port], upstream="protocol: http2, retry: { retry_on: [] }", workers=1)
    with proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        status = read_all(client).split(b" ")[1]
    assert (status, origin.accepted) == ((b"200", 4) if refusals == 3 else (b"502", 5))
    if refusals == 99:
        assert proxy.logged(status=502)["reason"] == "upstream went away before it took the request"


def test_the_time_of_the_first_byte_is_of_the_try_that_answered(scratch):
    def play(connection, number):
        stream = Stream(connection)
        stream.send(stream.head((":status", "200" if number else "503"), ("content-length", "2")), stream.data(b"ok", end=True))
        if number:
            connection.until_closed()
    origin = Origin(scratch, play)
    proxy = Proxy(scratch, [origin.port], upstream="protocol: http2, retry: { retry_on: [503], back_off: 50ms }", workers=1)
    assert over_http1(proxy) == (200, True)
    line = proxy.logged(attempts=2)
    assert line["first_byte_ms"] >= 0 and line["wait_ms"] >= 0 and line["connect_ms"] >= 0, line


@pytest.mark.parametrize("settings", [True, False], ids=["without-connect", "never"])
def test_a_websocket_is_not_tried_where_http2_takes_none(scratch, settings):
    """RFC 8441 section 3: not before SETTINGS_ENABLE_CONNECT_PROTOCOL has come."""
    def play(connection, _):
        connection.body(len(PREFACE))
        if settings:
            connection.send(frames.SettingsFrame(0).serialize())
        while True:
            seen.append(type(read_frame(connection)))
    seen = []
    origin = Origin(scratch, play)
    proxy = Proxy(scratch, [origin.port], upstream="protocol: http2, timeouts: { connect: 300ms }, retry: { retry_on: [] }", workers=1)
    with proxy.connect() as client:
        client.sendall(WEBSOCKET)
        client.settimeout(20)
        assert client.recv(4096).split(b" ")[1] == b"502"
    assert proxy.logged(status=502)["reason"] == "upstream's HTTP/2 takes no WebSocket (RFC 8441)"
    assert frames.HeadersFrame not in seen


def test_a_websocket_is_refused_at_once_on_a_connection_that_is_there(scratch):
    """Its SETTINGS have come long ago, so that no frame tells the stream of its end. It is no fault of the endpoint's."""
    origins = [Origin(scratch, lambda connection, _: serve(connection)) for _ in range(2)]
    proxy = Proxy(scratch, [origin.port for origin in origins], workers=1,
                  upstream="protocol: http2, outlier_detection: { consecutive_5xx: 1, max_ejection_percent: 100 }")
    for _ in range(4):
        assert over_http1(proxy) == (200, True)
    for _ in range(6):
        with proxy.connect(timeout=5) as client:  # first_byte is 30 s
            client.sendall(WEBSOCKET)
            assert client.recv(4096).split(b" ")[1] == b"502"
    line = proxy.logged(status=502)
    assert (line["reason"], line["attempts"]) == ("upstream's HTTP/2 takes no WebSocket (RFC 8441)", 1)
    assert proxy.settled().value("sluice_upstream_ejections_total") == 0
    assert over_http1(proxy) == (200, True)
    assert max(origin.accepted for origin in origins) == 1


def test_a_call_may_be_quiet(scratch):
    """A watch of gRPC: longer than a request's body may, and nobody is ejected for what then cuts it."""
    def play(connection, _):
        stream = Stream(connection)
        stream.answer(("content-type", "application/grpc"))
        time.sleep(1)
        stream.send(stream.data(bytes(5)))
        connection.until_closed()
    origins = [Origin(scratch, play) for _ in range(2)]
    proxy = Proxy(scratch, [origin.port for origin in origins], listener="timeouts: { body_idle: 300ms }", workers=1,
                  upstream="protocol: http2, timeouts: { body_idle: 2s }, "
                           "outlier_detection: { consecutive_5xx: 1, consecutive_gateway_errors: 1 }")
    client = Client(proxy.port)
    stream = client.request("/w.Watch/Watch", method="POST", fields=[("content-type", "application/grpc"), ("te", "trailers")])
    assert client.answer(stream) == (200, bytes(5))
    assert client.of(stream, h2.events.StreamReset)
    assert proxy.logged(status=200)["reason"] == "upstream quiet (body_idle)"
    assert proxy.settled().value("sluice_upstream_ejections_total") == 0


def test_a_websocket_may_be_quiet(scratch):
    def play(connection, _):
        connection.body(len(PREFACE))
        connection.send(frames.SettingsFrame(0, settings={8: 1}).serialize())  # RFC 8441 section 3
        while not isinstance(frame := read_frame(connection), frames.HeadersFrame):
            pass
        head = hpack.Encoder().encode([(":status", "200")])
        connection.send(frames.HeadersFrame(frame.stream_id, data=head, flags=["END_HEADERS"]).serialize())
        connection.until_closed()
    origins = [Origin(scratch, play) for _ in range(2)]
    proxy = Proxy(scratch, [origin.port for origin in origins], listener="timeouts: { idle: 300ms }", workers=1,
                  upstream="protocol: http2, outlier_detection: { consecutive_5xx: 1, consecutive_gateway_errors: 1 }")
    with proxy.connect() as client:
        client.sendall(WEBSOCKET)
        assert read_all(client).split(b" ")[1] == b"101"
    assert proxy.logged(status=101)["reason"] == "tunnel idle"
    assert proxy.settled().value("sluice_upstream_ejections_total") == 0


def silent(connection):
    """As when its host is gone: SETTINGS come, then not even PINGs are answered."""
    connection.body(len(PREFACE))
    connection.send(frames.SettingsFrame(0).serialize())
    connection.until_closed()


DEAF = "protocol: http2, timeouts: { connect: 200ms, first_byte: 500ms }, retry: { retry_on: [] }, " \
       "outlier_detection: { consecutive_5xx: 0, consecutive_gateway_errors: 0 }"


def test_a_connection_on_which_nothing_comes_any_more_is_left(scratch):
    origin = Origin(scratch, lambda connection, number: serve(connection) if number else silent(connection))
    proxy = Proxy(scratch, [origin.port], upstream=DEAF, workers=1)
    assert over_http1(proxy)[0] == 504
    eventually(lambda: over_http1(proxy) == (200, True), "there is another connection")
    assert origin.accepted == 2


def test_a_connection_whose_pings_are_answered_is_kept(scratch):
    """The origin is slow, not gone. But it is not asked without end: servers of gRPC count PINGs."""
    def play(connection, number):
        serve(connection, answers=number > 0)
    origin = Origin(scratch, play)
    proxy = Proxy(scratch, [origin.port], upstream=DEAF, workers=1)
    for _ in range(3):
        assert over_http1(proxy)[0] == 504
        time.sleep(0.5)
        assert origin.accepted == 1
    assert over_http1(proxy) == (200, True)
    assert origin.accepted == 2


def test_an_origin_that_takes_one_stream_at_a_time(scratch):
    """Each new connection begins before its own SETTINGS have come: the endpoint's last ones count until then."""
    port = free_port()
    Nginx(scratch, extra=f"""}} server {{ listen 127.0.0.1:{port} http2; http2_max_concurrent_streams 1;
      location / {{ return 200 "one at a time"; }}""")
    proxy = Proxy(scratch, [port], upstream="protocol: http2, retry: { retry_on: [] }", workers=1)
    assert over_http1(proxy) == (200, True)  # now it is known
    done = subprocess.run(["h2load", "-n", "3000", "-c", "8", "-m", "50", f"http://127.0.0.1:{proxy.port}/"], capture_output=True,
                          timeout=HANG * 3)
    assert b"3000 2xx" in done.stdout, done.stdout
