"""Balancing, health, retries, queues: as seen from a client, with real nginx origins."""
import collections
import contextlib
import email.utils
import http.server
import json
import socket
import socketserver
import threading
import time

import pytest

from harness import HANG, Nginx, Sluice, connect, curl, eventually, free_port


def quoted(endpoints):
    return ", ".join(e if isinstance(e, str) else f'"127.0.0.1:{e.port}"' for e in endpoints)


class Proxy:
    """Sluice before these origins; `upstream`: more keys of the upstream."""

    def __init__(self, scratch, endpoints, upstream="", workers=2, route=""):
        self.scratch, self.port, self.metrics_port = scratch, free_port(), free_port()
        self.workers, self.route = workers, route
        self.sluice = Sluice(scratch, self.policy(endpoints, upstream))

    def policy(self, endpoints, upstream=""):
        return f"""version: 1
state_dir: {self.scratch.path}/state
workers: {self.workers}
metrics: {{ bind: "127.0.0.1:{self.metrics_port}" }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
upstreams: {{ api: {{ endpoints: [{quoted(endpoints)}] {upstream} }} }}
routes: [{{ upstream: api {self.route} }}]
"""

    def reload(self, endpoints, upstream=""):
        self.sluice.write_policy(self.policy(endpoints, upstream))
        self.sluice.ctl("reload")

    def get(self, path="/", *arguments):
        """(status, who answered, head)"""
        code, body, head = curl(f"http://127.0.0.1:{self.port}{path}", *arguments)
        assert code == 0, head
        return int(head.split()[1]), (body.split() or [b""])[0].decode(), head

    def endpoints(self):
        return {e["address"]: e for e in self.sluice.status()["upstreams"][0]["endpoints"]}

    def metric(self, start):
        _, page, _ = curl(f"http://127.0.0.1:{self.metrics_port}/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.decode().splitlines() if line.startswith(start))

    def page(self):
        return curl(f"http://127.0.0.1:{self.metrics_port}/metrics")[1].decode()


class Scripted:
    """An origin that answers as a function says: answer(handler) writes to it. Counts what runs at a time."""

    def __init__(self, scratch, answer):
        origin = self
        self.running, self.most, self.requests, self.lock = 0, 0, 0, threading.Lock()
        self.connections = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with origin.lock:
                    origin.running += 1
                    origin.requests += 1
                    origin.most = max(origin.most, origin.running)
                    origin.connections.add(self.client_address)
                try:
                    answer(self)
                finally:
                    with origin.lock:
                        origin.running -= 1

            def say(self, status, text="", **fields):
                body = text.encode()
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads = True, True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        scratch.closers.append(lambda: (self.server.shutdown(), self.server.server_close()))


def in_parallel(count, call):
    results = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert len(results) == count
    return results


# --- balancing

def test_maglev_keeps_a_user_and_moves_only_those_of_a_dead_origin(scratch):
    origins = [Nginx(scratch, f"origin-{i}") for i in range(3)]
    proxy = Proxy(scratch, origins, ", lb_policy: maglev, hash_on: { header: X-User }")
    users = [f"user-{i}" for i in range(30)]
    def homes():
        return {user: proxy.get("/", "-H", f"x-user: {user}")[1] for user in users}
    before = homes()
    assert len(set(before.values())) == 3
    assert homes() == before
    origins[0].stop()
    after = homes()
    assert {u: o for u, o in after.items() if before[u] != "origin-0"} == {u: o for u, o in before.items() if o != "origin-0"}
    assert "origin-0" not in after.values()


def test_maglev_by_cookie(scratch):
    origins = [Nginx(scratch, f"origin-{i}") for i in range(3)]
    proxy = Proxy(scratch, origins, ", lb_policy: maglev, hash_on: { cookie: sid }")
    for i in range(5):
        assert len({proxy.get("/", "-b", f"other=1; sid=user-{i}")[1] for _ in range(4)}) == 1


@pytest.mark.parametrize("lb_policy", ["round_robin", "least_request", "random", "peak_ewma"])
def test_all_origins_are_used(scratch, lb_policy):
    origins = [Nginx(scratch, f"origin-{i}") for i in range(3)]
    proxy = Proxy(scratch, origins, f", lb_policy: {lb_policy}")
    answers = collections.Counter(proxy.get()[1] for _ in range(60))
    assert set(answers) == {"origin-0", "origin-1", "origin-2"}, answers


def test_peak_ewma_comes_back_to_who_did_not_take_connections(scratch):
    """per_try_timeout while connecting says no more of its latency than that connecting takes long."""
    def late(handler):
        time.sleep(0.3)
        handler.say(200, "late ")
    origin = Scripted(scratch, late)
    hole = socket.create_server(("127.0.0.1", 0), backlog=0)
    scratch.closers.append(hole.close)
    full = []  # its backlog is, so that connecting hangs
    for _ in range(3):
        full.append(socket.socket())
        full[-1].setblocking(False)
        full[-1].connect_ex(hole.getsockname())
    proxy = Proxy(scratch, [origin, f'"127.0.0.1:{hole.getsockname()[1]}"'], ", lb_policy: peak_ewma, timeouts: { connect: 1s }, "
                  "retry: { attempts: 1, per_try_timeout: 500ms, retry_on: [504] }, "
                  "outlier_detection: { consecutive_5xx: 0, consecutive_gateway_errors: 0, consecutive_connect_failures: 0 }", workers=1)
    eventually(lambda: proxy.get()[0] == 200 and proxy.metric("sluice_upstream_retries_total"), "it was tried")

    def serve(client):
        with contextlib.suppress(OSError):
            while client.recv(65536):
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nback ")

    def accept():
        while True:
            try:
                client, _ = hole.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()
    for one in full:
        one.close()
    hole.listen(64)
    threading.Thread(target=accept, daemon=True).start()
    eventually(lambda: "back" in {who for _, who, _ in in_parallel(4, proxy.get)}, "it is used again")


def test_priorities_fail_over_and_back(scratch):
    first, backup = Nginx(scratch, "first"), Nginx(scratch, "backup")
    proxy = Proxy(scratch, [f'"127.0.0.1:{first.port}"', f'{{ address: "127.0.0.1:{backup.port}", priority: 1 }}'],
                  ", health_check: { http: /, interval: 100ms, timeout: 100ms, unhealthy_threshold: 1, healthy_threshold: 1 }"
                  ", outlier_detection: { base_ejection_time: 100ms }")
    assert {proxy.get()[1] for _ in range(10)} == {"first"}
    first.stop()
    assert {proxy.get()[1] for _ in range(10)} == {"backup"}
    Nginx(scratch, "first", port=first.port)
    eventually(lambda: {proxy.get()[1] for _ in range(5)} == {"first"}, "the first level takes over again")


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_a_client_sticks_to_its_origin_by_a_signed_cookie(scratch, version):
    origins = [Nginx(scratch, f"origin-{i}") for i in range(3)]
    key = scratch.write("key", "a key of more than sixteen bytes\n")
    proxy = Proxy(scratch, origins, f', sticky: {{ cookie: home, key: "file:{key}", max_age: 1h }}')
    jars = [f"{scratch.path}/jar-{i}" for i in range(3)]
    def ask(jar):
        return proxy.get("/", version, "-b", jar, "-c", jar)
    homes = [ask(jar)[1] for jar in jars]
    for _ in range(5):
        assert [ask(jar)[1] for jar in jars] == homes
    status, _, head = proxy.get("/", version)
    cookie = [line for line in head.splitlines() if line.lower().startswith("set-cookie: home=")]
    assert len(cookie) == 1 and "HttpOnly" in cookie[0] and "Max-Age=3600" in cookie[0] and "127.0.0.1" not in cookie[0]
    assert "set-cookie" not in ask(jars[0])[2].lower()  # it knows
    # What nobody signed is nobody's, and gets a new one.
    assert "set-cookie: home=" in proxy.get("/", version, "-b", "home=0123456789abcdef0123456789abcdef")[2].lower()
    # An origin that dies gives its clients to another, who keeps them.
    origins[int(homes[0][-1])].stop()
    new_home = ask(jars[0])[1]
    assert new_home != homes[0]
    assert {ask(jars[0])[1] for _ in range(4)} == {new_home}


# --- health

def test_a_failing_check_takes_an_endpoint_out_and_back(scratch):
    marker = scratch.path + "/down"
    origins = [Nginx(scratch, "a", extra=f"location /healthz {{ if (-f {marker}) {{ return 503; }} return 204; }}"),
               Nginx(scratch, "b", extra="location /healthz { return 204; }")]
    proxy = Proxy(scratch, origins, ", health_check: { http: /healthz, interval: 100ms, timeout: 100ms, unhealthy_threshold: 1 }")
    assert {proxy.get()[1] for _ in range(10)} == {"a", "b"}
    scratch.write("down", "")
    eventually(lambda: {proxy.get()[1] for _ in range(6)} == {"b"}, "the check has noticed")
    import os
    os.unlink(marker)
    eventually(lambda: {proxy.get()[1] for _ in range(6)} == {"a", "b"}, "the check has noticed")


def test_reloads_with_health_checks_lose_no_request(scratch):
    """Kong/kong#4864: a rebuilt balancer answered 503 for fresh targets."""
    origins = [Nginx(scratch, f"origin-{i}") for i in range(3)]
    check = ", health_check: { http: /, interval: 100ms, timeout: 100ms }"
    proxy = Proxy(scratch, origins[:2], check)
    failed, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            status, who, _ = proxy.get()
            if status != 200:
                failed.append((status, who))
    clients = [threading.Thread(target=client) for _ in range(2)]
    for one in clients:
        one.start()
    for i in range(10):
        proxy.reload(origins[i % 2:i % 2 + 2], check)
    stop.set()
    for one in clients:
        one.join(HANG)
    assert failed == []


def test_grpc_health(scratch):
    from concurrent import futures
    import grpc
    serving = {"status": 1}

    def check(request, context):
        if request not in (b"", b"\x0a\x03api"):
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08" + bytes([serving["status"]])
    handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
        "Check": grpc.unary_unary_rpc_method_handler(check, request_deserializer=None, response_serializer=None)})
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    scratch.closers.append(lambda: server.stop(None))
    check_of = ", protocol: http2, health_check: {{ grpc: {}, interval: 100ms, unhealthy_threshold: 1, healthy_threshold: 1 }}"
    proxy = Proxy(scratch, [f'"127.0.0.1:{port}"'], check_of.format("api"))
    healthy = lambda: proxy.endpoints()[f"127.0.0.1:{port}"]["healthy"]
    time.sleep(0.3)
    assert healthy()
    serving["status"] = 2
    eventually(lambda: not healthy(), "NOT_SERVING is unhealthy")
    serving["status"] = 1
    eventually(healthy, "SERVING is healthy")
    proxy.reload([f'"127.0.0.1:{port}"'], check_of.format("other"))
    eventually(lambda: not healthy(), "a service that the server does not know is unhealthy")
    proxy.reload([f'"127.0.0.1:{port}"'], check_of.format('"*"'))
    eventually(healthy, "the server as a whole")


def test_gateway_errors_in_a_row_eject(scratch):
    origins = [Nginx(scratch, "a", extra="location /bad { return 503; }"), Nginx(scratch, "b", extra="location /bad { return 200 \"b \"; }")]
    proxy = Proxy(scratch, origins, ", outlier_detection: { consecutive_gateway_errors: 3, consecutive_5xx: 0, base_ejection_time: 1m }", workers=1)
    statuses = [proxy.get("/bad")[0] for _ in range(20)]
    assert statuses.count(503) == 3 and statuses[-10:] == [200] * 10
    assert proxy.endpoints()[f"127.0.0.1:{origins[0].port}"]["ejected"]
    said = [line for line in proxy.sluice.output().splitlines() if "endpoint is ejected for failures in a row" in line]
    assert len(said) == 1 and f"127.0.0.1:{origins[0].port}" in said[0]


def test_who_fails_more_than_the_others_is_ejected(scratch):
    origins = [Nginx(scratch, f"good{i}") for i in range(4)] + [Nginx(scratch, "bad", extra="location /x { return 500; }")]
    proxy = Proxy(scratch, origins, ", outlier_detection: { consecutive_5xx: 0, consecutive_gateway_errors: 0, base_ejection_time: 1m, "
                  "success_rate: { interval: 1s, minimum_hosts: 5, request_volume: 10, stdev_factor: 1.5 } }", workers=1)
    bad = f"127.0.0.1:{origins[4].port}"

    def ejected():
        curl("-o", "/dev/null", f"http://127.0.0.1:{proxy.port}/x?[1-100]")  # on one connection
        return proxy.endpoints()[bad]["ejected"]
    eventually(ejected, "the one that fails is out")
    assert [e for e, state in proxy.endpoints().items() if state["ejected"]] == [bad]
    assert proxy.metric("sluice_upstream_ejections_total") == 1


def test_a_check_over_http2(scratch):
    """The origin is a sluice: it speaks HTTP/2 with prior knowledge."""
    port = free_port()
    Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/origin-state
listeners: {{ web: {{ bind: "127.0.0.1:{port}" }} }}
routes: [{{ path: /ok, direct_response: {{ status: 204 }} }}, {{ path: /bad, direct_response: {{ status: 500 }} }}]
""", name="http2-origin")
    check = ", protocol: http2, health_check: {{ http: {}, interval: 100ms, unhealthy_threshold: 1, healthy_threshold: 1 }}"
    proxy = Proxy(scratch, [f'"127.0.0.1:{port}"'], check.format('"/ok?full=1"'))
    healthy = lambda: proxy.endpoints()[f"127.0.0.1:{port}"]["healthy"]
    assert proxy.get("/ok")[0] == 204 and healthy()
    proxy.reload([f'"127.0.0.1:{port}"'], check.format("/bad"))
    eventually(lambda: not healthy(), "500 is unhealthy")
    proxy.reload([f'"127.0.0.1:{port}"'], check.format("/ok"))
    eventually(healthy, "204 is healthy")


# --- bounds and queues

def slow(handler):
    time.sleep(0.05)
    handler.say(200, "slow ")


def test_connections_over_the_bound_wait_their_turn(scratch):
    origin = Scripted(scratch, slow)
    proxy = Proxy(scratch, [origin], ", circuit_breakers: { connections: 2 }, queue_timeout: 15s")
    assert [status for status, _, _ in in_parallel(12, proxy.get)] == [200] * 12
    assert origin.most <= 2 and origin.requests == 12


def test_a_request_that_waits_too_long_is_refused(scratch):
    release = threading.Event()
    scratch.closers.append(release.set)
    origin = Scripted(scratch, lambda handler: (release.wait(HANG), handler.say(200, "held ")))
    proxy = Proxy(scratch, [origin], ", circuit_breakers: { connections: 1, pending: 1 }, queue_timeout: 300ms", workers=1)
    held = threading.Thread(target=proxy.get)
    held.start()
    eventually(lambda: origin.running == 1, "the only connection is taken")
    status, _, _ = proxy.get()
    assert status == 503
    assert proxy.metric('sluice_upstream_circuit_breaker_open{upstream="api",breaker="connections"}') == 1
    assert proxy.metric("sluice_upstream_circuit_breaker_refused_total") == 1
    # One may wait; who comes then is refused at once.
    waiting = threading.Thread(target=proxy.get)
    waiting.start()
    eventually(lambda: proxy.metric("sluice_upstream_pending_requests") == 1, "one waits")
    assert proxy.get()[0] == 503
    release.set()
    held.join(HANG)
    waiting.join(HANG)
    eventually(lambda: proxy.metric("sluice_upstream_pending_requests") == 0, "nobody waits")
    assert proxy.get()[0] == 200


def test_requests_over_the_bound_are_refused(scratch):
    release = threading.Event()
    scratch.closers.append(release.set)
    origin = Scripted(scratch, lambda handler: (release.wait(HANG), handler.say(200, "held ")))
    proxy = Proxy(scratch, [origin], ", circuit_breakers: { requests: 1 }")
    held = threading.Thread(target=proxy.get)
    held.start()
    eventually(lambda: origin.running == 1, "one is under way")
    assert proxy.get()[0] == 503
    assert proxy.metric('sluice_upstream_circuit_breaker_open{upstream="api",breaker="requests"}') == 1
    release.set()
    held.join(HANG)
    assert proxy.get()[0] == 200


def test_a_bound_for_each_endpoint(scratch):
    origins = [Scripted(scratch, slow) for _ in range(2)]
    proxy = Proxy(scratch, origins, ", circuit_breakers: { endpoint_connections: 1 }, queue_timeout: 15s", workers=1)
    assert [status for status, _, _ in in_parallel(10, proxy.get)] == [200] * 10
    assert [origin.most for origin in origins] == [1, 1]
    # The pooled connections are all that may be.
    assert proxy.metric('sluice_upstream_circuit_breaker_open{upstream="api",breaker="endpoint_connections"}') == 1
    assert proxy.metric('sluice_upstream_circuit_breaker_open{upstream="api",breaker="connections"}') == 0


# --- retries

def test_a_503_is_tried_elsewhere(scratch):
    bad, good = Nginx(scratch, "bad", extra="location /x { return 503; }"), Nginx(scratch, "good", extra="location /x { return 200 \"good \"; }")
    proxy = Proxy(scratch, [bad, good], ", retry: { retry_on: [503] }, outlier_detection: { consecutive_5xx: 0 }")
    assert {proxy.get("/x")[:2] for _ in range(10)} == {(200, "good")}


def test_retry_after_is_waited_for_and_a_long_one_goes_to_the_client(scratch):
    seen = []

    def busy(handler):
        seen.append(time.monotonic())
        if handler.path == "/long":
            return handler.say(503, "", Retry_After="120")
        handler.say(503, "", Retry_After="1") if len(seen) == 1 else handler.say(200, "ok ")
    origin = Scripted(scratch, busy)
    proxy = Proxy(scratch, [origin], ", retry: { retry_on: [503], max_retry_after: 2s }, outlier_detection: { consecutive_5xx: 0 }")
    assert proxy.get()[0] == 200
    assert len(seen) == 2 and seen[1] - seen[0] >= 1
    status, _, head = proxy.get("/long")
    assert status == 503 and "retry-after: 120" in head.lower()
    assert len(seen) == 3


@pytest.mark.parametrize("asks", [lambda: "18446744074", lambda: "9" * 40, lambda: email.utils.formatdate(time.time() + 18446744074, usegmt=True)],
                         ids=["seconds", "more digits", "date"])
def test_who_asks_for_more_patience_than_can_be_told_is_not_asked_again(scratch, asks):
    """2^64 ns are 18446744073.7 s."""
    origin = Scripted(scratch, lambda handler: handler.say(503, "", Retry_After=asks()))
    proxy = Proxy(scratch, [origin], ", retry: { retry_on: [503], max_retry_after: 2s }, outlier_detection: { consecutive_5xx: 0 }")
    assert proxy.get()[0] == 503 and origin.requests == 1


def test_a_try_that_takes_too_long_is_made_elsewhere(scratch):
    release = threading.Event()
    scratch.closers.append(release.set)
    stuck = Scripted(scratch, lambda handler: (release.wait(HANG), handler.say(200, "late ")))
    good = Nginx(scratch, "good")
    proxy = Proxy(scratch, [stuck, good], ", retry: { retry_on: [504], per_try_timeout: 200ms }, outlier_detection: { consecutive_5xx: 0 }")
    assert {proxy.get()[:2] for _ in range(4)} == {(200, "good")}
    assert stuck.requests >= 1
    failed = f'sluice_upstream_responses_failed_total{{upstream="api",endpoint="127.0.0.1:{stuck.port}",reason="timeout"}}'
    eventually(lambda: proxy.metric(failed) == stuck.requests, "each is counted")
    # Without a retry it is the client's timeout.
    proxy.reload([stuck], ", retry: { attempts: 0, per_try_timeout: 200ms }")
    assert proxy.get()[0] == 504


def test_retries_are_bounded(scratch):
    origin = Scripted(scratch, lambda handler: handler.say(503))
    proxy = Proxy(scratch, [origin], ", retry: { retry_on: [503], attempts: 3, back_off: 1ms }, outlier_detection: { consecutive_5xx: 0 }")
    assert proxy.get()[0] == 503
    assert origin.requests == 4


def test_retries_at_a_time_are_bounded(scratch):
    """circuit_breakers.retries: while one is under way, nobody else's failure is tried again."""
    release, seen = threading.Event(), collections.Counter()
    scratch.closers.append(release.set)

    def answer(handler):
        seen[handler.path] += 1
        if handler.path == "/held" and seen["/held"] == 2:
            release.wait(HANG)
            return handler.say(200, "late ")
        handler.say(503)
    origin = Scripted(scratch, answer)
    proxy = Proxy(scratch, [origin], ", retry: { retry_on: [503], back_off: 1ms }, circuit_breakers: { retries: 1 }, "
                  "outlier_detection: { consecutive_5xx: 0 }", workers=1)
    held = threading.Thread(target=lambda: proxy.get("/held"))
    held.start()
    eventually(lambda: seen["/held"] == 2, "a retry is under way")
    assert proxy.get("/other")[0] == 503 and seen["/other"] == 1
    assert proxy.metric("sluice_upstream_retries_refused_total") == 1
    assert proxy.metric('sluice_upstream_circuit_breaker_open{upstream="api",breaker="retries"}') == 1
    release.set()
    held.join(HANG)
    assert proxy.get("/other")[0] == 503 and seen["/other"] > 2, "its place is free again"


def half_a_request(port):
    """Its exchange ends without a try; it may be the one that served somebody before."""
    with connect(port) as client:
        client.sendall(b"GET / HTT")
        time.sleep(0.1)


def test_a_retry_that_finds_no_place_gives_its_share_back(scratch):
    release = threading.Event()
    scratch.closers.append(release.set)

    def answer(handler):
        if handler.path == "/held":
            release.wait(HANG)
            return handler.say(200, "late ")
        handler.say(503, "", Retry_After="1")
    origin = Scripted(scratch, answer)
    proxy = Proxy(scratch, [origin], ", retry: { attempts: 1, retry_on: [503] }, circuit_breakers: { requests: 1, retries: 1 }, "
                  "outlier_detection: { consecutive_5xx: 0 }", workers=1)
    for _ in range(2):
        release.clear()
        before = proxy.metric("sluice_upstream_retries_total")
        refused = []
        waiting = threading.Thread(target=lambda: refused.append(proxy.get()[0]))
        waiting.start()
        eventually(lambda: proxy.metric("sluice_upstream_retries_total") > before, "it is to be tried again")
        held = threading.Thread(target=lambda: proxy.get("/held"))
        held.start()
        waiting.join(HANG)
        assert refused == [503]
        half_a_request(proxy.port)
        release.set()
        held.join(HANG)
    assert proxy.get("/held")[0] == 200


def test_waits_between_tries_differ(scratch):
    """Without jitter, all that failed together would come back together."""
    last, gaps, lock = {}, [], threading.Lock()

    def answer(handler):
        with lock:
            if handler.path in last:
                gaps.append(time.monotonic() - last[handler.path])
                return handler.say(200, "ok ")
            last[handler.path] = time.monotonic()
        handler.say(503)
    origin = Scripted(scratch, answer)
    proxy = Proxy(scratch, [origin], ", retry: { retry_on: [503], back_off: 300ms, max_back_off: 300ms }, outlier_detection: { consecutive_5xx: 0 }")
    assert all(proxy.get(f"/{i}")[0] == 200 for i in range(12))
    assert max(gaps) - min(gaps) > 0.02, gaps


# --- endpoints that go

def test_a_removed_endpoint_leaves_no_series_and_no_probe(scratch):
    """apache/apisix#10636, #13141."""
    origins = [Nginx(scratch, "kept"), Nginx(scratch, "removed")]
    check = ", health_check: { http: /, interval: 100ms, timeout: 100ms }"
    proxy = Proxy(scratch, origins, check)
    eventually(lambda: {proxy.get()[1] for _ in range(4)} == {"kept", "removed"}, "both serve")
    gone = f"127.0.0.1:{origins[1].port}"
    assert gone in proxy.page()
    proxy.reload(origins[:1], check)
    eventually(lambda: gone not in proxy.page(), "its series have gone")
    assert list(proxy.endpoints()) == [f"127.0.0.1:{origins[0].port}"]
