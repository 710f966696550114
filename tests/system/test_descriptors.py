"""Descriptors and places run out: accepting pauses, says so, and goes on by itself when some are free again."""
import time

import pytest

from harness import HANG, eventually, read_all
from scripted import GET, GET_CLOSE, Origin, Proxy, read_answer, serving, status_of


def limited(scratch, descriptors, **options):
    return Proxy(scratch, [Origin(scratch, serving()).port],
                 command=["prlimit", f"--nofile={descriptors}:{descriptors}"], **options)


def test_out_of_descriptors_pauses_accepting_and_recovers(scratch):
    proxy = limited(scratch, 128, listener="timeouts: { idle: 10m, head: 10m }")
    clients = []
    for _ in range(200):  # more than there are descriptors; the backlog takes the rest
        client = proxy.connect()
        clients.append(client)
    eventually(lambda: "accepting pauses" in proxy.output(), "the log says so")
    assert proxy.process.poll() is None
    assert proxy.output().count("accepting pauses") <= 4, "once a minute and worker at most, not for every try"
    # The admin socket still answers: descriptors are kept back for it, and for the metrics page.
    assert proxy.status()["listeners"][0]["connections"] > 30
    page = proxy.metrics()
    assert page.value("sluice_accept_pauses_total", reason="resources") >= 1
    assert page.value("process_max_fds") == 128
    # Those who are connected are served, each needing a connection to the origin.
    for client in clients[:5]:
        client.sendall(GET)
        assert status_of(read_answer(client)) == 200
    # CPU: paused, not spinning.
    cpu = proxy.metrics().value("process_cpu_seconds_total")
    time.sleep(1)
    assert proxy.metrics().value("process_cpu_seconds_total") - cpu < 0.5
    for client in clients[:150]:
        client.close()
    # Those that waited in the backlog are served now.
    for client in clients[150:]:
        client.sendall(GET_CLOSE)
        assert status_of(read_all(client)) == 200
    assert "accepting goes on" in proxy.output()


def test_connections_in_use_leave_descriptors_for_their_origins(scratch):
    """Requests on as many connections as are let in find a descriptor for the origin's side."""
    proxy = limited(scratch, 128, listener="timeouts: { idle: 10m, head: 10m }", workers=1)
    clients = [proxy.connect() for _ in range(100)]
    for client in clients:
        client.sendall(GET_CLOSE)
    statuses = [status_of(read_all(client)) for client in clients]
    assert set(statuses) == {200}
    assert not any(line["status"] == 503 for line in proxy.log_lines())


def test_max_connections_makes_clients_wait_not_fail(scratch):
    proxy = Proxy(scratch, [Origin(scratch, serving()).port], listener="max_connections: 10, timeouts: { idle: 10m }")
    first = [proxy.connect() for _ in range(10)]
    for client in first:
        client.sendall(GET)
        assert status_of(read_answer(client)) == 200
    late = proxy.connect()
    late.sendall(GET_CLOSE)
    eventually(lambda: proxy.metrics().value("sluice_accept_pauses_total", reason="max_connections") >= 1, "the pause is counted")
    late.settimeout(0.5)
    with pytest.raises(TimeoutError):
        late.recv(1)
    late.settimeout(HANG)
    first[0].close()  # perhaps on the other worker
    assert status_of(read_all(late)) == 200


def test_the_upstream_limit_answers_503_and_says_so(scratch):
    def holding(connection, _):
        connection.head()
        connection.until_closed()
    proxy = Proxy(scratch, [Origin(scratch, holding).port], upstream="circuit_breakers: { connections: 2 }")
    held = [proxy.connect() for _ in range(2)]
    for client in held:
        client.sendall(GET)
    eventually(lambda: proxy.metrics().value("sluice_upstream_connections_active") == 2, "both are under way")
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        assert status_of(read_all(client)) == 503
    assert proxy.logged(status=503)["reason"] == "no upstream connection within queue_timeout"
    assert proxy.metrics().value("sluice_upstream_circuit_breaker_refused_total") == 1
