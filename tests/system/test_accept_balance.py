"""Few connections with much in them: the workers share them evenly, whatever the kernel's hash says."""
import pytest

from harness import connect, eventually
from scripted import GET, Origin, Proxy, read_answer, serving, status_of
from test_http2 import Client


def connections(proxy):
    return sorted(worker["connections"] for worker in proxy.status()["workers"])


@pytest.mark.parametrize("open_one", [lambda port: connect(port), lambda port: Client(port).socket])
def test_few_connections_are_shared_evenly(scratch, open_one):
    proxy = Proxy(scratch, [Origin(scratch, serving()).port], workers=3)
    for round_ in range(8):  # by hash alone, nine fall like this once in a dozen times
        held = [open_one(proxy.port) for _ in range(9)]
        eventually(lambda: connections(proxy) == [3, 3, 3], f"three for each, not {connections(proxy)}")
        for connection in held:
            connection.close()
        eventually(lambda: connections(proxy) == [0, 0, 0], "all are closed")


def test_max_connections_count_those_on_their_way(scratch):
    proxy = Proxy(scratch, [Origin(scratch, serving()).port], workers=2, listener="max_connections: 10")
    held = [connect(proxy.port) for _ in range(10)]
    for connection in held:
        connection.sendall(GET)
        assert status_of(read_answer(connection)) in (200, 503)  # 503: shed, close to the limit
    eventually(lambda: connections(proxy)[0] + connections(proxy)[1] <= 10, "no more than ten")
    page = proxy.metrics()
    assert page.value("sluice_connections_active", listener="web") <= 10
