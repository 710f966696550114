"""What a route does besides forwarding, on real traffic: curl over HTTP/1.1 and h2c, nginx behind."""
import json
import os
import subprocess
import time

import pytest

from harness import HANG, Nginx, Sluice, connect, curl, exchange, free_port, read_all
from scripted import Origin, Proxy
from test_http2_origin_faults import Stream

VERSIONS = ["--http1.1", "--http2-prior-knowledge"]
ECHO = """
    location /echo { default_type application/json; client_max_body_size 0; add_header X-Powered-By php; add_header Server2 x;
      add_header Access-Control-Allow-Origin "https://wrong.example";
      return 200 '{"uri":"$request_uri","host":"$http_host","client":"$http_x_client","internal":"$http_x_internal","twice":"$http_x_twice","method":"$request_method"}'; }
    location /put/ { dav_methods PUT; create_full_put_path on; client_max_body_size 0; }
"""


class Front:
    def __init__(self, scratch, routes, port=None, more=""):
        self.scratch, self.port = scratch, free_port()
        self.origin = Nginx(scratch, extra=ECHO)
        self.sluice = Sluice(scratch, self.policy(routes, more))

    def policy(self, routes, more=""):
        return f"""version: 1
state_dir: {self.scratch.path}/state
workers: 1
logs: {{ access: {{ format: none }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{self.origin.port}"] }} }}
routes:
{routes}
{more}
"""

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path, *arguments, version="--http1.1"):
        """(status, fields as lower-case lists, body)"""
        code, body, head = curl(version, *arguments, self.url(path))
        assert code == 0, (code, head, body)
        lines = head.strip().splitlines()
        blocks = [i for i, line in enumerate(lines) if line.startswith("HTTP/")]
        lines = lines[blocks[-1]:]
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), []).append(value.strip())
        return int(lines[0].split()[1]), fields, body.decode()

    def echo(self, path, *arguments, version="--http1.1"):
        status, fields, body = self.get(path, *arguments, version=version)
        assert status == 200, (status, body)
        return json.loads(body)


@pytest.mark.parametrize("version", VERSIONS)
def test_header_changes(scratch, version):
    front = Front(scratch, """
  - upstream: api
    name: main
    request_headers: { set: { x-client: "%client_ip%/%route%/%host%/%scheme%" }, add: { x-twice: "%method% %path%" }, remove: [X-Internal] }
    response_headers: { set: { server: sluice, x-from: "%upstream% %endpoint%" }, remove: [x-powered-by] }
""")
    got = front.echo("/echo/a?q=1", "-H", "X-Client: forged", "-H", "x-internal: secret", version=version)
    assert got["client"] == "127.0.0.1/main/127.0.0.1/http"
    assert got["internal"] == ""
    assert got["twice"] == "GET /echo/a" and got["uri"] == "/echo/a?q=1"
    assert front.echo("/echo/a", "-H", "x-twice: one", version=version)["twice"].startswith("one")  # nginx shows the first
    _, fields, _ = front.get("/echo/a", version=version)
    assert fields["server"] == ["sluice"] and "x-powered-by" not in fields
    assert fields["x-from"] == [f"api 127.0.0.1:{front.origin.port}"]


@pytest.mark.parametrize("version", VERSIONS)
def test_rewrites(scratch, version):
    front = Front(scratch, """
  - { path: /v1, upstream: api, rewrite: { prefix: /echo, host: "api.internal:8080" } }
  - { path: { exact: /one }, upstream: api, rewrite: { path: /echo/whole } }
  - { path: /strip, upstream: api, rewrite: { prefix: / } }
""")
    got = front.echo("/v1/x%2Fy/../z?a=b", version=version)
    assert got["uri"] == "/echo/z?a=b" and got["host"] == "api.internal:8080"
    assert front.echo("/v1", version=version)["uri"] == "/echo"
    assert front.echo("/one?q", version=version)["uri"] == "/echo/whole?q"
    assert " /x " in front.get("/strip/x", version=version)[2]
    assert " / " in front.get("/strip", version=version)[2]


@pytest.mark.parametrize("version", VERSIONS)
def test_redirects_and_direct_responses(scratch, version):
    front = Front(scratch, """
  - { path: /secure, redirect: { scheme: https, status: "308" } }
  - { path: /old, redirect: { prefix: /new, status: "301" } }
  - { path: /host, redirect: { host: other.example, port: 8080, path: /there } }
  - { path: /down, direct_response: { status: 503, body: "closed for maintenance" }, response_headers: { set: { retry-after: "60", x-why: "%route%" } } }
  - { path: /empty, direct_response: { status: 204 } }
  - { path: /json, direct_response: { body: '{"ok":true}', content_type: application/json } }
  - path: /page
    direct_response:
      content_type: text/html
      body: |
        <h1>Closed</h1>
        \t<p>for maintenance</p>
""")
    status, fields, _ = front.get("/secure/a%20b?x=1", version=version)
    assert status == 308 and fields["location"] == ["https://127.0.0.1/secure/a%20b?x=1"]
    status, fields, _ = front.get("/old/deep/er?x", version=version)
    assert status == 301 and fields["location"] == [front.url("/new/deep/er?x")]
    status, fields, _ = front.get("/host", version=version)
    assert status == 302 and fields["location"] == ["http://other.example:8080/there"]
    status, fields, body = front.get("/down", version=version)
    assert (status, body) == (503, "closed for maintenance\n") and fields["x-why"] == ["web * /down"]
    status, fields, body = front.get("/empty", version=version)
    assert status == 204 and body == "" and "content-length" not in fields
    status, fields, body = front.get("/json", version=version)
    assert fields["content-type"] == ["application/json"] and json.loads(body) == {"ok": True}
    assert front.get("/page", version=version)[2] == "<h1>Closed</h1>\n\t<p>for maintenance</p>\n"
    assert b"closed" not in subprocess.run(["curl", "-sI", version, front.url("/down")], capture_output=True, timeout=HANG).stdout


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_is_the_end_of_it(scratch, status):
    front = Front(scratch, '\n  - { host: other.example, upstream: api }\n', more=f"default_route: {{ local: {status} }}")
    get = b"GET / HTTP/1.1\r\nHost: a.example\r\n"
    answers = exchange(front.port, get + b"\r\n" + get + b"Connection: close\r\n\r\n")
    first, second, rest = answers.split(b"\r\n\r\n")
    assert first.split()[1] == second.split()[1] == str(status).encode() and rest == b"", answers
    got, _, body = front.get("/", version="--http2-prior-knowledge")
    assert (got, body) == (status, "")


def test_a_redirect_lets_nothing_into_the_head(scratch):
    front = Front(scratch, '\n  - { redirect: { scheme: https } }\n')
    for path in (b"/%0d%0aX-Evil:1", b"/?q=%0d%0aX-Evil:1", b"/\\evil", b"//evil.example/x"):
        got = exchange(front.port, b"GET " + path + b" HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        assert b"\r\nX-Evil" not in got and b"ocation: https://evil" not in got, got


@pytest.mark.parametrize("version", VERSIONS)
def test_cors(scratch, version):
    front = Front(scratch, """
  - upstream: api
    methods: [GET, PUT]
    cors: { allow_origins: ["https://app.example", "https://*.app.example"], allow_methods: [PUT], allow_headers: [x-token], expose_headers: [x-id],
            allow_credentials: true, max_age: 10m }
""")
    preflight = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: PUT", "-H", "Access-Control-Request-Headers: x-token"]
    status, fields, body = front.get("/echo", *preflight, "-H", "Origin: https://x.app.example", version=version)
    assert status == 204 and body == ""
    assert fields["access-control-allow-origin"] == ["https://x.app.example"]
    assert fields["access-control-allow-methods"] == ["PUT"] and fields["access-control-allow-headers"] == ["x-token"]
    assert fields["access-control-max-age"] == ["600"] and fields["access-control-allow-credentials"] == ["true"]
    assert fields["vary"] == ["origin"]
    status, fields, _ = front.get("/echo", *preflight, "-H", "Origin: https://evil.example", version=version)
    assert status == 204 and "access-control-allow-origin" not in fields
    # The origin's own idea of it does not come through, whoever asks.
    status, fields, _ = front.get("/echo", "-H", "Origin: https://app.example", version=version)
    assert status == 200 and fields["access-control-allow-origin"] == ["https://app.example"]
    assert fields["access-control-expose-headers"] == ["x-id"]
    status, fields, _ = front.get("/echo", "-H", "Origin: https://evil.example", version=version)
    assert status == 200 and "access-control-allow-origin" not in fields
    # An OPTIONS that is no preflight is an ordinary request, which this route does not take.
    assert front.get("/echo", "-X", "OPTIONS", version=version)[0] == 404


@pytest.mark.parametrize("version", VERSIONS)
def test_max_body(scratch, version):
    front = Front(scratch, "\n  - { upstream: api, max_body: 64KiB }\n")
    small, large = front.scratch.path + "/small", front.scratch.path + "/large"
    for path, size in ((small, 65536), (large, 65537)):
        with open(path, "wb") as file:
            file.write(os.urandom(size))
    put = lambda path, name, *more: front.get(f"/put/{name}", "-T", path, *more, version=version)[0]
    assert put(small, "a") == 201
    assert put(large, "b") == 413
    chunked = ["-H", "Transfer-Encoding: chunked"] if version == "--http1.1" else []
    stdin = lambda path, name: subprocess.run(
        ["curl", "-s", version, "-T", "-", *chunked, "-o", "/dev/null", "-w", "%{http_code}", front.url(f"/put/{name}")],
        stdin=open(path, "rb"), capture_output=True, timeout=HANG).stdout
    assert stdin(small, "c") == b"201"
    assert stdin(large, "d") == b"413"
    stored = os.listdir(front.origin.directory + "/put")
    assert sorted(stored) == ["a", "c"]
    for name in stored:
        with open(f"{front.origin.directory}/put/{name}", "rb") as a, open(small, "rb") as b:
            assert a.read() == b.read()


def test_max_body_is_said_before_the_body_is_sent(scratch):
    front = Front(scratch, "\n  - { upstream: api, max_body: 1KiB }\n")
    with connect(front.port) as client:
        client.sendall(b"PUT /put/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    got = exchange(front.port, b"PUT /put/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n1\r\nx\r\n")
    assert got.startswith(b"HTTP/1.1 413 "), got


@pytest.mark.parametrize("version", VERSIONS)
def test_max_response_body(scratch, version):
    front = Front(scratch, "\n  - { upstream: api, max_response_body: 64KiB }\n")
    front.origin.file("ok", 65536)
    front.origin.file("big", 65537)
    status, _, _ = front.get("/files/ok", "-o", "/dev/null", version=version)
    assert status == 200
    status, _, body = front.get("/files/big", version=version)
    assert status == 502 and "max_response_body" in body


def unknown_length(kind, size):
    """An origin whose answer does not say how long it is: the first 40,000 bytes are with the client before the rest comes."""
    def script(connection, _):
        if kind == "http2":
            stream = Stream(connection)
            stream.answer()
            send = lambda data: stream.send(*[stream.data(data[i:i + 10_000]) for i in range(0, len(data), 10_000)])
            end = lambda: stream.send(stream.data(b"", end=True))
        else:
            connection.head()
            coded = kind == "chunked"
            connection.send(b"HTTP/1.1 200 OK\r\n" + (b"Transfer-Encoding: chunked\r\n\r\n" if coded else b"Connection: close\r\n\r\n"))
            send = lambda data: connection.send(b"%x\r\n%s\r\n" % (len(data), data) if coded else data)
            end = lambda: connection.send(b"0\r\n\r\n") if coded else None
        send(b"x" * 40_000)
        time.sleep(0.2)
        send(b"x" * (size - 40_000))
        end()
        if kind != "close":
            connection.until_closed()
    return script


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["chunked", "close", "http2"])
@pytest.mark.parametrize("size", [50_000, 50_001])
def test_max_response_body_of_unknown_length(scratch, version, kind, size):
    """Beyond the limit it is cut, so that nobody takes it for whole, and logged; up to it nothing happens."""
    origin = Origin(scratch, unknown_length(kind, size))
    proxy = Proxy(scratch, [origin.port], upstream="protocol: http2" if kind == "http2" else "", route="max_response_body: 50000B", workers=1)
    code, body, head = curl(version, f"http://127.0.0.1:{proxy.port}/")
    assert head.split()[1] == "200"
    line = proxy.logged(status=200)
    if size == 50_000:
        assert code == 0 and len(body) == size and "reason" not in line
    else:
        # 18: partial file, 56: reset, 92: stream error
        assert code in (18, 56, 92) and len(body) <= 50_000, (code, len(body))
        assert line["reason"] == "answer larger than max_response_body"


def test_canary_by_header(scratch):
    front = Front(scratch, """
  - { upstream: api, rewrite: { path: /echo/stable } }
  - { upstream: api, headers: [{ name: x-canary, exact: "1" }], rewrite: { path: /echo/canary } }
""")
    assert front.echo("/")["uri"] == "/echo/stable"
    assert front.echo("/", "-H", "X-Canary: 1")["uri"] == "/echo/canary"
    assert front.echo("/", "-H", "X-Canary: 2")["uri"] == "/echo/stable"


def test_changes_by_reload(scratch):
    front = Front(scratch, '\n  - { upstream: api, response_headers: { set: { x-policy: one } } }\n')
    assert front.get("/echo")[1]["x-policy"] == ["one"]
    front.sluice.write_policy(front.policy('\n  - { upstream: api, response_headers: { set: { x-policy: two } } }\n'))
    front.sluice.ctl("reload")
    assert front.get("/echo")[1]["x-policy"] == ["two"]
