"""Clients that their users have: Chromium, grpcurl, and h2spec, which tries what RFC 9113 says. Nightly: large, or built from source."""
import base64
import hashlib
import http.server
import json
import os
import re
import shutil
import socketserver
import struct
import subprocess
import threading
from concurrent import futures

import pytest

from harness import HANG, Nginx, Process, eventually
from test_tls import Front, certificates

TOOLS = os.environ.get("SLUICE_TEST_TOOLS", os.path.expanduser("~/.cache/sluice-test-tools"))
H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"


def go_tool(module):
    """Built once, from a pinned version."""
    name = module.split("@")[0].rsplit("/", 1)[1]
    path = os.path.join(TOOLS, module.split("@")[1], name)
    if not os.path.exists(path):
        if not shutil.which("go"):
            pytest.skip("needs Go to build " + name)
        built = subprocess.run(["go", "install", module], capture_output=True, text=True,
                               env={**os.environ, "GOBIN": os.path.dirname(path), "GOFLAGS": "-p=1"})
        if built.returncode != 0:
            pytest.skip(f"{name} cannot be built: {built.stderr[-300:]}")
    return path


def secure_front(scratch, ca, endpoint, **more):
    return Front(scratch, f"tls: {{ {certificates(ca.issue('a.example'))} }}", f'endpoints: ["127.0.0.1:{endpoint}"]', **more)


# --- Chromium

PAGE = b"""<!doctype html><meta charset=utf-8><title>sluice</title><script>
async function main() {
  const bodies = await Promise.all([...Array(40).keys()].map(i => fetch("/data/" + i).then(r => r.text())));
  const posted = await fetch("/size", {method: "POST", body: "x".repeat(300000)}).then(r => r.text());
  const events = await new Promise((done, failed) => {
    const seen = [], source = new EventSource("/events");
    source.onmessage = e => { seen.push(e.data); if (seen.length == 3) { source.close(); done(seen); } };
    source.onerror = () => failed("events");
  });
  const socket = await new Promise((done, failed) => {
    const ws = new WebSocket("wss://" + location.host + "/ws");
    ws.onopen = () => ws.send("hello");
    ws.onmessage = e => { ws.close(); done(e.data); };
    ws.onerror = () => failed("websocket");
  }).catch(e => "failed: " + e);
  const entries = performance.getEntriesByType("resource").filter(e => e.name.includes("/data/"));
  return {bodies: bodies.length, whole: bodies.every((b, i) => b == "data " + i), posted, events, socket,
          page: performance.getEntriesByType("navigation")[0].nextHopProtocol, protocols: [...new Set(entries.map(e => e.nextHopProtocol))]};
}
main().catch(e => ({error: String(e)})).then(report => fetch("/report", {method: "POST", body: JSON.stringify(report)}));
</script>"""


class Site:
    """An origin over HTTP/1.1: a page, what it loads, a stream of events, a WebSocket that echoes."""

    def __init__(self, scratch):
        site = self
        self.report, self.reported = None, threading.Event()
        self.release = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def say(self, body, kind="text/plain"):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path == "/ws":
                    return self.echo()
                if self.path == "/events":
                    return self.events()
                self.say(PAGE, "text/html") if self.path == "/" else self.say(b"data " + self.path.rsplit("/", 1)[1].encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.say(str(len(body)).encode())
                if self.path == "/report":
                    site.report = json.loads(body)
                    site.reported.set()

            def events(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for number in range(3):
                    event = f"data: {number}\n\n".encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                site.release.wait(HANG)  # the answer has no end before the client has seen these
                self.close_connection = True

            def echo(self):
                key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                self.send_response(101)
                self.send_header("Upgrade", "websocket")
                self.send_header("Connection", "Upgrade")
                self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
                self.end_headers()
                self.close_connection = True
                head = self.rfile.read(2)
                if len(head) < 2:
                    return
                size, mask = head[1] & 127, self.rfile.read(4)
                text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(size)))
                self.wfile.write(struct.pack("BB", 0x81, len(text)) + text.upper())
                self.rfile.read(2)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        scratch.closers.append(lambda: (self.release.set(), self.server.shutdown(), self.server.server_close()))


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
def test_chromium(scratch, ca):
    site = Site(scratch)
    front = secure_front(scratch, ca, site.port)
    browser = Process(scratch, "chromium", [
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-quic",
        f"--user-data-dir={scratch.path}/chromium", "--ignore-certificate-errors", "--remote-debugging-port=0",
        f"--host-resolver-rules=MAP a.example:443 127.0.0.1:{front.port}", "https://a.example/"])
    assert site.reported.wait(120), browser.output()[-2000:]
    assert site.report == {"bodies": 40, "whole": True, "posted": "300000", "events": ["0", "1", "2"], "socket": "HELLO",
                           "page": "h2", "protocols": ["h2"]}, site.report
    assert front.metric("sluice_tls_handshakes_total", 'version="1.3"') >= 1


# --- grpcurl

PROTO = """syntax = "proto3"; package echo;
message Text { string value = 1; }
service Echo { rpc Unary(Text) returns (Text); rpc Both(stream Text) returns (stream Text); rpc Fail(Text) returns (Text); }
"""


@pytest.mark.parametrize("secure", [False, True])
def test_grpcurl(scratch, ca, secure):
    import grpc
    binary = go_tool(GRPCURL)
    scratch.write("echo.proto", PROTO)

    def fail(message, context):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not today")
    handler = grpc.method_handlers_generic_handler("echo.Echo", {
        "Unary": grpc.unary_unary_rpc_method_handler(lambda message, context: message),
        "Both": grpc.stream_stream_rpc_method_handler(lambda messages, context: messages),
        "Fail": grpc.unary_unary_rpc_method_handler(fail)})
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    scratch.closers.append(lambda: server.stop(None))
    listener = f"tls: {{ {certificates(ca.issue('a.example'))} }}" if secure else "protocol: http"
    front = Front(scratch, listener, f'endpoints: ["127.0.0.1:{port}"], protocol: http2')

    def call(method, *messages):
        how = ["-cacert", ca.cert, "-authority", "a.example", "-servername", "a.example"] if secure else ["-plaintext"]
        return subprocess.run([binary, *how, "-import-path", scratch.path, "-proto", "echo.proto", "-d", "@", f"127.0.0.1:{front.port}",
                               f"echo.Echo/{method}"], input="\n".join(json.dumps({"value": m}) for m in messages),
                              capture_output=True, text=True, timeout=HANG)

    assert json.loads(call("Unary", "hello").stdout) == {"value": "hello"}
    assert re.findall(r'"value": "(\w+)"', call("Both", "one", "two", "three").stdout) == ["one", "two", "three"]
    failed = call("Fail", "x")
    assert failed.returncode != 0 and "ResourceExhausted" in failed.stderr and "not today" in failed.stderr, failed


# --- h2spec

# Where Sluice answers otherwise than h2spec expects, and why.
CLOSED = "RFC 9113 section 5.1: frames on a closed stream MAY be an error; nghttp2 forgets such streams, and passes over what comes late"
EXCEPTIONS = {
    "3.5/2": "in clear text the port speaks HTTP/1.1 too, and says 400 in it before it closes",
    "5.1/8": CLOSED, "5.1/9": CLOSED, "5.1/11": CLOSED, "5.1/12": CLOSED,
    "5.1.1/2": "a smaller stream identifier is a closed stream's to nghttp2",
}


def h2spec_report(text):
    """{section/number: description} of what failed."""
    failed, section = {}, ""
    for line in text.splitlines():
        if found := re.match(r"\s+(\d[\d.]*)\. ", line):
            section = found.group(1)
        if found := re.match(r"\s+\S* ?(\d+): (.*)", line):
            if "\u00d7" in line or "x " in line.split(":")[0]:
                failed[f"{section}/{found.group(1)}"] = found.group(2)
    return failed


@pytest.mark.parametrize("secure", [False, True])
def test_h2spec(scratch, ca, secure):
    binary = go_tool(H2SPEC)
    origin = Nginx(scratch)
    front = secure_front(scratch, ca, origin.port) if secure else Front(scratch, "protocol: http", f'endpoints: ["127.0.0.1:{origin.port}"]')
    how = ["-t", "-k"] if secure else []
    done = subprocess.run([binary, "-h", "127.0.0.1", "-p", str(front.port), "-o", "2", *how], capture_output=True, text=True, timeout=600)
    failed = h2spec_report(done.stdout.split("Failures:")[-1] if "Failures:" in done.stdout else "")
    assert set(failed) <= set(EXCEPTIONS), done.stdout[-6000:]
    passed = int(re.search(r"(\d+) passed", done.stdout).group(1))
    assert passed >= 100, done.stdout[-500:]
    assert eventually(lambda: front.sluice.process.poll() is None, "sluice runs")
