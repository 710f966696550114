"""An origin that refuses, stalls, breaks off or lies: what the client gets, what the log and the metrics say.

One table. Each fault has the status that the client sees, the reason in the access log, and the counter that rises.
"""
import os
import re
import signal
import socket
import threading
import time

import pytest

from harness import HANG, Nginx, curl, eventually, free_port, read_all
from scripted import GET, GET_CLOSE, Origin, Proxy, read_answer, serving, status_of

FAILED = "sluice_upstream_responses_failed_total"
CONNECT_FAILED = "sluice_upstream_connect_failures_total"
SHORT = "timeouts: { connect: 300ms, first_byte: 300ms, body_idle: 300ms }, retry: { retry_on: [] }"


def says(*pieces, then=lambda connection: None):
    """Reads a head, sends the pieces, does `then`, closes."""
    def script(connection, _):
        if not connection.head():
            return
        for piece in pieces:
            connection.send(piece)
        then(connection)
    return script


def in_two(first, second):
    def script(connection, _):
        if connection.head():
            connection.send(first)
            time.sleep(0.2)  # the first part is with the client by then
            connection.send(second)
    return script


def holds(connection):
    connection.until_closed()


def resets(connection):
    time.sleep(0.05)  # what was sent arrives before the reset, which would take it away from the receiver's queue
    connection.reset()


def half_closes(connection):
    connection.raw.shutdown(socket.SHUT_WR)
    connection.until_closed()


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

# name: (script, status, reason, counter's reason); None for a status: the answer is cut, never taken for a whole one.
FAULTS = {
    "closes_at_once": (lambda c, _: None, 502, "upstream closed the connection without an answer", "reset"),
    "closes_behind_the_request": (says(), 502, "upstream closed the connection without an answer", "reset"),
    "resets": (says(then=lambda c: c.reset()), 502, "upstream closed the connection without an answer", "reset"),
    "half_closes_without_a_word": (says(then=half_closes), 502, "upstream closed the connection without an answer", "reset"),
    "says_nothing": (says(then=holds), 504, "upstream timeout", "timeout"),
    "stalls_in_the_head": (says(OK + b"X: ", then=holds), 504, "upstream timeout", "timeout"),
    "closes_in_the_head": (says(OK + b"X: "), 502, "upstream closed within the head", "cut_short"),
    "resets_in_the_head": (says(OK + b"X: ", then=resets), 502, "upstream reset in the head", "cut_short"),
    "garbage": (says(b"\x16\x03\x01 not HTTP\r\n\r\n"), 502, None, "malformed"),
    "another_protocol": (says(b"220 mail ESMTP\r\n"), 502, "upstream closed within the head", "cut_short"),
    "bad_status_line": (says(b"HTTP/1.1 20 OK\r\n\r\n"), 502, None, "malformed"),
    "status_999999": (says(b"HTTP/1.1 999999 OK\r\n\r\n"), 502, None, "malformed"),
    "bare_lf": (says(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"), 502, None, "malformed"),
    "obs_fold": (says(OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n"), 502, None, "malformed"),
    "nul": (says(OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n"), 502, None, "malformed"),
    "two_framings": (says(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 502, None, "malformed"),
    "two_lengths": (says(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), 502, None, "malformed"),
    "length_plus": (says(OK + b"Content-Length: +2\r\n\r\nab"), 502, None, "malformed"),
    "head_too_large": (says(OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n"), 502, None, "malformed"),
    "interim_flood": (says(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 100, then=holds), 502, "too many interim answers", "malformed"),
    "upgrade_that_nobody_asked_for": (says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
                                      502, None, "malformed"),
    # Behind the head the client must see that it is not whole.
    "length_too_large": (says(OK + b"Content-Length: 100\r\n\r\nhalf"), None, "upstream closed within the body", "cut_short"),
    "resets_in_the_body": (says(OK + b"Content-Length: 100\r\n\r\nhalf", then=resets), None, "upstream reset in the body", "cut_short"),
    "half_closes_in_the_body": (says(OK + b"Content-Length: 100\r\n\r\nhalf", then=half_closes),
                                None, "upstream closed within the body", "cut_short"),
    "stalls_in_the_body": (says(OK + b"Content-Length: 100\r\n\r\nhalf", then=holds), None, "upstream stalled in the body", "stalled"),
    "closes_between_chunks": (says(CHUNKED + b"2\r\nab\r\n"), None, "upstream closed within the body", "cut_short"),
    "closes_within_a_chunk": (says(CHUNKED + b"5\r\nab"), None, "upstream closed within the body", "cut_short"),
    "chunk_size_garbage": (in_two(CHUNKED + b"2\r\nab\r\n", b"zz\r\n"), None, None, "malformed"),
    "chunk_end_missing": (in_two(CHUNKED + b"2\r\n", b"abcd\r\n0\r\n\r\n"), None, None, "malformed"),
    # Before a byte of it has gone out, there is still something better to say.
    "chunk_size_garbage_at_once": (says(CHUNKED + b"2\r\nab\r\nzz\r\n"), 502, None, "malformed"),
    "chunk_end_missing_at_once": (says(CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n"), 502, None, "malformed"),
}


def is_whole(answer):
    """Whether a client would take it for complete."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    if length:
        return len(body) >= int(length[1])
    if not head:
        return False
    return body.endswith(b"0\r\n\r\n") if b"chunked" in head.lower() else True


@pytest.mark.parametrize("name", FAULTS)
def test_fault(scratch, name):
    script, status, reason, counted = FAULTS[name]
    origin = Origin(scratch, script)
    proxy = Proxy(scratch, [origin.port], upstream=SHORT, workers=1)
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        answer = read_all(client)
    if status is None:
        assert not is_whole(answer), answer
    else:
        final = [int(s) for s in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) if s[:1] != b"1"]
        assert final == [status], answer[:300]
    line = proxy.logged(upstream="origins")
    assert line["status"] == (status or 200) and line["reason"], line
    assert reason is None or line["reason"] == reason
    page = proxy.settled()
    assert page.value(FAILED, reason=counted, endpoint=f"127.0.0.1:{origin.port}") == 1, page.text
    assert page.value(FAILED) == 1, "counted once, for one reason"
    if counted == "malformed" and name != "interim_flood":
        assert page.value("sluice_upstream_parse_errors_total", upstream="origins") == 1
    # Nothing is left behind: neither a place at the upstream nor a connection.
    eventually(lambda: proxy.metrics().value("sluice_upstream_connections_active") == 0, "the connection is gone")
    assert proxy.metrics().value("sluice_upstream_requests_active") == 0
    assert proxy.metrics().value("sluice_requests_active") == 0


def test_refuses(scratch):
    proxy = Proxy(scratch, [free_port()], upstream=SHORT)
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        assert status_of(read_all(client)) == 502
    assert proxy.logged(status=502)["reason"] == "connection refused"
    assert proxy.settled().value(CONNECT_FAILED, reason="refused") == 1


def test_never_accepts(scratch):
    """A full backlog: SYNs go unanswered, as from a host that is down."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    scratch.closers.append(full.close)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    proxy = Proxy(scratch, [full.getsockname()[1]], upstream=SHORT)
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        assert status_of(read_all(client)) == 504
    assert proxy.logged(status=504)["reason"] == "connect timeout"
    assert proxy.settled().value(CONNECT_FAILED, reason="timed_out") == 1
    for filler in fillers:
        filler.close()


def test_a_byte_at_a_time_is_passed_on_as_it_comes(scratch):
    """Slow is not broken: no timeout runs while bytes come, and none of them is held back."""
    go_on = threading.Event()

    def trickle(connection, _):
        connection.head()
        for byte in OK + b"Content-Length: 26\r\n\r\n":
            connection.send(bytes([byte]))
        for byte in b"abcdefghijklmnopqrstuvwxyz":
            connection.send(bytes([byte]))
            assert go_on.wait(HANG)
            go_on.clear()
    proxy = Proxy(scratch, [Origin(scratch, trickle).port], upstream="timeouts: { body_idle: 5s }")
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        answer = b""
        while not answer.endswith(b"z"):
            answer += client.recv(1)
            if b"\r\n\r\n" in answer and not answer.endswith(b"\r\n\r\n"):
                go_on.set()  # the next byte comes only when this one has arrived
    assert status_of(answer) == 200


@pytest.mark.parametrize("idle", ["2s", "0s"])
def test_events_may_be_quiet(scratch, idle):
    """Longer than a request's body may (the listener's body_idle); and beyond the upstream's, nobody is ejected for it."""
    def quiet(connection, _):
        connection.head()
        connection.send(OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        time.sleep(1)
        connection.send(b"2\r\nab\r\n")
        time.sleep(1 if idle == "0s" else HANG)
        connection.send(b"0\r\n\r\n")
    origins = [Origin(scratch, quiet) for _ in range(2)]
    proxy = Proxy(scratch, [origin.port for origin in origins], listener="timeouts: { body_idle: 300ms }", workers=1,
                  upstream=f"timeouts: {{ body_idle: {idle} }}, outlier_detection: {{ consecutive_5xx: 1, consecutive_gateway_errors: 1 }}")
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        answer = read_all(client)
    assert b"2\r\nab\r\n" in answer and is_whole(answer) == (idle == "0s"), answer
    line = proxy.logged(status=200)
    assert line.get("reason", "") == ("" if idle == "0s" else "upstream quiet (body_idle)")
    page = proxy.settled()
    assert page.value(FAILED, reason="stalled") == (0 if idle == "0s" else 1)
    assert page.value("sluice_upstream_ejections_total") == 0


def test_who_stops_before_the_length_is_ejected(scratch):
    origins = [Origin(scratch, says(OK + b"Content-Length: 100\r\n\r\nhalf", then=holds)) for _ in range(2)]
    proxy = Proxy(scratch, [origin.port for origin in origins], workers=1,
                  upstream=SHORT + ", outlier_detection: { consecutive_5xx: 0, consecutive_gateway_errors: 1 }")
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        read_all(client)
    assert proxy.settled().value("sluice_upstream_ejections_total") == 1


def test_length_too_small_never_reaches_another_client(scratch):
    """What comes behind the announced end is nobody's answer: that connection is not used again."""
    def lying(connection, _):
        while connection.head():
            connection.send(OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 6\r\n\r\npoison")
    origin = Origin(scratch, lying)
    proxy = Proxy(scratch, [origin.port], workers=1)
    for _ in range(20):
        with proxy.connect() as client:
            for _ in range(3):
                client.sendall(GET)
                assert read_answer(client).endswith(b"\r\n\r\nok")
    assert origin.accepted == 60, "no such connection was used twice"


def test_a_hint_that_outlives_its_try_has_no_foreign_bytes(scratch):
    """The client takes it only when the memory that it was read into serves others."""
    hint = b"HTTP/1.1 103 Early Hints\r\n" + b"Link: </style.css>; rel=preload; %s\r\n" % (b"x" * 240) * 100 + b"\r\n"

    def hinting(connection, _):
        while head := connection.head():
            if head.startswith(b"POST"):
                return connection.answer(fields=b"Connection: close\r\n")
            connection.send(hint + OK + b"Content-Length: 2\r\n\r\nok")
    origin = Origin(scratch, hinting)
    proxy = Proxy(scratch, [origin.port], workers=1, upstream="retry: { attempts: 0, per_try_timeout: 1s }")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(HANG)
        client.connect(("127.0.0.1", proxy.port))
        client.sendall(GET * 300 + GET_CLOSE)  # more than the sockets hold
        eventually(lambda: origin.requests, "it is asked")
        eventually(lambda: proxy.metrics().value("sluice_upstream_connections_active") == 0, "a try is given up")
        for _ in range(5):
            with proxy.connect() as other:
                other.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"S" * 50000)
                other.recv(1000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 504 ") >= 1
    assert answers.count(b"SSSS") == 0
    assert answers.count(b"\r\nLink: ") == answers.count(b"HTTP/1.1 103 ") * 100


def test_speaks_unasked_on_a_pooled_connection(scratch):
    told = threading.Event()

    def talking(connection, number):
        connection.head()
        connection.answer(b"ok")
        if number == 0:
            time.sleep(0.05)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            told.set()
        while connection.head():
            connection.answer(b"ok")
    origin = Origin(scratch, talking)
    proxy = Proxy(scratch, [origin.port], workers=1)
    with proxy.connect() as client:
        client.sendall(GET)
        assert read_answer(client).endswith(b"ok")
        assert told.wait(HANG)
        eventually(lambda: proxy.metrics().value("sluice_upstream_connections_active") == 0, "it is closed")
        client.sendall(GET)
        assert read_answer(client).endswith(b"ok")
    assert origin.accepted == 2


def test_closes_a_pooled_connection_between_requests(scratch):
    def once(connection, _):
        connection.head()
        connection.answer(b"ok")
    proxy = Proxy(scratch, [Origin(scratch, once).port], workers=1)
    with proxy.connect() as client:
        for _ in range(50):
            client.sendall(GET)
            assert status_of(read_answer(client)) == 200
    assert proxy.settled().value(FAILED) == 0


def test_closes_with_an_answer_on_a_connection_that_has_lasted(scratch):
    """Bytes and end are one event, and no field says that it ends. A request that may not be repeated must not go there."""
    def closing_with_the_sixth(connection, _):
        for _ in range(5):
            if not connection.head():
                return
            connection.answer(b"ok")
        connection.head()
        connection.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.answer(b"ok")  # shares its segment with the end
    origin = Origin(scratch, closing_with_the_sixth)
    proxy = Proxy(scratch, [origin.port], workers=1, upstream="retry: { retry_on: [] }")
    with proxy.connect() as client:
        for _ in range(60):
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert status_of(read_answer(client)) == 200
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        client.sendall(GET)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"ok")
    page = proxy.settled()
    assert page.value("sluice_upstream_stale_connections_total") == 0
    assert page.value(FAILED) == 0
    assert origin.accepted == 11


def closing_on_the_second(connection, number):
    """Its first connection breaks under the second request: the race that every keep-alive has."""
    connection.head()
    connection.answer(b"ok")
    if number == 0:
        connection.head()
        connection.reset()
        return
    while connection.head():
        connection.answer(b"ok")


def test_closes_a_pooled_connection_under_a_request(scratch):
    origin = Origin(scratch, closing_on_the_second)
    proxy = Proxy(scratch, [origin.port], workers=1, upstream="retry: { retry_on: [] }")
    with proxy.connect() as client:
        for _ in range(3):
            client.sendall(GET)
            assert status_of(read_answer(client)) == 200
    page = proxy.settled()
    assert page.value("sluice_upstream_stale_connections_total") == 1
    assert page.value("sluice_requests_total", code="2xx") == 3
    assert origin.accepted == 2


def test_a_post_on_a_stale_connection_is_not_sent_twice(scratch):
    origin = Origin(scratch, closing_on_the_second)
    proxy = Proxy(scratch, [origin.port], workers=1)
    with proxy.connect() as client:
        client.sendall(GET)
        assert status_of(read_answer(client)) == 200
        client.sendall(b"POST /buy HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert status_of(read_answer(client)) == 502
    assert sum(head.startswith(b"POST") for head in origin.requests) == 1


def test_answers_before_it_has_the_whole_request(scratch):
    origin = Origin(scratch, says(OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nno"))
    proxy = Proxy(scratch, [origin.port])
    with proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        answer = read_all(client)
    assert status_of(answer) == 200 and answer.endswith(b"no")


def test_frozen_and_thawed(scratch):
    """SIGSTOP: the kernel still accepts, nobody answers. It costs its timeout, and comes back by itself."""
    origin = Nginx(scratch)
    proxy = Proxy(scratch, [origin.port], upstream=SHORT)
    worker = int(eventually(lambda: open(f"/proc/{origin.pid}/task/{origin.pid}/children").read().split(), "nginx has a worker")[0])
    os.kill(worker, signal.SIGSTOP)
    try:
        with proxy.connect() as client:
            client.sendall(GET_CLOSE)
            assert status_of(read_all(client)) == 504
    finally:
        os.kill(worker, signal.SIGCONT)
    assert proxy.logged(status=504)["reason"] == "upstream timeout"
    assert proxy.settled().value(FAILED, reason="timeout") == 1
    assert curl(f"http://127.0.0.1:{proxy.port}/")[2].startswith("HTTP/1.1 200")


def test_killed_in_the_middle_of_an_answer(scratch):
    origin = Nginx(scratch, extra="location /slow/ { limit_rate 100k; }")
    os.makedirs(f"{origin.directory}/slow")
    with open(f"{origin.directory}/slow/file", "wb") as file:
        file.write(os.urandom(4 << 20))
    proxy = Proxy(scratch, [origin.port])
    worker = int(eventually(lambda: open(f"/proc/{origin.pid}/task/{origin.pid}/children").read().split(), "nginx has a worker")[0])
    with proxy.connect() as client:
        client.sendall(b"GET /slow/file HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000)
        os.kill(worker, signal.SIGKILL)
        read_all(client)
    line = proxy.logged(status=200)
    assert line["reason"] in ("upstream reset in the body", "upstream closed within the body")
    assert proxy.settled().value(FAILED, reason="cut_short") == 1


def test_a_slow_origin_is_told_from_a_slow_network(scratch):
    """Loopback has no distance: the origin's time is in the histogram of the origin, not of the round trip."""
    def slow(connection, _):
        while connection.head():
            time.sleep(0.3)
            connection.answer()
    proxy = Proxy(scratch, [Origin(scratch, slow).port], workers=1)
    with proxy.connect() as client:
        client.sendall(GET)
        read_answer(client)
    page = proxy.settled()
    origin = page.value("sluice_upstream_origin_duration_seconds_sum")
    assert page.value("sluice_upstream_origin_duration_seconds_count") == 1
    assert page.value("sluice_upstream_tcp_round_trip_seconds_count") == 1
    assert origin > 10 * page.value("sluice_upstream_tcp_round_trip_seconds_sum")
    assert page.value("sluice_upstream_tcp_retransmits_total") == 0


def test_a_relayed_connection_is_sampled_as_it_ends(scratch):
    proxy = Proxy(scratch, [Origin(scratch, serving()).port], listener="protocol: tcp", workers=1)
    count = "sluice_upstream_tcp_round_trip_seconds_count"
    with proxy.connect() as client:
        client.sendall(GET)
        assert read_answer(client)
        assert count not in proxy.metrics().text
    eventually(lambda: count in proxy.metrics().text, "the relay has ended and was sampled")
    assert proxy.metrics().value(count) == 1
    assert proxy.metrics().value("sluice_upstream_tcp_retransmits_total") == 0


def test_series_go_with_their_object(scratch):
    proxy = Proxy(scratch, [Origin(scratch, serving()).port])
    assert proxy.settled().value("sluice_requests_total", route="all") == 0
    other = Origin(scratch, serving())
    proxy.write_policy(proxy.policy_text(endpoints=f'"127.0.0.1:{other.port}"').replace("name: all", "name: every"))
    eventually(lambda: f"127.0.0.1:{other.port}" in proxy.metrics().text, "the new endpoint's series")
    page = proxy.settled()
    endpoints = {labels["endpoint"] for _, labels, _ in page.samples if "endpoint" in labels}
    assert endpoints == {f"127.0.0.1:{other.port}"}
    routes = {labels["route"] for _, labels, _ in page.samples if "route" in labels}
    assert routes == {"every", "(none)"}
    layers = {labels["layer"]: value for name, labels, value in page.samples if name == "sluice_policy_generation"}
    assert layers and len(set(layers.values())) == 1, "all layers are of one generation"
