"""A few hundred raw requests through Sluice, HAProxy and nginx, each before an origin that records what reaches it.

Sluice may refuse what the others forward. What it forwards must be what one of the others forwards too: where it forwards
what both refuse, or forwards it otherwise than both, the reason stands in REASONS.
"""
import os
import re
import socket
import threading

import pytest

from differential_cases import cases
from harness import Process, Scratch, eventually, free_port
from scripted import Origin, Proxy

NORMAL_PATH = ("routes match the normalised path, and the upstream gets what was matched: dot segments, empty segments and "
               "needless escapes are gone, the escapes that stay are in capitals (RFC 3986 section 6.2.2)")
TARGET_HOST = ("the host of an absolute target replaces the Host field (RFC 9112 section 3.2.2), and is forwarded as it was "
               "written, in the form that origins expect")
# name: why Sluice does otherwise.
REASONS = {
    **{"target " + target: NORMAL_PATH for target in (
        "/%41", "/%7Euser", "/%2f", "/.", "/./a", "/a/.", "/a/..", "/a/../b", "/%2e", "/a/%2e%2e/b", "/a/.%2e/b", "//a", "/a//b",
        "///", "/a/./", "/%0a", "/a%0d%0ab", "//a/x")},
    **{"hostile_" + name: NORMAL_PATH for name in ("dot_segments", "encoded_dots", "double_slash", "encoded_crlf_kept")},
    **{"target " + target: TARGET_HOST for target in ("HTTP://A/x", "http://a:80/x", "http://b/x", "http://[::1]/x")},
    "structure_absolute_other_host": TARGET_HOST,
    "field Connection: close, X-A\r\nX-A: 1": "what Connection names belongs to this hop (RFC 9110 section 7.6.1)",
    "structure_version_10_no_host": "an origin asked by HTTP/1.1 needs a Host: the endpoint's name (RFC 9112 section 3.2)",
}


class Recorder(Origin):
    """Keeps each request as (method, target, host, x-fields, body), read the lenient way, and answers it."""

    def __init__(self, scratch):
        self.seen = []
        super().__init__(scratch, self.record)

    def record(self, connection, _):
        while head := connection.head():
            lines = head.split(b"\r\n")
            method, _, rest = lines[0].partition(b" ")
            target = rest.rpartition(b" ")[0]
            fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
            body = self.body(connection, dict(fields))
            self.seen.append((method, target, tuple(v for n, v in fields if n == b"host"),
                              tuple(sorted(f for f in fields if f[0] in (b"x-a", b"x-b", b"x-t", b"cookie", b"upgrade", b"te"))), body))
            connection.answer(b"" if method == b"HEAD" else b"ok")

    @staticmethod
    def body(connection, fields):
        if fields.get(b"expect", b"").lower() == b"100-continue":
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
            body = b""
            while True:
                while b"\r\n" not in connection.received:
                    connection.received += connection.raw.recv(65536) or b"\r\n"
                line, _, connection.received = connection.received.partition(b"\r\n")
                size = int(line.split(b";")[0].strip() or b"0", 16)
                if size == 0:
                    while not connection.received.startswith(b"\r\n") and b"\r\n\r\n" not in connection.received:
                        connection.received += connection.raw.recv(65536) or b"\r\n\r\n"
                    connection.received = connection.received.partition(b"\r\n" if connection.received.startswith(b"\r\n") else b"\r\n\r\n")[2]
                    return body
                body += connection.body(size)
                connection.body(2)
        return connection.body(int(fields.get(b"content-length", b"0") or b"0"))


class HAProxy(Process):
    def __init__(self, scratch, origin):
        self.port = free_port()
        config = scratch.write("haproxy.cfg", f"""
global
  log stderr format raw local0 err
defaults
  mode http
  timeout client 2s
  timeout server 2s
  timeout connect 2s
  timeout http-request 700ms
frontend f
  bind 127.0.0.1:{self.port}
  default_backend b
backend b
  server s 127.0.0.1:{origin}
""")
        super().__init__(scratch, "haproxy", ["/usr/sbin/haproxy", "-db", "-f", config])
        eventually(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() or True, "haproxy listens")


class NginxProxy(Process):
    def __init__(self, scratch, origin):
        self.port = free_port()
        directory = os.path.join(scratch.path, "nginx-proxy")
        os.makedirs(directory)
        config = scratch.write("nginx-proxy.conf", f"""
{"user root; " if os.getuid() == 0 else ""}daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {directory}; proxy_temp_path {directory}; client_header_timeout 1s; client_body_timeout 1s;
  server {{ listen 127.0.0.1:{self.port};
    location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_read_timeout 2s; }} }} }}
""")
        super().__init__(scratch, "nginx-proxy", ["nginx", "-c", config, "-e", f"{directory}/error.log"])
        eventually(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() or True, "nginx listens")


def ask(port, raw):
    """The final statuses that come back for one raw request; [] when the connection is closed without a word."""
    pipelined = raw.startswith(b"GET /1 ") or b"\r\n\r\nhelloGET /2 " in raw  # all of them are answered
    data, wanted = b"", raw.count(b"HTTP/1.") if pipelined else 1
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(1.5)
        try:
            connection.sendall(raw)
            while len(final(data)) < wanted or not data.endswith((b"ok", b"\r\n\r\n", b"\n")):
                chunk = connection.recv(65536)
                if not chunk:
                    break
                data += chunk
        except OSError:
            pass
    return final(data)


def final(data):
    return [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d{3})", data) if s[:1] != b"1"]


def through(proxy, recorder, raw):
    before = len(recorder.seen)
    statuses = ask(proxy.port, raw)
    return statuses, recorder.seen[before:]


@pytest.fixture(scope="module")
def everyone():
    with Scratch() as scratch:
        recorders = [Recorder(scratch) for _ in range(3)]
        yield [(Proxy(scratch, [recorders[0].port], workers=1,
                      listener="timeouts: { head: 700ms, body_idle: 700ms }", upstream="retry: { retry_on: [] }"), recorders[0]),
               (HAProxy(scratch, recorders[1].port), recorders[1]), (NginxProxy(scratch, recorders[2].port), recorders[2])]


def judge(name, raw, everyone):
    """None, or what Sluice does otherwise."""
    results = [None] * 3

    def run(i):
        results[i] = through(*everyone[i], raw)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (statuses, sluice), (_, haproxy), (_, nginx) = results
    if not sluice:
        return None if statuses != [200] else "answers 200 though nothing reached the origin"
    if not haproxy and not nginx:
        return f"forwards what both refuse: {sluice}"
    if sluice not in (haproxy, nginx):
        return f"forwards otherwise: {sluice}\n  haproxy: {haproxy}\n  nginx:   {nginx}"
    return None


def test_sluice_forwards_nothing_that_its_peers_do_not(everyone):
    otherwise, needless = {}, set(REASONS)
    all_of = cases()
    assert len(all_of) > 300
    for name, raw in all_of.items():
        found = judge(name, raw, everyone)
        if found is None:
            continue
        needless.discard(name)
        if name not in REASONS:
            otherwise[name] = f"{raw[:120]!r}\n  {found}"
    assert not otherwise, "\n".join(f"{name}: {what}" for name, what in otherwise.items())
    assert not needless, f"reasons that explain nothing any more: {needless}"
