"""The proxy as a user without root meets it: bind listeners, nginx behind, curl before."""
import hashlib
import os
import signal
import socket
import subprocess
import threading

import pytest

from harness import HANG, Nginx, Sluice, connect, curl, eventually, exchange, free_port, read_all


def policy(port, endpoints, extra_listener="", extra_route="", extra=""):
    listed = ", ".join(f'"127.0.0.1:{p}"' for p in endpoints)
    return f"""version: 1
state_dir: {{state}}
workers: 2
listeners: {{{{ web: {{{{ bind: "127.0.0.1:{port}" {extra_listener} }}}} }}}}
upstreams: {{{{ origins: {{{{ endpoints: [{listed}] }}}} }}}}
routes: [{{{{ listener: web, upstream: origins {extra_route} }}}}]
{extra}
"""


def start(scratch, text):
    return Sluice(scratch, text.format(state=scratch.path + "/state"))


@pytest.fixture
def proxy(scratch):
    origin = Nginx(scratch, extra="location /status { return 204; } client_max_body_size 0; location /echo { dav_methods PUT; }")
    port = free_port()
    sluice = start(scratch, policy(port, [origin.port]))
    return sluice, origin, port


def test_a_request_is_answered_by_the_origin(proxy):
    _, _, port = proxy
    code, body, head = curl(f"http://127.0.0.1:{port}/some/path?q=1")
    assert code == 0 and head.startswith("HTTP/1.1 200")
    assert body == f"origin 127.0.0.1 GET 127.0.0.1:{port} /some/path?q=1 127.0.0.1\n".encode()


def test_head_and_204_have_no_body_and_keep_the_connection(proxy):
    _, _, port = proxy
    with connect(port) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /status HTTP/1.1\r\nHost: a\r\n\r\n"
                           b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = read_all(connection)
    assert data.count(b"HTTP/1.1 ") == 3
    assert data.index(b"200") < data.index(b"204") < data.rindex(b"200")
    assert data.endswith(b"/last 127.0.0.1\n")


def test_a_large_body_arrives_whole_both_ways(proxy, scratch):
    _, origin, port = proxy
    path = origin.file("large", 32 << 20)
    code, body, _ = curl(f"http://127.0.0.1:{port}/files/large")
    assert code == 0
    with open(path, "rb") as file:
        assert hashlib.sha256(body).digest() == hashlib.sha256(file.read()).digest()


@pytest.mark.parametrize("request_bytes", [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    b"GET /../../etc HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
])
def test_what_could_smuggle_is_refused_and_the_connection_closed(proxy, request_bytes):
    _, _, port = proxy
    answer = exchange(port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400") or answer.startswith(b"HTTP/1.1 501"), answer[:200]
    assert answer.count(b"HTTP/1.1 4") + answer.count(b"HTTP/1.1 5") == 1


def test_expect_100_continue_is_answered_before_the_body(proxy):
    _, _, port = proxy
    with connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        first = connection.recv(4096)
        assert first.startswith(b"HTTP/1.1 ")
        connection.sendall(b"hello")
        assert b" 200 " in first + read_all(connection)


def test_an_origin_that_dies_costs_no_request(scratch):
    origins = [Nginx(scratch, f"origin-{i}") for i in (1, 2)]
    port = free_port()
    start(scratch, policy(port, [o.port for o in origins]))
    answers = {curl(f"http://127.0.0.1:{port}/")[1].split()[0] for _ in range(10)}
    assert answers == {b"origin-1", b"origin-2"}
    origins[0].stop()
    for _ in range(50):
        code, body, head = curl(f"http://127.0.0.1:{port}/")
        assert (code, body.split()[0]) == (0, b"origin-2"), head


def test_nobody_answers_502_when_the_origin_is_gone(scratch):
    port = free_port()
    start(scratch, policy(port, [free_port()]))
    code, body, head = curl(f"http://127.0.0.1:{port}/")
    assert code == 0 and head.startswith("HTTP/1.1 50"), head


def test_a_limit_answers_429_with_retry_after(scratch):
    origin = Nginx(scratch)
    port = free_port()
    start(scratch, policy(port, [origin.port], extra_route=", limits: [few]",
                          extra="limits: {{ few: {{ key: [client_ip], rate: 1/m, burst: 3 }} }}"))
    heads = [curl(f"http://127.0.0.1:{port}/")[2] for _ in range(5)]
    assert [head.split()[1] for head in heads] == ["200", "200", "200", "429", "429"]
    retry = [line for line in heads[-1].lower().splitlines() if line.startswith("retry-after:")]
    assert len(retry) == 1 and 1 <= int(retry[0].split()[1]) <= 60


def test_reload_by_saving_the_file_and_a_broken_file_changes_nothing(scratch):
    first, second = Nginx(scratch, "first"), Nginx(scratch, "second")
    port = free_port()
    sluice = start(scratch, policy(port, [first.port]))
    state = scratch.path + "/state"
    sluice.write_policy(policy(port, [second.port]).format(state=state))
    eventually(lambda: curl(f"http://127.0.0.1:{port}/")[1].startswith(b"second"), "the new policy is in force")
    sluice.write_policy(policy(port, [first.port]).format(state=state).replace("endpoints", "endpionts"))
    done = sluice.ctl("reload", check=False)
    assert done.returncode == 1
    assert "sluice.yaml:5:" in done.stdout + done.stderr and "endpoints" in done.stdout + done.stderr
    assert curl(f"http://127.0.0.1:{port}/")[1].startswith(b"second")


def test_sigterm_finishes_what_runs_and_exits_0(scratch):
    origin = Nginx(scratch, extra="location /slow { limit_rate 200k; alias " + scratch.path + "/slow; }")
    with open(scratch.path + "/slow", "wb") as file:
        file.write(os.urandom(300 << 10))
    port = free_port()
    sluice = start(scratch, policy(port, [origin.port]))
    result = {}
    download = threading.Thread(target=lambda: result.update(got=curl(f"http://127.0.0.1:{port}/slow")))
    download.start()
    eventually(lambda: any(l["connections"] for l in sluice.status()["listeners"]), "the download runs")
    assert sluice.stop(signal.SIGTERM) == 0
    download.join(HANG)
    assert result["got"][0] == 0 and len(result["got"][1]) == 300 << 10


def test_l4_relay_passes_bytes_and_half_close(scratch):
    port, origin_port = free_port(), free_port()
    server = socket.create_server(("127.0.0.1", origin_port))
    scratch.closers.append(server.close)
    server.settimeout(HANG)
    start(scratch, policy(port, [origin_port], extra_listener=", protocol: tcp"))
    with connect(port) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        peer, _ = server.accept()
        with peer:
            peer.settimeout(HANG)
            assert read_all(peer) == b"hello"
            peer.sendall(b"bye" * 100000)
            peer.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"bye" * 100000


def test_metrics_page_pleases_promtool(scratch):
    origin, port, metrics = Nginx(scratch), free_port(), free_port()
    start(scratch, policy(port, [origin.port], extra=f'metrics: {{{{ bind: "127.0.0.1:{metrics}" }}}}'))
    curl(f"http://127.0.0.1:{port}/")
    _, page, _ = curl(f"http://127.0.0.1:{metrics}/metrics")
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    assert checked.returncode == 0, checked.stderr.decode()
    assert b"sluice_" in page
