"""Compression of answers by real clients' Accept-Encoding, against nginx and a server that streams."""
import gzip
import os
import socket
import subprocess
import threading

import pytest

from harness import HANG, Nginx, Sluice, connect, curl, free_port, read_all
from scripted import Origin

VERSIONS = ["--http1.1", "--http2-prior-knowledge"]
TEXT = b"".join(b"line %d of a text that repeats itself\n" % i for i in range(20_000))


class Front:
    def __init__(self, scratch, compression="{}", endpoint=None):
        self.port = free_port()
        self.origin = None
        if endpoint is None:
            self.origin = Nginx(scratch, extra="""
    location /text { types { } default_type text/plain; }
    location /png { types { } default_type image/png; }
    location /frozen { types { } default_type text/plain; add_header Cache-Control "public, no-transform"; }
    location /split { types { } default_type text/plain; add_header Cache-Control public; add_header Cache-Control no-transform; }
    location /coded { types { } default_type text/plain; gzip on; gzip_types text/plain; }
""")
            for name in ("text", "png", "frozen", "split", "coded"):
                os.makedirs(f"{self.origin.directory}/{name}")
                with open(f"{self.origin.directory}/{name}/long", "wb") as file:
                    file.write(TEXT)
                with open(f"{self.origin.directory}/{name}/short", "wb") as file:
                    file.write(b"short\n")
            endpoint = self.origin.port
        self.sluice = Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state
workers: 1
logs: {{ access: {{ format: none }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{endpoint}"] }} }}
routes: [{{ upstream: api, compression: {compression} }}]
""")

    def get(self, path, accept, *more, version="--http1.1"):
        code, body, head = curl(version, "-H", f"Accept-Encoding: {accept}", *more, f"http://127.0.0.1:{self.port}{path}")
        assert code == 0, (code, head)
        fields = {}
        for line in head.strip().splitlines()[1:]:
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), []).append(value.strip())
        return fields, body


@pytest.mark.parametrize("version", VERSIONS)
def test_gzip_and_brotli(scratch, version):
    front = Front(scratch)
    fields, body = front.get("/text/long", "gzip", version=version)
    assert fields["content-encoding"] == ["gzip"] and "accept-encoding" in fields["vary"]
    assert fields["etag"][0].startswith('W/"') and "content-length" not in fields
    assert gzip.decompress(body) == TEXT and len(body) < len(TEXT) / 4
    fields, body = front.get("/text/long", "gzip, br", version=version)
    assert fields["content-encoding"] == ["br"] and len(body) < len(TEXT) / 4
    for _ in range(3):  # compressors are used again
        code, body, _ = curl(version, "--compressed", "-H", "Accept-Encoding: br", f"http://127.0.0.1:{front.port}/text/long")
        assert code == 0 and body == TEXT
        code, body, _ = curl(version, "--compressed", "-H", "Accept-Encoding: gzip", f"http://127.0.0.1:{front.port}/text/long")
        assert code == 0 and body == TEXT


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path, accept", [
    ("/text/long", "identity"), ("/text/long", ""), ("/text/long", "gzip;q=0, br;q=0"), ("/text/long", "*;q=0"), ("/text/long", "zstd"),
    ("/text/long", "gzip;q=0.5, identity;q=1"), ("/text/short", "gzip"), ("/png/long", "gzip"), ("/frozen/long", "gzip"),
    ("/split/long", "gzip"),
])
def test_what_stays_as_it_is(scratch, version, path, accept):
    front = Front(scratch)
    fields, body = front.get(path, accept, version=version)
    assert "content-encoding" not in fields
    assert body == (TEXT if path.endswith("long") else b"short\n")
    assert fields["content-length"] == [str(len(body))]


def test_q_values_choose(scratch):
    front = Front(scratch)
    assert front.get("/text/long", "br;q=0.1, gzip;q=0.9")[0]["content-encoding"] == ["gzip"]
    assert front.get("/text/long", "br;q=0, *;q=0.5")[0]["content-encoding"] == ["gzip"]
    assert front.get("/text/long", "*")[0]["content-encoding"] == ["br"]


def test_coded_partial_and_head(scratch):
    front = Front(scratch)
    fields, body = front.get("/coded/long", "gzip")
    assert fields["content-encoding"] == ["gzip"] and gzip.decompress(body) == TEXT
    fields, body = front.get("/text/long", "gzip", "-r", "0-99")
    assert "content-encoding" not in fields and body == TEXT[:100]
    fields, body = front.get("/text/long", "gzip", "-I")
    assert fields["content-encoding"] == ["gzip"] and "content-length" not in fields
    fields, _ = front.get("/text/short", "gzip", "-I")
    assert "content-encoding" not in fields and fields["content-length"] == ["6"]


def answering(status, fields):
    """A script of an origin that answers everything so, without a body."""
    def script(connection, _):
        while connection.head():
            connection.send(f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n{fields}\r\n".encode())
    return script


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("status", ["200 OK", "302 Found", "404 Not Found"])
def test_an_empty_answer_keeps_its_length(scratch, status, version):
    """Without it a client of HTTP/1.1 waits for the connection's end, however long."""
    front = Front(scratch, endpoint=Origin(scratch, answering(status, "Content-Length: 0\r\n")).port)
    fields, body = front.get("/", "gzip, br", version=version)
    assert body == b"" and fields["content-length"] == ["0"] and "content-encoding" not in fields


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("status, tag", [("204 No Content", '"a"'), ("304 Not Modified", 'W/"a"')])
def test_what_never_has_a_body_has_no_coding(scratch, status, tag, version):
    """The validator of a 304 is that of the coded answer, or a cache would not find it again."""
    front = Front(scratch, endpoint=Origin(scratch, answering(status, 'ETag: "a"\r\n')).port)
    fields, _ = front.get("/", "gzip", version=version)
    assert "content-encoding" not in fields and fields["etag"] == [tag]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("accept, coded", [("gzip", True), ("identity", False)])
def test_digests_are_of_what_is_sent(scratch, version, accept, coded):
    """Of the body without its coding they would make a client throw the answer away (RFC 9530, RFC 3230, RFC 1864)."""
    names = ["content-digest", "repr-digest", "digest", "content-md5"]
    def script(connection, _):
        while connection.head():
            connection.answer(TEXT, fields=b"Content-Type: text/plain\r\n" + b"".join(b"%s: x\r\n" % name.encode() for name in names))
    front = Front(scratch, endpoint=Origin(scratch, script).port)
    fields, body = front.get("/", accept, version=version)
    assert (gzip.decompress(body) if coded else body) == TEXT
    assert [name for name in names if name in fields] == ([] if coded else names)


def streaming(kind):
    """An origin that waits for a byte from its test before each piece that it sends."""
    listening = socket.create_server(("127.0.0.1", 0))
    go = threading.Semaphore(0)

    def serve():
        peer = listening.accept()[0]
        while b"\r\n\r\n" not in peer.recv(65536):
            pass
        peer.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for i in range(3):
            go.acquire(timeout=HANG)
            piece = f"data: {i}\n\n".encode()
            peer.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        peer.sendall(b"0\r\n\r\n")
        peer.close()

    threading.Thread(target=serve, daemon=True).start()
    return listening, go


@pytest.mark.parametrize("kind, coded", [("text/event-stream", False), ("text/plain", True)])
def test_streams_are_not_held_back(scratch, kind, coded):
    listening, go = streaming(kind)
    with listening:
        front = Front(scratch, endpoint=listening.getsockname()[1])
        process = subprocess.Popen(["curl", "-sN", *(["--compressed"] if coded else ["-H", "Accept-Encoding: gzip"]), f"http://127.0.0.1:{front.port}/"], stdout=subprocess.PIPE)
        try:
            for i in range(3):
                go.release()
                assert process.stdout.readline() == f"data: {i}\n".encode()  # before the next is sent
                assert process.stdout.readline() == b"\n"
            assert process.wait(HANG) == 0
        finally:
            process.kill()


def test_small_answers_one_after_the_other(scratch):
    """Each goes out whole with its head; the writer of chunks begins anew with every answer."""
    front = Front(scratch)
    with open(f"{front.origin.directory}/text/small", "wb") as file:
        file.write(TEXT[:3000])
    for _ in range(60):
        with connect(front.port) as connection:
            connection.sendall(b"GET /text/small HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n")
            assert read_all(connection).startswith(b"HTTP/1.1 200")
    assert front.sluice.process.poll() is None
