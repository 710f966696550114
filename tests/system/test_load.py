"""Under load: reloads, a stop, logs that nobody reads, a mix of faults. No request fails, nothing grows.

SLUICE_LONG=1 (tests/run.sh --nightly) makes the soaks long.
"""
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import HANG, SANITIZED, Nginx, Sluice, eventually, read_all
from scripted import GET, GET_CLOSE, Origin, Proxy, read_answer, serving, status_of

LONG = os.environ.get("SLUICE_LONG") == "1"


def h2load(port, requests, *more):
    return subprocess.Popen(["h2load", "-n", str(requests), "-c", "16", *more, f"http://127.0.0.1:{port}/"],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def assert_all_succeeded(load, requests):
    output, _ = load.communicate(timeout=600)
    counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    assert counts, output
    assert [int(n) for n in counts.groups()] == [requests, requests, 0, 0, 0], output
    assert re.search(rf"status codes: {requests} 2xx", output), output


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("protocol", ["--h1", "-m10"])
def test_a_hundred_reloads_under_load(scratch, protocol):
    """Each reload changes what serves: the other origin, another limit, another timeout."""
    origins = [Nginx(scratch, f"origin-{i}") for i in (1, 2)]
    proxy = Proxy(scratch, [origins[0].port])
    requests, done = 6_000 if SANITIZED else 60_000, 0
    load = h2load(proxy.port, requests, protocol)
    for i in range(100):
        proxy.write_policy(proxy.policy_text(
            endpoints=f'"127.0.0.1:{origins[i % 2].port}"', listener=f"timeouts: {{ idle: {60 + i}s }}",
            route=f"timeout: {30 + i}s, limits: [many]",
            extra=f"limits: {{ many: {{ key: [client_ip], rate: {1_000_000 - i}/s, burst: 10000000 }} }}"))
        proxy.ctl("reload")
        done += 1
        if load.poll() is not None:  # a quick machine: more load for the reloads that are left
            assert_all_succeeded(load, requests)
            load = h2load(proxy.port, requests, protocol)
    assert_all_succeeded(load, requests)
    assert done == 100
    page = proxy.metrics()
    assert page.value("sluice_reloads_total", result="applied") >= 100
    assert page.value("sluice_reloads_total", result="refused") == 0
    assert page.value("sluice_requests_total", code="2xx") % requests == 0
    for code in ("none", "4xx", "5xx"):
        assert page.value("sluice_requests_total", code=code) == 0


def test_sigterm_under_load_fails_no_request(scratch):
    """Every request that was sent is answered, whole. A client that finds the connection closed before it has sent, or the
    listener gone, has lost nothing."""
    origin = Nginx(scratch)
    proxy = Proxy(scratch, [origin.port])
    answered, broken, stop = [0] * 8, [], threading.Event()

    def client(number):
        while not stop.is_set():
            try:
                connection = proxy.connect()
            except OSError:
                return  # nobody listens any more
            with connection:
                for i in range(100):
                    # Its own close is announced: what the gateway answers may be the last.
                    try:
                        connection.sendall(GET)
                        answer = read_answer(connection)
                    except AssertionError as error:
                        # Closed between two requests, before a byte: RFC 9112 section 9.5 has the client ask again.
                        if "closed within the head: b''" not in str(error) or i == 0:
                            broken.append(f"{number}.{i}: {error}")
                        break
                    except OSError as error:
                        if i == 0:
                            broken.append(f"{number}.{i}: {error}")
                        break
                    if status_of(answer) != 200:
                        broken.append(answer)
                    answered[number] += 1
                    if b"connection: close" in answer.lower():
                        break
    threads = [threading.Thread(target=client, args=(i,)) for i in range(len(answered))]
    for thread in threads:
        thread.start()
    eventually(lambda: min(answered) > 50, "all clients are at work")
    assert proxy.stop(signal.SIGTERM) == 0
    stop.set()
    for thread in threads:
        thread.join(HANG)
    assert broken == []


def test_sigterm_lets_a_long_answer_and_an_upload_finish(scratch):
    go_on = threading.Event()

    def slow(connection, _):
        head = connection.head()
        if head.startswith(b"POST"):
            connection.body(10)
            return connection.answer(b"got it")
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        assert go_on.wait(HANG)
        connection.send(b"56789")
    proxy = Proxy(scratch, [Origin(scratch, slow).port], workers=1)
    with proxy.connect() as reading, proxy.connect() as writing:
        reading.sendall(GET)
        assert reading.recv(10)
        writing.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
        eventually(lambda: proxy.metrics().value("sluice_requests_active") == 2, "both are under way")
        proxy.process.send_signal(signal.SIGTERM)

        def refused():
            try:
                proxy.connect(1).close()
            except OSError:
                return True
        eventually(refused, "new connections are refused")
        go_on.set()
        writing.sendall(b"56789")
        assert read_all(reading).endswith(b"56789")
        answer = read_all(writing)
        assert status_of(answer) == 200 and b"\r\nconnection: close\r\n" in answer.lower()
    assert proxy.process.wait(HANG) == 0


def test_requests_grow_nothing(scratch):
    """A million nightly. Memory after a warm-up stays; descriptors stay."""
    requests = 1_000_000 if LONG else 6_000 if SANITIZED else 60_000
    origin = Nginx(scratch)
    proxy = Proxy(scratch, [origin.port], upstream="timeouts: { idle: 1s }")

    def at_rest():
        for gauge in ("sluice_connections_active", "sluice_upstream_connections_active"):
            eventually(lambda: proxy.metrics().value(gauge) == 0, "the load is gone, and the pool empty")
        return proxy.metrics()
    for protocol in ("--h1", "-m10") * 2:
        assert_all_succeeded(h2load(proxy.port, 10_000, protocol), 10_000)
    page = at_rest()
    before, open_before = page.value("process_resident_memory_bytes"), page.value("process_open_fds")
    assert_all_succeeded(h2load(proxy.port, requests, "--h1"), requests)
    assert_all_succeeded(h2load(proxy.port, requests // 4, "-m10"), requests // 4)
    for _ in range(200):  # and connections of their own
        with proxy.connect() as client:
            client.sendall(GET_CLOSE)
            assert status_of(read_all(client)) == 200
    page = at_rest()
    assert SANITIZED or page.value("process_resident_memory_bytes") - before < 4 << 20
    assert page.value("process_open_fds") <= open_before + 8  # pipes for splicing are kept
    assert page.value("sluice_access_log_lines_total") + page.value("sluice_access_log_dropped_total") >= requests


# --- the access log is written by nobody's leave -------------------------------------------------


def test_access_log_into_a_pipe_that_nobody_reads(scratch):
    """Standard error is a full pipe: requests go on, lines are dropped and counted, a reload is not held up."""
    origin = Nginx(scratch)
    read_end, write_end = os.pipe()
    proxy = Stuck(scratch, [origin.port], write_end)
    try:
        for _ in range(2):
            assert_all_succeeded(h2load(proxy.port, 20_000, "--h1"), 20_000)
        eventually(lambda: proxy.metrics().value("sluice_access_log_dropped_total") > 1000, "lines are dropped and counted")
        proxy.ctl("reload")
        page = proxy.metrics()
        assert page.value("sluice_requests_total", code="2xx") == 40_000
        eventually(lambda: (lambda p: p.value("sluice_access_log_lines_total") +
                            p.value("sluice_access_log_dropped_total"))(proxy.metrics()) == 40_000, "every line is accounted for")
        # When somebody reads again, lines come again, whole ones.
        os.set_blocking(read_end, False)
        drained = b""
        wanted = b'/again'

        def again():
            nonlocal drained
            with proxy.connect() as client:
                client.sendall(b"GET /again HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                read_all(client)
            try:
                while chunk := os.read(read_end, 65536):
                    drained += chunk
            except BlockingIOError:
                pass
            return wanted in drained
        eventually(again, "lines come again")
        import json
        whole = [line for line in drained.split(b"\n")[:-1] if line.startswith(b"{") and wanted in line]
        assert all(json.loads(line) for line in whole) and whole
    finally:
        os.close(read_end)


class Stuck(Proxy):
    """A proxy whose standard error is a pipe."""

    def __init__(self, scratch, endpoints, write_end):
        self.write_end = write_end
        super().__init__(scratch, endpoints, name="stuck")

    def policy_text(self, **changed):
        return re.sub(r'path: "[^"]*"', "path: stderr", super().policy_text(**changed))

    def spawn(self, command):
        process = subprocess.Popen(command, stdout=self.log, stderr=self.write_end, stdin=subprocess.DEVNULL)
        os.close(self.write_end)
        return process

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"sluice ended with {self.process.returncode}")
        self.connect(1).close()
        return True


def test_access_log_onto_a_full_disk(scratch):
    origin = Nginx(scratch)
    proxy = Proxy(scratch, [origin.port])
    proxy.write_policy(re.sub(r'path: "[^"]*"', "path: /dev/full", proxy.policy_text()))
    proxy.ctl("reload")
    assert_all_succeeded(h2load(proxy.port, 5_000, "--h1"), 5_000)
    eventually(lambda: proxy.metrics().value("sluice_access_log_dropped_total") == 5_000, "every line is counted as lost")
    assert "No space left on device" in proxy.output()
    assert proxy.output().count("lines are lost") == 1, "said once, not for every line"


def test_access_log_into_a_named_pipe_without_a_reader(scratch):
    proxy = Proxy(scratch, [Origin(scratch, serving()).port])
    os.mkfifo(scratch.path + "/pipe")
    proxy.write_policy(re.sub(r'path: "[^"]*"', f'path: "{scratch.path}/pipe"', proxy.policy_text()))
    proxy.ctl("reload")
    eventually(lambda: "nobody reads" in proxy.output(), "the log says why it stays where it was")
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        assert status_of(read_all(client)) == 200
    assert proxy.logged(status=200)


# --- everything at once --------------------------------------------------------------------------


def misbehaving(connection, number):
    """Mostly well; now and then each of the ways to fail."""
    dice = random.Random(number)
    while connection.head():
        what = dice.randrange(12)
        if what == 0:
            return
        if what == 1:
            return connection.reset()
        if what == 2:
            return connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        if what == 3:
            return connection.send(b"garbage\r\n\r\n")
        if what == 4:
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe")
            return connection.reset()
        if what == 5:
            connection.answer(b"ok")
            return connection.send(b"more than was announced")
        if what == 6:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
            time.sleep(0.01)
            connection.send(b"abc")
        elif what == 7:
            connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            connection.answer(b"x" * 100_000)
        else:
            connection.answer(b"ok")


def misbehave(proxy, number, until):
    dice = random.Random(number)
    while time.monotonic() < until:
        try:
            with proxy.connect() as client:
                for _ in range(dice.randrange(1, 10)):
                    what = dice.randrange(10)
                    if what == 0:
                        client.sendall(b"GET / HT")
                        break
                    if what == 1:
                        client.sendall(GET)
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        break
                    if what == 2:
                        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
                        break
                    if what == 3:
                        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    elif what == 4:
                        client.sendall(GET * 20)
                        client.shutdown(socket.SHUT_WR)
                        read_all(client)
                        break
                    elif what == 5:
                        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
                    else:
                        client.sendall(GET)
                    client.recv(65536)
        except OSError:
            pass


def test_a_mix_of_faults_leaks_nothing(scratch):
    """Both sides misbehave at random (seeded). Afterwards every counter of what is open says none, and it still serves. Under
    AddressSanitizer its exit code tells of leaks and of anything worse."""
    seconds = 600 if LONG else 12
    proxy = Proxy(scratch, [Origin(scratch, misbehaving).port for _ in range(2)],
                  listener="timeouts: { head: 500ms, body_idle: 500ms, idle: 1s }",
                  upstream="timeouts: { connect: 500ms, first_byte: 500ms, body_idle: 500ms, idle: 1s }, "
                           "outlier_detection: { consecutive_5xx: 100, base_ejection_time: 1s }")
    origin = Nginx(scratch)
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=misbehave, args=(proxy, i, until)) for i in range(12)]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:  # reloads in the middle of it
        proxy.write_policy(proxy.policy_text(listener=f"timeouts: {{ head: {random.randrange(400, 600)}ms, idle: 1s }}"))
        time.sleep(0.5)
    for thread in threads:
        thread.join(HANG)
    proxy.write_policy(proxy.policy_text(endpoints=f'"127.0.0.1:{origin.port}"'))
    proxy.ctl("reload")
    for gauge in ("sluice_connections_active", "sluice_requests_active"):
        eventually(lambda: proxy.metrics().value(gauge) == 0, f"{gauge} is back to none")
    assert proxy.metrics().value("sluice_requests_total") > 100
    with proxy.connect() as client:
        client.sendall(GET_CLOSE)
        assert status_of(read_all(client)) == 200
    eventually(lambda: descriptors(proxy.pid) < 80, "no descriptor is left behind")
    assert proxy.stop(signal.SIGTERM) == 0, proxy.output()[-3000:]
