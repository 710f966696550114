"""A client that stalls, trickles, half-closes or vanishes: it costs itself, nobody else, and shows in log and metrics."""
import os
import socket
import struct
import threading
import time

import pytest

from harness import HANG, SANITIZED, Nginx, eventually, read_all
from scripted import GET, GET_CLOSE, Origin, Proxy, read_answer, serving, status_of


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_silent_before_a_request_is_closed_without_a_word(scratch):
    """RFC 9110 section 15.5.9 allows a 408; browsers open connections that they may never use."""
    proxy = Proxy(scratch, [Origin(scratch, serving()).port], listener="timeouts: { idle: 300ms, head: 300ms }")
    with proxy.connect() as connection:
        assert read_all(connection) == b""
    assert proxy.log_lines() == []


def test_stalls_in_the_head(scratch):
    proxy = Proxy(scratch, [Origin(scratch, serving()).port], listener="timeouts: { head: 300ms }")
    with proxy.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert status_of(read_all(connection)) == 408
    assert proxy.logged(status=408)["reason"] == "request head timeout"
    assert proxy.settled().value("sluice_requests_total", route="(none)", code="4xx") == 1


def test_a_byte_a_time_does_not_hold_a_head_for_ever(scratch):
    """Slowloris: the head's time runs from its first byte, whatever comes meanwhile."""
    proxy = Proxy(scratch, [Origin(scratch, serving()).port], listener="timeouts: { head: 500ms }")
    with proxy.connect() as connection:
        connection.settimeout(0.05)
        answer = b""
        try:
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 10_000:
                connection.sendall(bytes([byte]))
                try:
                    answer += connection.recv(65536)
                    break
                except TimeoutError:
                    pass
        except OSError:
            pass
    assert status_of(answer) in (408, None)
    proxy.logged(status=408)


def test_a_request_a_byte_a_time_is_served(scratch):
    origin = Origin(scratch, lambda c, _: (c.head(), c.body(20), c.answer(b"got it")))
    proxy = Proxy(scratch, [origin.port], listener="timeouts: { body_idle: 1s }")
    with proxy.connect() as connection:
        for byte in b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\nConnection: close\r\n\r\n" + b"0123456789" * 2:
            connection.sendall(bytes([byte]))
            time.sleep(0.002)
        assert read_all(connection).endswith(b"got it")


def test_stalls_in_the_body(scratch):
    origin = Origin(scratch, lambda c, _: (c.head(), c.until_closed()))
    proxy = Proxy(scratch, [origin.port], listener="timeouts: { body_idle: 300ms }")
    with proxy.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        assert status_of(read_all(connection)) == 408
    line = proxy.logged(status=408)
    assert line["reason"] == "request body stalled" and line["upstream"] == "origins"
    endpoint = proxy.status()["upstreams"][0]["endpoints"][0]
    assert not endpoint["ejected"], "the origin is not to blame"


def test_half_closes_behind_its_request_and_gets_its_answer(scratch):
    def slow(connection, _):
        connection.head()
        time.sleep(0.2)
        connection.answer(b"late")
    proxy = Proxy(scratch, [Origin(scratch, slow).port])
    with proxy.connect() as connection:
        connection.sendall(GET)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert status_of(answer) == 200 and answer.endswith(b"late")
    assert proxy.logged(status=200)


def test_half_closes_within_its_request(scratch):
    origin = Origin(scratch, lambda c, _: (c.head(), c.until_closed()))
    proxy = Proxy(scratch, [origin.port])
    with proxy.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    assert proxy.logged(reason="client closed within the body").get("status") is None
    assert proxy.settled().value("sluice_requests_total", code="none") == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_disappears_while_the_origin_thinks(scratch, how):
    """The origin hears of it, so that it need not finish an answer that nobody reads."""
    gone = threading.Event()

    def thinking(connection, _):
        connection.head()
        connection.until_closed()
        gone.set()
    proxy = Proxy(scratch, [Origin(scratch, thinking).port], listener="timeouts: { body_idle: 1s }",
                  upstream="timeouts: { first_byte: 60s }")
    connection = proxy.connect()
    connection.sendall(GET)
    eventually(lambda: proxy.metrics().value("sluice_upstream_requests_active") == 1, "the origin has the request")
    if how == "reset":
        reset(connection)
        assert gone.wait(HANG)
        assert proxy.logged(reason="client reset").get("status") is None
    else:
        # A close looks like a half-close until something is written: the answer goes nowhere then.
        connection.close()
    eventually(lambda: how == "close" or proxy.metrics().value("sluice_connections_active") == 0, "the connection is gone")


def test_disappears_in_the_middle_of_its_answer(scratch):
    def pouring(connection, _):
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            connection.send(b"x" * 65536)
    origin = Origin(scratch, pouring)
    proxy = Proxy(scratch, [origin.port])
    connection = proxy.connect()
    connection.sendall(GET)
    connection.recv(1000)
    reset(connection)
    assert proxy.logged(status=200)["reason"] in ("client went away", "client reset")
    eventually(lambda: proxy.metrics().value("sluice_upstream_connections_active") == 0, "the origin's connection is closed")
    assert not proxy.status()["upstreams"][0]["endpoints"][0]["ejected"]


def test_reads_nothing(scratch):
    """Backpressure: what the gateway holds for a client that does not read is bounded, and not for ever."""
    sent = [0]

    def pouring(connection, _):
        connection.head()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            connection.send(b"x" * 65536)
            sent[0] += 65536
    proxy = Proxy(scratch, [Origin(scratch, pouring).port], listener="timeouts: { body_idle: 1s }")
    before = proxy.metrics().value("process_resident_memory_bytes")
    with proxy.connect() as connection:
        connection.sendall(GET)
        assert proxy.logged(status=200)["reason"] == "client reads nothing"
        assert sent[0] < 64 << 20, "the origin waits for the client"
        assert SANITIZED or proxy.metrics().value("process_resident_memory_bytes") - before < 16 << 20


def test_reads_a_byte_a_time(scratch):
    body = b"0123456789" * 10
    proxy = Proxy(scratch, [Origin(scratch, serving(body)).port], listener="timeouts: { body_idle: 1s }")
    with proxy.connect() as connection:
        connection.sendall(GET_CLOSE)
        answer = b""
        while byte := connection.recv(1):
            answer += byte
    assert answer.endswith(body)


def test_pipelines_and_gets_answers_in_order(scratch):
    def script(connection, _):
        while head := connection.head():
            connection.answer(head.split()[1])
    proxy = Proxy(scratch, [Origin(scratch, script).port])
    with proxy.connect() as connection:
        connection.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(200)) +
                           b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = read_all(connection)
    bodies = [part.split(b"\r\n\r\n", 1)[1] for part in data.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"/%d" % i for i in range(200)] + [b"/last"]


IDLE = 8000


def test_eight_thousand_idle_connections(scratch):
    """Two sockets of each connection are on this machine, whose limit is 20,000 for each process."""
    origin = Nginx(scratch)
    proxy = Proxy(scratch, [origin.port], listener="timeouts: { idle: 10m }")
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < IDLE + 500:
        pytest.skip(f"needs {IDLE + 500} descriptors, the hard limit is {hard}")
    clients = []
    try:
        before = proxy.metrics().value("process_resident_memory_bytes")
        for _ in range(IDLE):
            client = proxy.connect()
            clients.append(client)
            client.sendall(GET)
            assert status_of(read_answer(client)) == 200
        page = proxy.metrics()
        assert page.value("sluice_connections_active", listener="web", way="bind") == IDLE
        each = (page.value("process_resident_memory_bytes") - before) / IDLE
        assert SANITIZED or each < 4096, f"{each:.0f} bytes for each idle connection"
        # All of them still work.
        for client in clients[:: IDLE // 100]:
            client.sendall(GET)
            assert status_of(read_answer(client)) == 200
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: proxy.metrics().value("sluice_connections_active") == 0, "all are closed")


@pytest.mark.parametrize("early", [b"", b"GET /sec", b"GET /second HTTP/1.1\r\nHost: b\r\n\r\n"])
def test_asks_again_while_an_answer_comes_in_pieces(scratch, early):
    """Of a request nothing but its head is held while its answer goes on: the log knows it to the end, and what comes of the
    next one meanwhile is the next one's."""
    further = threading.Semaphore(0)

    def piecemeal(connection, _):
        connection.head(), connection.body(4)
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        for piece in (b"3\r\ntwo\r\n", b"5\r\nthree\r\n0\r\n\r\n"):
            assert further.acquire(timeout=HANG)
            connection.send(piece)
        serving(b"second")(connection, 0)

    def until(connection, end):
        data = b""
        while not data.endswith(end):
            data += connection.recv(65536)

    origin = Origin(scratch, piecemeal)
    proxy = Proxy(scratch, [origin.port], workers=1)
    second = b"GET /second HTTP/1.1\r\nHost: b\r\n\r\n"
    with proxy.connect() as connection:
        connection.sendall(b"POST /x/../first HTTP/1.1\r\nHost: One.Example\r\nContent-Length: 4\r\n\r\nbody")
        until(connection, b"one\r\n")
        further.release()
        until(connection, b"two\r\n")
        connection.sendall(early)
        further.release()
        until(connection, b"0\r\n\r\n")
        connection.sendall(second[len(early):])
        assert read_answer(connection).endswith(b"second")
    line = proxy.logged(method="POST")
    assert (line["host"], line["path"], line["status"]) == ("one.example", "/x/../first", 200)
    assert proxy.logged(method="GET")["host"] == "b"
    assert [head.split(b"\r\n")[0] for head in origin.requests] == [b"POST /first HTTP/1.1", b"GET /second HTTP/1.1"]


@pytest.mark.parametrize("cancels", [True, False])
def test_who_closes_its_side_is_gone_where_the_policy_says_so(scratch, cancels):
    """Else it may be waiting for its answer."""
    go = threading.Event()
    left = threading.Event()

    def thinks(connection, _):
        connection.head()
        if cancels:
            connection.raw.settimeout(HANG)
            if connection.raw.recv(1) == b"":
                left.set()
        else:
            assert go.wait(HANG)
            connection.answer(b"late")

    proxy = Proxy(scratch, [Origin(scratch, thinks).port], listener="cancel_on_close: true" if cancels else "")
    with proxy.connect() as connection:
        connection.sendall(GET)
        eventually(lambda: proxy.metrics().value("sluice_upstream_requests_active") == 1, "the origin is asked")
        connection.shutdown(socket.SHUT_WR)
        if cancels:
            assert read_all(connection) == b""
            assert left.wait(HANG), "the origin is told"
            assert proxy.logged(reason="client closed")["attempts"] == 1
            assert proxy.settled().value("sluice_requests_active") == 0
        else:
            time.sleep(0.2)
            go.set()
            assert status_of(read_all(connection)) == 200
