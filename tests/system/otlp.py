"""A collector for OTLP over HTTP that takes nothing which the protocol does not say.

The messages are those of opentelemetry/proto/collector/trace/v1/trace_service.proto (1.x), in the JSON encoding that the OTLP
specification asks for: lowerCamelCase names, ids in hexadecimal, 64-bit integers as decimal strings, enumerators as numbers,
and nothing that the schema does not know (a collector ignores it; here it is a mistake).
"""
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INT32, UINT32, INT64, STRING, BOOL = "int32", "uint32", "int64", "string", "bool"
KIND, CODE, TRACE, SPAN = "kind", "code", "trace", "span"
VALUE = {"stringValue": STRING, "boolValue": BOOL, "intValue": INT64}
ATTRIBUTES = [{"key": STRING, "value": VALUE}]
REQUEST = {"resourceSpans": [{
    "resource": {"attributes": ATTRIBUTES, "droppedAttributesCount": UINT32},
    "scopeSpans": [{
        "scope": {"name": STRING, "version": STRING, "attributes": ATTRIBUTES, "droppedAttributesCount": UINT32},
        "spans": [{
            "traceId": TRACE, "spanId": SPAN, "traceState": STRING, "parentSpanId": SPAN, "flags": UINT32, "name": STRING, "kind": KIND,
            "startTimeUnixNano": INT64, "endTimeUnixNano": INT64, "attributes": ATTRIBUTES, "droppedAttributesCount": UINT32,
            "status": {"message": STRING, "code": CODE}}],
        "schemaUrl": STRING}],
    "schemaUrl": STRING}]}


def no_duplicates(pairs):
    assert len({key for key, _ in pairs}) == len(pairs), f"a key twice: {pairs}"
    return dict(pairs)


def check(value, wanted, where="$"):
    if isinstance(wanted, list):
        assert isinstance(value, list), where
        for i, item in enumerate(value):
            check(item, wanted[0], f"{where}[{i}]")
    elif isinstance(wanted, dict):
        assert isinstance(value, dict), where
        for key, item in value.items():
            assert key in wanted, f"{where}.{key}: no such field"
            check(item, wanted[key], f"{where}.{key}")
        if wanted is VALUE:
            assert len(value) == 1, f"{where}: one of them"
    elif wanted in (STRING,):
        assert isinstance(value, str), where
        value.encode()  # no lone surrogates
    elif wanted == BOOL:
        assert isinstance(value, bool), where
    elif wanted == INT64:
        assert isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value), f"{where}: {value!r} is not a 64-bit integer as a string"
    elif wanted in (INT32, UINT32):
        assert isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32, where
    elif wanted == KIND:
        assert value in (1, 2, 3, 4, 5), where
    elif wanted == CODE:
        assert value in (0, 1, 2), where
    elif wanted in (TRACE, SPAN):
        size = 32 if wanted == TRACE else 16
        assert isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{size}}}", value) and int(value, 16) != 0, f"{where}: {value!r}"
    else:
        raise AssertionError(wanted)


class Spans(list):
    def of(self, kind):
        """request, policy or attempt"""
        number = {"request": 2, "policy": 1, "attempt": 3}[kind]
        return [span for span in self if span["kind"] == number]

    def one(self, kind):
        found = self.of(kind)
        assert len(found) == 1, found
        return found[0]


class Collector:
    """`answer(number)` gives (status, fields, body) for each request that is well formed; None: it never answers."""

    def __init__(self, scratch, answer=None):
        self.lock = threading.Lock()
        self.batches, self.problems, self.resources, self.requests = [], [], [], 0
        self.answer = answer or (lambda number: (200, {}, '{"partialSuccess":{}}'))
        self.released = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                collector.take(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        scratch.closers.append(self.stop)

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self.lock:
            number, self.requests = self.requests, self.requests + 1
            try:
                assert handler.path == "/v1/traces", handler.path
                assert handler.headers["Content-Type"] == "application/json"
                assert handler.headers["User-Agent"].startswith("sluice/")
                message = json.loads(body.decode(), object_pairs_hook=no_duplicates)
                check(message, REQUEST)
            except (AssertionError, ValueError) as problem:
                self.problems.append(repr(problem))
                return self.respond(handler, 400, {}, "{}")
            answer = self.answer(number)
            if answer is not None and answer[0] == 200:
                self.batches.append([span for resource in message["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]])
                self.resources += [resource["resource"] for resource in message["resourceSpans"]]
        if answer is None:
            self.released.wait()
            return None
        return self.respond(handler, *answer)

    @staticmethod
    def respond(handler, status, fields, body):
        handler.send_response(status)
        for name, value in fields.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())

    def spans(self):
        with self.lock:
            assert not self.problems, self.problems
            return Spans(span for batch in self.batches for span in batch)

    def stop(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def attributes(span):
    out = {}
    for attribute in span["attributes"]:
        assert attribute["key"] not in out, "an attribute twice"
        (kind, value), = attribute["value"].items()
        out[attribute["key"]] = int(value) if kind == "intValue" else value
    return out
