"""Spans by OTLP/HTTP: what they say, whose they are, and that nobody waits for a collector."""
import http.client
import re
import socket
import time

import pytest

from ai_client import CALLERS, Gateway
from harness import HANG, Nginx, Sluice, curl, eventually, exchange, free_port
from otlp import Collector, attributes

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Traced:
    def __init__(self, scratch, collector=None, sample="100%", more="", endpoints=None, routes=None):
        self.scratch, self.port, self.metrics = scratch, free_port(), free_port()
        self.collector = collector or Collector(scratch)
        self.origin = Nginx(scratch, extra='location /ids { default_type text/plain; return 200 "$http_traceparent"; } '
                            "location /down { return 503; }")
        self.endpoints = endpoints or [self.origin.port]
        self.routes = routes or "[{ name: ids, path: /ids, upstream: api }, { name: down, path: /down, upstream: api }, { path: /away, redirect: { prefix: /x } }]"
        self.sluice = Sluice(scratch, self.policy(sample, more))

    def policy(self, sample="100%", more="", tracing=None):
        if tracing is None:
            tracing = f'tracing: {{ endpoint: "http://127.0.0.1:{self.collector.port}", sample: {sample}, service: edge }}'
        return f"""
version: 1
state_dir: {self.scratch.path}/state
workers: 1
metrics: {{ bind: "127.0.0.1:{self.metrics}" }}
logs: {{ access: {{ format: json, path: {self.scratch.path}/access.log }} }}
{tracing}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
upstreams: {{ api: {{ endpoints: [{", ".join(f'"127.0.0.1:{port}"' for port in self.endpoints)}], lb_policy: round_robin,
              retry: {{ retry_on: [connect_failure, "503"], attempts: 2 }} }} }}
routes: {self.routes}
{more}
"""

    def get(self, path="/ids", *options):
        code, body, head = curl(*options, f"http://127.0.0.1:{self.port}{path}")
        assert code == 0
        return int(head.split()[1]), body.decode()

    def spans(self, count):
        """All of them, once there are `count`."""
        def enough():
            spans = self.collector.spans()
            return spans if len(spans) >= count else None
        spans = eventually(enough, f"{count} spans")
        assert len(spans) == count, spans
        return spans

    def metric(self, name):
        page = curl(f"http://127.0.0.1:{self.metrics}/metrics")[1].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.M)
        return float(found.group(1))


def test_a_request_its_decision_and_its_try(scratch):
    before = time.time_ns()
    at = Traced(scratch)
    status, seen = at.get("/ids?secret=17")
    assert status == 200
    spans = at.spans(3)
    request, decision, attempt = spans.one("request"), spans.one("policy"), spans.one("attempt")
    assert len({span["traceId"] for span in spans}) == 1 and len({span["spanId"] for span in spans}) == 3
    assert "parentSpanId" not in request and decision["parentSpanId"] == attempt["parentSpanId"] == request["spanId"]
    # The upstream goes on from the try.
    assert seen == f"00-{request['traceId']}-{attempt['spanId']}-01"
    start, end = ([int(span[f"{which}TimeUnixNano"]) for span in (request, decision, attempt)] for which in ("start", "end"))
    assert before < start[0] <= start[1] <= end[1] <= start[2] <= end[2] <= end[0] < time.time_ns()
    assert request["flags"] == 0x101 and request["name"] == "GET /ids" and decision["name"] == "policy" and attempt["name"] == "GET"
    peer = attributes(request)
    port = peer.pop("network.peer.port")
    assert 0 < port < 65536 and peer == {
        "http.request.method": "GET", "url.scheme": "http", "url.path": "/ids", "server.address": "127.0.0.1", "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1", "network.protocol.version": "1.1", "http.route": "/ids", "http.response.status_code": 200,
        "sluice.listener": "web", "sluice.way": "bind", "sluice.route": "ids"}
    assert attributes(decision) == {"sluice.decision": "forward", "sluice.listener": "web", "sluice.route": "ids", "sluice.upstream": "api"}
    assert attributes(attempt) == {
        "http.request.method": "GET", "url.full": f"http://127.0.0.1:{at.origin.port}/ids", "server.address": "127.0.0.1",
        "server.port": at.origin.port, "http.response.status_code": 200, "sluice.upstream": "api"}
    assert not any("status" in span for span in spans)
    assert "secret" not in str(spans)  # a query may hold one
    resource = attributes(at.collector.resources[0])
    assert resource["service.name"] == "edge" and re.fullmatch(r"\d+\.\d+\.\d+", resource["service.version"])
    assert request["traceId"] in open(f"{scratch.path}/access.log").read()
    eventually(lambda: at.metric("sluice_trace_spans_exported_total") == 3, "counted")
    assert all(at.metric(f'sluice_trace_spans_dropped_total{{reason="{why}"}}') == 0 for why in ("full", "unsent", "rejected"))


def test_each_try_is_a_span(scratch):
    closed = free_port()
    at = Traced(scratch, endpoints=[closed])
    assert at.get()[0] == 502
    spans = at.spans(5)  # it is tried three times
    for attempt in spans.of("attempt"):
        assert attributes(attempt)["error.type"] == "connect_failure" and attempt["status"]["code"] == 2
        assert "http.response.status_code" not in attributes(attempt)
    request = spans.one("request")
    assert attributes(request)["http.response.status_code"] == 502 and attributes(request)["error.type"] == "502"
    assert request["status"]["code"] == 2 and "refused" in request["status"]["message"]


def test_tries_of_one_request_are_told_apart(scratch):
    at = Traced(scratch)
    assert at.get("/down")[0] == 503
    spans = at.spans(5)  # three tries
    tries = sorted(spans.of("attempt"), key=lambda span: int(span["startTimeUnixNano"]))
    assert [attributes(span).get("http.request.resend_count", 0) for span in tries] == [0, 1, 2]
    assert all(attributes(span)["error.type"] == "503" for span in tries) and len({span["spanId"] for span in tries}) == 3


@pytest.mark.parametrize("path, status, decision", [("/nowhere", 404, "refuse"), ("/away/a", 302, "answer")])
def test_what_goes_nowhere_has_no_try(scratch, path, status, decision):
    at = Traced(scratch)
    got, _ = at.get(path)
    assert got // 100 == status // 100
    spans = at.spans(2)
    said = attributes(spans.one("policy"))
    assert said["sluice.decision"] == decision
    assert (said.get("sluice.reason") == "no route") == (decision == "refuse")
    assert "status" not in spans.one("request")  # a 4xx is no error of the server's (semantic conventions)


def test_a_trusted_proxy_decides(scratch):
    at = Traced(scratch, sample="0%", more="trusted_proxies: [127.0.0.1]")
    _, seen = at.get("/ids", "-H", f"traceparent: 00-{TRACE}-{PARENT}-01")
    spans = at.spans(3)
    request = spans.one("request")
    assert (request["traceId"], request["parentSpanId"], request["flags"]) == (TRACE, PARENT, 0x301)
    assert seen == f"00-{TRACE}-{spans.one('attempt')['spanId']}-01"
    # Not sampled there: not here; nor without a parent.
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-00", at.get("/ids", "-H", f"traceparent: 00-{TRACE}-{PARENT}-00")[1])
    assert at.get()[1].endswith("-00")
    at.sluice.write_policy(at.policy(sample="100%", more="trusted_proxies: [127.0.0.1]"))
    at.sluice.ctl("reload")
    assert at.get("/ids", "-H", f"traceparent: 00-{TRACE}-{PARENT}-00")[1].endswith("-00")
    assert at.get()[1].endswith("-01")
    assert len({span["traceId"] for span in at.spans(6)}) == 2


def test_a_stranger_decides_nothing(scratch):
    at = Traced(scratch, sample="0%")
    assert TRACE not in at.get("/ids", "-H", f"traceparent: 00-{TRACE}-{PARENT}-01")[1]
    at.sluice.write_policy(at.policy(sample="100%"))
    at.sluice.ctl("reload")
    _, seen = at.get("/ids", "-H", f"traceparent: 00-{TRACE}-{PARENT}-00")
    assert TRACE not in seen and seen.endswith("-01")
    request = at.spans(3).one("request")
    assert "parentSpanId" not in request


def test_the_share_that_is_asked_for(scratch):
    at = Traced(scratch, sample="25%")
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=HANG)
    sampled = 0
    for _ in range(400):
        connection.request("GET", "/ids")
        sampled += connection.getresponse().read().endswith(b"-01")
    assert 50 < sampled < 150  # five standard deviations are 43
    at.spans(3 * sampled)


def test_without_tracing_nothing_is_sent_and_with_it_again(scratch):
    at = Traced(scratch)
    at.get()
    at.spans(3)
    at.sluice.write_policy(at.policy(tracing=""))
    at.sluice.ctl("reload")
    assert at.get()[1] == ""  # no traceparent of ours either
    at.sluice.write_policy(at.policy())
    at.sluice.ctl("reload")
    at.get()
    assert len(at.spans(6).of("request")) == 2


def test_hostile_requests_make_well_formed_spans(scratch):
    at = Traced(scratch)
    for target in (b'/ids/"quote"\\back', b"/ids/\xff\xfe\x80", b"/ids/" + b"x" * 4000, b"/ids/%00%22"):
        exchange(at.port, b"GET " + target + b" HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    exchange(at.port, b"BREW" * 20 + b" /ids HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    exchange(at.port, b"nonsense\r\n\r\n")
    eventually(lambda: len(at.collector.spans().of("request")) >= 2, "spans")  # spans() asserts that nothing was ill formed
    def other():
        return next((s for s in at.collector.spans().of("request") if attributes(s).get("http.request.method") == "_OTHER"), None)
    odd = eventually(other, "the odd method's span")
    assert odd["name"].startswith("HTTP") and attributes(odd)["http.request.method_original"] == "BREW" * 4


def burst(at, count):
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=HANG)
    for _ in range(count):
        connection.request("GET", "/ids")
        assert connection.getresponse().read()


def test_nobody_waits_for_a_collector_that_does_not_answer(scratch):
    at = Traced(scratch, Collector(scratch, lambda number: None))
    burst(at, 900)  # 2,700 spans; the ring has 2,048
    assert at.metric('sluice_trace_spans_dropped_total{reason="full"}') == 2700 - 2048
    assert at.metric("sluice_trace_spans_exported_total") == 0
    assert at.get()[0] == 200


def test_a_collector_that_is_busy_is_asked_again(scratch):
    at = Traced(scratch, Collector(scratch, lambda number: (503, {}, "{}") if number < 2 else (200, {}, "{}")))
    at.get()
    at.spans(3)
    assert at.collector.requests == 3 and at.metric("sluice_trace_spans_exported_total") == 3
    assert at.sluice.output().count("the collector does not take spans") == 1 and "the collector takes spans again" in at.sluice.output()


def test_a_collector_that_refuses_is_not(scratch):
    at = Traced(scratch, Collector(scratch, lambda number: (400, {}, "{}") if number == 0 else (200, {}, "{}")))
    at.get()
    eventually(lambda: at.metric('sluice_trace_spans_dropped_total{reason="unsent"}') == 3, "dropped")
    at.get()
    assert len(at.spans(3).of("request")) == 1


def test_what_a_collector_rejects_is_counted(scratch):
    answer = '{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}'
    at = Traced(scratch, Collector(scratch, lambda number: (200, {}, answer)))
    at.get()
    eventually(lambda: at.metric('sluice_trace_spans_dropped_total{reason="rejected"}') == 2, "counted")
    assert at.metric("sluice_trace_spans_exported_total") == 1
    assert 'the collector does not take all spans reason="too old"' in at.sluice.output()


def test_no_collector_at_all(scratch):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = probe.getsockname()[1]
    collector = Collector(scratch)
    collector.port, real = nobody, collector.port
    at = Traced(scratch, collector)
    burst(at, 10)
    eventually(lambda: "the collector does not take spans" in at.sluice.output(), "said")
    assert at.get()[0] == 200
    collector.port = real
    at.sluice.write_policy(at.policy())
    at.sluice.ctl("reload")
    at.spans(33)  # what waited goes to the new one


def test_a_model_is_named_after_the_conventions(scratch):
    collector = Collector(scratch)
    gateway = Gateway(scratch, models="    fast: { targets: [{ provider: anthropic, model: up-anthropic }] }",
                      top=f'tracing: {{ endpoint: "http://127.0.0.1:{collector.port}", sample: 100% }}\n')
    caller = CALLERS["openai"](gateway)
    assert caller.call("fast")[0] == 200
    assert caller.streamed("fast")[1]
    spans = eventually(lambda: len(collector.spans()) >= 6 and collector.spans(), "spans of two calls")
    for span in spans.of("attempt"):
        said = attributes(span)
        assert span["name"] == "chat up-anthropic"
        assert (said["gen_ai.operation.name"], said["gen_ai.provider.name"], said["gen_ai.request.model"]) == ("chat", "anthropic", "up-anthropic")
        assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (20, 10)
    assert "Bearer" not in str(spans) and "secret" not in str(spans)
    # A vendor is told nothing of our traces.
    assert not any("traceparent" in call["headers"] for call in gateway["anthropic"].calls)
