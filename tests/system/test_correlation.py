"""What ties the records of several services together: request ids and W3C trace context."""
import json
import re

from harness import Nginx, eventually
from test_tls import Front, run

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def front(scratch, listener="protocol: http", trusted="", routes=None):
    origin = Nginx(scratch, extra='location /ids { default_type text/plain; add_header X-Request-Id theirs; '
                   'return 200 "[$http_x_request_id] [$http_traceparent] [$http_tracestate]\\n"; } '
                   "location /down { return 503; }")
    at = Front(scratch, listener, f'endpoints: ["127.0.0.1:{origin.port}"]', extra=trusted and f"trusted_proxies: {trusted}\n", routes=routes)
    at.sluice.write_policy(at.text.replace("format: text", "format: json"))
    eventually(lambda: at.sluice.status()["generation"] > 1, "JSON lines")
    return at


def ids(at, *arguments, path="/ids"):
    done = run("curl", "-sS", "-i", "--max-time", "20", *arguments, f"http://127.0.0.1:{at.port}{path}")
    head, body = done.stdout.decode().split("\r\n\r\n", 1)
    return head, body


def line_with(at, text):
    def find():
        with open(f"{at.scratch.path}/access.log") as log:
            return next((json.loads(line) for line in log if text in line and line.startswith("{")), None)
    return eventually(find, f"a line with {text}")


def test_answers_of_our_own_name_it_too(scratch):
    """What could not be read, and what no origin is asked for."""
    at = front(scratch, "request_id: return", routes='[{ path: /api, upstream: origin, cors: { allow_origins: ["https://app.example"] } }]')
    preflight = ("-X", "OPTIONS", "-H", "Origin: https://app.example", "-H", "Access-Control-Request-Method: PUT")
    for arguments, path, status in ((("-H", "bad header: x"), "/api", 400), (preflight, "/api", 204), ((), "/", 404)):
        head, _ = ids(at, *arguments, path=path)
        assert head.split()[1] == str(status), head
        made = re.search(rf"x-request-id: ({UUID})", head.lower()).group(1)
        assert line_with(at, made)["status"] == status


def test_an_id_is_made_logged_and_forwarded(scratch):
    at = front(scratch)
    for version in ("--http1.1", "--http2-prior-knowledge"):
        head, body = ids(at, version, "-H", "X-Request-Id: of-a-stranger")
        made = re.match(rf"\[({UUID})\] \[\] \[\]", body).group(1)
        assert head.lower().count("x-request-id") == 1  # the origin's own, untouched
        assert line_with(at, made)["path"] == "/ids"
        said = at.sluice.ctl("explain", "--request", made, "--log", f"{at.scratch.path}/access.log").stdout
        assert "route" in said and "logged" in said, said


def test_a_trusted_proxys_id_is_kept_if_it_can_do_no_harm(scratch):
    at = front(scratch, "request_id: return", trusted="[127.0.0.1]")
    head, body = ids(at, "-H", "X-Request-Id: edge-17")
    assert body.startswith("[edge-17]") and re.findall(r"(?i)x-request-id: (\S+)", head) == ["edge-17"]
    assert line_with(at, "edge-17")["status"] == 200
    for bad in ("a b", "a\"b", "x" * 65):
        assert re.match(rf"\[{UUID}\]", ids(at, "-H", f"X-Request-Id: {bad}")[1])
    assert re.match(rf"\[{UUID}\]", ids(at, "-H", "X-Request-Id: one", "-H", "X-Request-Id: two")[1])


def test_refusals_have_their_id_too(scratch):
    at = front(scratch, "request_id: return", routes="[{ path: /ids, upstream: origin }]")
    head, _ = ids(at, path="/nowhere")
    made = re.search(rf"(?i)x-request-id: ({UUID})", head).group(1)
    assert head.startswith("HTTP/1.1 404") and line_with(at, made)["status"] == 404


def test_without_ids_the_field_is_left_alone(scratch):
    at = front(scratch, "request_id: none")
    assert ids(at, "-H", "X-Request-Id: theirs-17")[1].startswith("[theirs-17]")
    assert ids(at)[1].startswith("[] ")


def test_a_route_may_set_its_own(scratch):
    at = front(scratch, routes='[{ upstream: origin, request_headers: { set: { x-request-id: "my-%request_id%" } } }]')
    assert re.match(rf"\[my-{UUID}\]", ids(at)[1])


def test_trace_context_passes_untouched(scratch):
    at = front(scratch)
    _, body = ids(at, "-H", f"traceparent: {PARENT}", "-H", "tracestate: a=1")
    assert body.strip().endswith(f"[{PARENT}] [a=1]")
    assert line_with(at, PARENT[3:35])["trace_id"] == PARENT[3:35]


def test_a_trusted_proxys_trace_goes_on_with_a_span_of_our_own(scratch):
    at = front(scratch, "trace_context: start", trusted="[127.0.0.1]")
    _, body = ids(at, "-H", f"traceparent: {PARENT}", "-H", "tracestate: a=1")
    trace, span, flags, state = re.search(r"\[00-(\w{32})-(\w{16})-(\w\w)\] \[(.*)\]", body).groups()
    assert trace == PARENT[3:35] and span != PARENT[36:52] and flags == "01" and state == "a=1"


def test_a_strangers_trace_is_not_joined(scratch):
    at = front(scratch, "trace_context: start, trace_sample: 100%")
    _, body = ids(at, "-H", f"traceparent: {PARENT}", "-H", "tracestate: a=1")
    trace, flags, state = re.search(r"\[00-(\w{32})-\w{16}-(\w\w)\] \[(.*)\]", body).groups()
    assert trace != PARENT[3:35] and flags == "01" and state == ""
    assert line_with(at, trace)["status"] == 200
