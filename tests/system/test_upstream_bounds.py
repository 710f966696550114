"""What bounds hold back, and for how long: shares of the retry budget, places below circuit breakers."""
import socket
import threading
import time

import pytest

from harness import HANG, Sluice, curl, eventually, free_port
from scripted import GET, Origin, Proxy, read_answer, serving, status_of

NOBODY_IS_OUT = "outlier_detection: { consecutive_5xx: 0, consecutive_gateway_errors: 0, consecutive_connect_failures: 0 }"


# --- the retry budget

def streaming(connection, _):
    """One answer that never ends."""
    if connection.head():
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\n\n\r\n")
        connection.until_closed()


def failing(connection, _):
    while connection.head():
        connection.answer(status=b"503 Not Now")


@pytest.mark.parametrize("first", ["refuses", "answers 503"])
def test_streams_that_a_retry_began_hold_no_share_of_the_budget(scratch, first):
    """Three at a time are always allowed; a retry is over when the answer has begun."""
    origin = Origin(scratch, streaming)
    bad = free_port() if first == "refuses" else Origin(scratch, failing).port
    proxy = Proxy(scratch, [bad, origin.port], workers=1, listener="cancel_on_close: true",
                  upstream=f'retry: {{ retry_on: [connect_failure, "503"], back_off: 0s }}, {NOBODY_IS_OUT}')
    streams = []
    for _ in range(12):
        client = proxy.connect()
        client.sendall(GET)
        streams.append(client)
        assert status_of(client.recv(65536)) == 200
    page = proxy.metrics()
    assert page.value("sluice_upstream_retries_total") >= 4 and page.value("sluice_upstream_retries_refused_total") == 0
    for client in streams:
        client.close()


# --- connections that are no HTTP

def plain(scratch, endpoints, upstream):
    """A Proxy with a listener beside its own that passes connections on; its port."""
    port = free_port()
    proxy = Proxy(scratch, endpoints, upstream=upstream, workers=1)
    text = proxy.policy_text().replace("listeners: { ", f'listeners: {{ raw: {{ bind: "127.0.0.1:{port}", protocol: tcp }}, ')
    proxy.write_policy(text.replace("routes: [", "routes: [{ listener: raw, name: raw, upstream: origins }, "))
    proxy.ctl("reload")
    return proxy, port


def echo(connection, _):
    while data := connection.raw.recv(65536):
        connection.send(data)


def spoken(port):
    """A connection over which a byte went and came back; None where it ended before."""
    client = socket.create_connection(("127.0.0.1", port), HANG)
    try:
        client.sendall(b"x")
        if client.recv(1) == b"x":
            return client
    except OSError:
        pass
    client.close()
    return None


def test_connections_that_a_retry_began_hold_no_share_of_the_budget(scratch):
    origin = Origin(scratch, echo)
    proxy, port = plain(scratch, [free_port(), origin.port], NOBODY_IS_OUT)
    clients = [spoken(port) for _ in range(12)]
    assert all(clients), clients
    for client in clients:
        client.close()


def test_refusals_of_connections_are_counted(scratch):
    origin = Origin(scratch, echo)
    proxy, port = plain(scratch, [origin.port], "circuit_breakers: { connections: 1, pending: 1 }, queue_timeout: 0s")
    first = spoken(port)
    assert first and spoken(port) is None
    eventually(lambda: proxy.metrics().value("sluice_upstream_circuit_breaker_refused_total") == 1, "it is counted")
    first.close()


def test_retries_of_connections_are_counted(scratch):
    proxy, port = plain(scratch, [free_port()], f"retry: {{ attempts: 2, back_off: 0s }}, {NOBODY_IS_OUT}")
    assert spoken(port) is None
    eventually(lambda: proxy.metrics().value("sluice_upstream_retries_total") == 2, "both are counted")


# --- places

def http2_origins(scratch, count):
    """Ports of a sluice that speaks HTTP/2 with prior knowledge on each."""
    ports = [free_port() for _ in range(count)]
    listeners = ", ".join(f'l{i}: {{ bind: "127.0.0.1:{port}" }}' for i, port in enumerate(ports))
    routes = ", ".join(f'{{ listener: l{i}, direct_response: {{ status: 200, body: "{i}" }} }}' for i in range(count))
    Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/origin-state
listeners: {{ {listeners} }}
routes: [{routes}]
""", name="http2-origin")
    return ports


def statuses(proxy, count):
    """Of requests one after the other, each on a connection of its own, so that it comes to any worker."""
    found = []
    for _ in range(count):
        code, _, head = curl(f"http://127.0.0.1:{proxy.port}/")
        found.append(int(head.split()[1]) if code == 0 else None)
    return found


@pytest.mark.parametrize("workers, origins, bound", [(1, 2, "connections"), (2, 1, "connections"), (2, 1, "endpoint_connections")])
def test_an_idle_http2_connection_makes_room(scratch, workers, origins, bound):
    """For another endpoint, and for another worker: nothing is under way on it."""
    proxy = Proxy(scratch, http2_origins(scratch, origins), workers=workers,
                  upstream=f"protocol: http2, circuit_breakers: {{ {bound}: 1 }}, queue_timeout: 10s")
    assert statuses(proxy, 10) == [200] * 10


def held(release, log):
    """Answers /held when it may, and all else at once."""
    def script(connection, _):
        while head := connection.head():
            log.append(head)
            if head.startswith(b"GET /held"):
                release.wait(2 * HANG)
            connection.answer()
    return script


@pytest.mark.parametrize("lb_policy", ["round_robin", "random"])
def test_a_request_goes_where_there_is_a_place(scratch, lb_policy):
    """One endpoint is at its bound for long: whoever is sent there goes to the other one."""
    release, heads = threading.Event(), []
    scratch.closers.append(release.set)
    proxy = Proxy(scratch, [Origin(scratch, held(release, heads)).port for _ in range(2)], workers=1,
                  upstream=f"lb_policy: {lb_policy}, circuit_breakers: {{ endpoint_connections: 1 }}, queue_timeout: 1s")
    with proxy.connect() as first:
        first.sendall(GET.replace(b"/ ", b"/held "))
        eventually(lambda: heads, "one is busy")
        assert statuses(proxy, 8) == [200] * 8
        release.set()
        assert status_of(read_answer(first)) == 200
    active = [v for n, _, v in proxy.settled().samples if n == "sluice_upstream_requests_active"]
    assert active and not any(active)


def test_a_connection_that_is_no_http_goes_where_there_is_a_place(scratch):
    _, port = plain(scratch, [Origin(scratch, echo).port for _ in range(2)], "circuit_breakers: { endpoint_connections: 1 }, queue_timeout: 2s")
    with spoken(port):
        for _ in range(4):
            second = spoken(port)
            assert second
            second.close()


@pytest.mark.parametrize("lb_policy", ["round_robin", "maglev"])
def test_workers_do_not_block_each_other(scratch, lb_policy):
    """Each has an idle connection where the other's requests want to go."""
    by = ", hash_on: { header: x-user }" if lb_policy == "maglev" else ""
    proxy = Proxy(scratch, [Origin(scratch, serving()).port for _ in range(2)], workers=2,
                  upstream=f"lb_policy: {lb_policy}{by}, circuit_breakers: {{ endpoint_connections: 1 }}, queue_timeout: 5s")
    clients = [proxy.connect() for _ in range(16)]
    for turn in range(6):
        for number, client in enumerate(clients):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-User: %d\r\n\r\n" % (turn * 100 + number))
        assert [status_of(read_answer(client)) for client in clients] == [200] * len(clients)
    for client in clients:
        client.close()


def test_who_found_no_place_asked_no_endpoint(scratch):
    release, heads = threading.Event(), []
    scratch.closers.append(release.set)
    proxy = Proxy(scratch, [Origin(scratch, held(release, heads)).port], workers=1,
                  upstream="circuit_breakers: { connections: 1 }, queue_timeout: 0s")
    with proxy.connect() as first, proxy.connect() as second:
        first.sendall(GET.replace(b"/ ", b"/held "))
        eventually(lambda: heads, "the only connection is taken")
        second.sendall(GET)
        assert status_of(read_answer(second)) == 503
        assert not proxy.logged(reason="upstream connection limit").get("endpoint")
        release.set()
        assert status_of(read_answer(first)) == 200


def test_wider_bounds_help_who_waits_already(scratch):
    release, heads = threading.Event(), []
    scratch.closers.append(release.set)
    proxy = Proxy(scratch, [Origin(scratch, held(release, heads)).port], workers=1,
                  upstream=f"circuit_breakers: {{ connections: 1 }}, queue_timeout: {HANG}s")
    with proxy.connect() as first, proxy.connect() as second:
        first.sendall(GET.replace(b"/ ", b"/held "))
        eventually(lambda: heads, "the only connection is taken")
        second.sendall(GET)
        eventually(lambda: proxy.metrics().value("sluice_upstream_pending_requests") == 1, "the other one waits")
        proxy.write_policy(proxy.policy_text(upstream=f"circuit_breakers: {{ connections: 2 }}, queue_timeout: {HANG}s"))
        proxy.ctl("reload")
        assert status_of(read_answer(second)) == 200
        release.set()
        assert status_of(read_answer(first)) == 200


def one_after_the_other(clients, script, go_on):
    """What `go_on(got)` makes of the answers that each of so many threads gets from `script()`; a list for each."""
    got = [[] for _ in range(clients)]

    def ask(mine):
        try:
            ask_one = script()
            while go_on(got):
                mine.append(ask_one())
        except OSError as error:
            mine.append(error)
    threads = [threading.Thread(target=ask, args=(mine,), daemon=True) for mine in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * HANG)
    return got


def on_one_connection(proxy):
    client = proxy.connect()

    def ask():
        client.sendall(GET)
        return status_of(read_answer(client))
    return ask


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "closed"])
@pytest.mark.parametrize("bound", ["connections: 1", "connections: 2", "endpoint_connections: 1"])
def test_workers_hand_places_over_under_load(scratch, bound, kept):
    """Each has requests that wait all the time; whoever holds the place lets the other one have it."""
    def script(connection, _):
        while connection.head():
            time.sleep(0.02)
            connection.answer(fields=b"" if kept else b"Connection: close\r\n")
            if not kept:
                return
    proxy = Proxy(scratch, [Origin(scratch, script).port], workers=2,
                  upstream=f"circuit_breakers: {{ {bound} }}, queue_timeout: 10s")

    def go_on(all_got):
        return min(map(len, all_got)) < 5 and all(status == 200 for mine in all_got for status in mine)
    got = one_after_the_other(12, lambda: on_one_connection(proxy), go_on)
    assert {status for mine in got for status in mine} == {200}, got


def test_http2_connections_to_an_endpoint_that_is_gone_are_closed(scratch):
    first, second = http2_origins(scratch, 2)
    proxy = Proxy(scratch, [first, second], workers=1,
                  upstream="protocol: http2, timeouts: { idle: 1h }, circuit_breakers: { connections: 2 }")
    assert statuses(proxy, 4) == [200] * 4

    def both_places_are_taken():
        return proxy.metrics().value("sluice_upstream_circuit_breaker_open", upstream="origins", breaker="connections") == 1
    assert both_places_are_taken()
    proxy.write_policy(proxy.policy_text(endpoints=f'"127.0.0.1:{first}"'))
    proxy.ctl("reload")
    eventually(lambda: not both_places_are_taken(), "the connection to the other one is closed", HANG / 2)  # before the origin closes it
    assert statuses(proxy, 2) == [200] * 2
