"""Stand-ins of LLM vendors after their public API references: strict about what the real ones refuse, and able to fail in
the ways in which the real ones do.

A vendor answers with words that say who it is. With tools in the request it calls each of them, until there are results.
What it does next can be said beforehand: vendor.script.append({"status": 429, "headers": {"retry-after": "1"}}).
"""
import base64
import http.server
import json
import re
import socket
import ssl
import struct
import threading
import time

import ai_responses_vendor as responses

ARGUMENTS = {"city": "Paris"}


class Refused(Exception):
    def __init__(self, status, message, kind="invalid_request_error"):
        super().__init__(message)
        self.status, self.kind = status, kind


def expect(condition, message):
    if not condition:
        raise Refused(400, message)


def only(value, allowed, where):
    expect(isinstance(value, dict), f"{where}: not an object")
    unknown = set(value) - set(allowed)
    expect(not unknown, f"{where}: Extra inputs are not permitted: {sorted(unknown)}")


class Vendor:
    """One HTTP server in a thread. `calls` has what came in: dicts of method, path, headers (lower case), body."""

    shape = ""

    def __init__(self, scratch, name, key="secret-" + "x" * 8, certificate=None, address=("127.0.0.1", 0)):
        self.name, self.key = name, key
        self.calls, self.script = [], []
        self.gone = 0  # callers that went away in the middle of a stream
        self.delay = 0.0  # between the events of a stream
        vendor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_GET(self):
                vendor.serve(self, b"")

            def do_POST(self):
                vendor.serve(self, self.rfile.read(int(self.headers.get("content-length", 0))))

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        self.server = Server(address, Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        scratch.closers.append(self.stop)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    # --- one call

    def serve(self, handler, raw):
        call = {"method": handler.command, "path": handler.path, "headers": {k.lower(): v for k, v in handler.headers.items()},
                "raw": raw, "body": json.loads(raw) if raw.startswith(b"{") else None}
        self.calls.append(call)
        step = self.script.pop(0) if self.script else {}
        try:
            if step.get("hang"):
                self.wait_for_end(handler)
                return
            if step.get("reset"):
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()
                handler.close_connection = True
                return
            if "status" in step:
                raise_status = Refused(step["status"], step.get("message", "scripted"), step.get("kind", "scripted_error"))
                return self.refuse(handler, raise_status, step.get("headers", {}))
            if "plain" in step:
                return self.send_bytes(handler, step["plain"], step.get("headers", {}), step.get("code", 200))
            if self.credential(call["headers"]) != self.key:
                raise self.unknown_key()
            self.answer(handler, call, step)
        except Refused as refused:
            self.refuse(handler, refused, {})
        except (BrokenPipeError, ConnectionResetError):
            self.gone += 1
            handler.close_connection = True

    def wait_for_end(self, handler):
        handler.connection.settimeout(30)
        try:
            while handler.connection.recv(1024):
                pass
        except OSError:
            pass
        self.gone += 1
        handler.close_connection = True

    def unknown_key(self):
        return Refused(401, "invalid api key", "authentication_error")

    def send_bytes(self, handler, data, headers, status):
        """An answer as no vendor's API has it, but what is before some of them."""
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def refuse(self, handler, refused, headers):
        self.send(handler, refused.status, self.error(refused), headers)

    def send(self, handler, status, body, headers=None):
        data = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("x-ratelimit-remaining-requests", "17")
        handler.send_header("set-cookie", "vendor=1")
        handler.send_header("x-request-id", f"req-{self.name}")
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def stream(self, handler, events, step):
        """`events`: bytes each. Steps: comments (nothing else, as often as once in so many seconds), cut (after so many), stall (the same, and stay), first (seconds before the first one), delay (between two),
        garbage (an event that is none), bad_chunk (a chunk that is none), linger
        (seconds between the last event and the end)."""
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream; charset=utf-8")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        time.sleep(step.get("first", 0))
        while "comments" in step:
            handler.wfile.write(b"e\r\n: PROCESSING\n\n\r\n")
            time.sleep(step["comments"])
        for number, event in enumerate(events):
            if number == step.get("cut"):
                handler.connection.shutdown(socket.SHUT_RDWR)
                handler.close_connection = True
                return
            if number == step.get("end"):  # in good order, but not whole
                break
            if number == step.get("stall"):
                self.wait_for_end(handler)
                return
            if number == step.get("garbage"):
                event = b"data: {not json\n\n"
            if number == step.get("error"):
                event = self.error_event()
            if number == step.get("bad_chunk"):  # no size of a chunk
                handler.wfile.write(b"zz\r\n")
                handler.close_connection = True
                return
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            handler.wfile.flush()
            time.sleep(step.get("delay", self.delay))
        time.sleep(step.get("linger", 0))
        handler.wfile.write(b"0\r\n\r\n")

    def words(self):
        return ["Hello", " from", f" {self.name}", ", ünïcode 🦀", "."]

    def error_event(self):
        return b"data: " + json.dumps(self.error(Refused(503, "overloaded", "overloaded_error"))).encode() + b"\n\n"


class OpenAi(Vendor):
    shape = "openai"
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    fields = {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p",
              "max_tokens", "max_completion_tokens", "stop", "response_format", "seed", "user", "n", "presence_penalty", "store",
              "frequency_penalty", "logit_bias", "metadata", "reasoning_effort"}

    def credential(self, headers):
        return headers.get("authorization", "").removeprefix("Bearer ")

    def error(self, refused):
        return {"error": {"message": str(refused), "type": refused.kind, "param": None, "code": None}}

    def answer(self, handler, call, step):
        path = call["path"].split("?")[0]
        if path.endswith("/embeddings"):
            return self.embed(handler, call["body"])
        if path.endswith("/models"):
            return self.send(handler, 200, {"object": "list", "data": [{"id": f"own-of-{self.name}", "object": "model"}]})
        if path.endswith("/chat/completions"):
            return self.chat(handler, call["body"], step)
        if path.endswith("/responses"):
            return self.respond(handler, call["body"], step)
        if path.endswith("/images/generations"):
            return self.send(handler, 200, {"created": 1, "data": [{"url": "http://x/"}]})
        raise Refused(404, f"unknown path {path}")

    def embed(self, handler, body):
        only(body, {"model", "input", "encoding_format", "dimensions", "user"}, "body")
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vectors = [[float(len(t)), 0.5] for t in texts]
        if body.get("encoding_format") == "base64":
            vectors = [base64.b64encode(struct.pack("<2f", *vector)).decode() for vector in vectors]
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        self.send(handler, 200, {**self.own_of_embeddings, "object": "list", "data": data, "model": body["model"],
                                 "usage": {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}})

    def respond(self, handler, body, step):
        only(body, responses.FIELDS, "body")
        items = responses.output(self, body, expect, ARGUMENTS)
        if not body.get("stream"):
            return self.send(handler, 200, responses.response(body, items))
        self.stream(handler, list(responses.events(self, body, items)), step)

    def check(self, body):
        only(body, self.fields, "body")
        expect(isinstance(body.get("messages"), list) and body["messages"], "messages: required")
        open_calls = []
        for i, message in enumerate(body["messages"]):
            role = message.get("role")
            expect(role in ("system", "developer", "user", "assistant", "tool"), f"messages[{i}].role: {role}")
            if role == "tool":
                expect(message.get("tool_call_id") in open_calls, f"messages[{i}]: tool_call_id of no preceding tool_calls")
                open_calls.remove(message["tool_call_id"])
            else:
                expect(not open_calls, f"messages[{i}]: tool_calls must be followed by tool messages for {open_calls}")
            if role == "assistant":
                open_calls = [c["id"] for c in message.get("tool_calls") or []]
                self.check_ids(open_calls)
        for tool in body.get("tools", []):
            schema = tool["function"].get("parameters", {"type": "object"})
            expect(schema.get("type") == "object", f"tools: schema type {schema.get('type')}")
            expect(tool.get("type") == "function" and re.fullmatch(r"[\w-]{1,64}", tool["function"]["name"]), "tools: malformed")
        if "stream_options" in body:
            expect(body.get("stream"), "stream_options is only allowed when stream is enabled")
        expect(body.get("reasoning_effort", "low") in self.efforts, f"reasoning_effort: {body.get('reasoning_effort')}")

    def check_ids(self, ids):
        pass

    def usage(self):
        return {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30, "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 3}}

    def chat(self, handler, body, step):
        self.check(body)
        tools = [t["function"]["name"] for t in body.get("tools", [])]
        wants_tools = tools and body["messages"][-1]["role"] == "user" and body.get("tool_choice") != "none"
        calls = [{"id": self.call_id(i), "type": "function", "function": {"name": n, "arguments": json.dumps(ARGUMENTS)}}
                 for i, n in enumerate(tools)] if wants_tools else []
        text = "".join(self.words())
        form = body.get("response_format", {}).get("type", "text")
        if form != "text":
            text = json.dumps({"name": self.name})
        if body["messages"][-1]["role"] == "tool":
            text = "result: " + str(body["messages"][-1]["content"])
        finish = "tool_calls" if calls else step.get("finish", "stop")
        if not body.get("stream"):
            message = {"role": "assistant", "content": None if calls else self.content(body, text, ["".join(self.thoughts)])}
            if calls:
                message["tool_calls"] = calls
            return self.send(handler, 200, {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"] + "-2025",
                                            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                                            "usage": self.usage(), "x_unknown": {"kept": True}})
        def chunk(choices, **more):
            return b"data: " + json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                                           "model": body["model"] + "-2025", "choices": choices, **more}).encode() + b"\n\n"
        def delta(d, reason=None):
            return chunk([{"index": 0, "delta": d, "finish_reason": reason}])
        events = [delta({"role": "assistant", "content": ""})]
        words = self.words() if form == "text" and not text.startswith("result") else [text[:5], text[5:]]
        if calls:
            for i, call in enumerate(calls):
                events.append(delta({"tool_calls": [{"index": i, "id": call["id"], "type": "function",
                                                     "function": {"name": call["function"]["name"], "arguments": ""}}]}))
            arguments = json.dumps(ARGUMENTS)
            for at in range(0, len(arguments), 5):  # interleaved
                for i in range(len(calls)):
                    events.append(delta({"tool_calls": [{"index": i, "function": {"arguments": arguments[at:at + 5]}}]}))
        else:
            pieces = [("", [thought]) for thought in self.thoughts if self.thinks(body)] + [(word, []) for word in words]
            events += [delta({"content": self.content(body, *piece)}) for piece in pieces]
        events.append(delta({}, finish))
        if body.get("stream_options", {}).get("include_usage") or self.always_usage:
            events.append(chunk([], usage=self.usage()))
        events.append(b"data: [DONE]\n\n")
        if step.get("no_done"):
            events.pop()
        self.stream(handler, events, step)

    always_usage = False
    own_of_embeddings = {}
    thoughts = ("Let me", " think")

    def thinks(self, body):  # and says what
        return False

    def content(self, body, text, thoughts):
        return text

    def call_id(self, i):
        return f"call_{self.name}_{i}"


class Mistral(OpenAi):
    fields = {"model", "messages", "stream", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "max_tokens", "stop",
              "response_format", "random_seed", "n", "presence_penalty", "frequency_penalty", "safe_prompt", "prediction", "reasoning_effort",
              "prompt_mode"}
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh")
    always_usage = True
    own_of_embeddings = {"id": "embd-1"}

    def check_ids(self, ids):
        for one in ids:
            expect(re.fullmatch(r"[A-Za-z0-9]{9}", one), f"Tool call id was {one} but must be a-z, A-Z, 0-9, with a length of 9.")

    def check(self, body):
        super().check(body)
        expect(body["messages"][-1]["role"] in ("user", "tool"), "Expected last role User or Tool for serving")

    def thinks(self, body):
        return body.get("reasoning_effort", "none") != "none"

    def content(self, body, text, thoughts):
        """Of a model that thinks: lists, also in pieces of streams."""
        if not self.thinks(body):
            return text
        parts = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]} for thought in thoughts]
        return parts + [{"type": "text", "text": text}] * bool(text)

    def call_id(self, i):
        return f"callMis0{i}"

    def error(self, refused):
        return {"object": "error", "message": str(refused), "type": refused.kind, "param": None, "code": None}


class Azure(OpenAi):
    def credential(self, headers):
        return headers.get("api-key")


class Anthropic(Vendor):
    shape = "anthropic"
    fields = {"model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice", "temperature", "top_p", "top_k",
              "stop_sequences", "metadata", "thinking", "service_tier", "output_config", "output_format"}

    def credential(self, headers):
        return headers.get("x-api-key")

    def error(self, refused):
        kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}
        return {"type": "error", "error": {"type": kind.get(refused.status, refused.kind), "message": str(refused)}, "request_id": "req_1"}

    def error_event(self):
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        return b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"

    def answer(self, handler, call, step):
        path, body = call["path"].split("?")[0], call["body"]
        expect("anthropic-version" in call["headers"], "anthropic-version: header is required")
        if path == "/v1/messages/count_tokens":
            return self.send(handler, 200, {"input_tokens": 12})
        if path != "/v1/messages":
            raise Refused(404, f"unknown path {path}")
        self.check(body)
        tools = [t["name"] for t in body.get("tools", [])]
        last = body["messages"][-1]
        results = [b for b in last["content"] if b["type"] == "tool_result"] if isinstance(last["content"], list) else []
        none = body.get("tool_choice", {}).get("type") == "none"
        calls = [{"type": "tool_use", "id": f"toolu_{self.name}_{i}", "name": n, "input": ARGUMENTS}
                 for i, n in enumerate(tools)] if tools and not results and not none else []
        text = "result: " + json.dumps(results[-1].get("content")) if results else "".join(self.words())
        thinking = body.get("thinking", {}).get("type") == "enabled"
        blocks = ([{"type": "thinking", "thinking": "Let me think", "signature": "c2lnbmVk"}] if thinking else []) + \
                 (calls or [{"type": "text", "text": text}])
        stop = "tool_use" if calls else step.get("stop", "end_turn")
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"] + "-2025", "content": blocks,
                   "stop_reason": stop, "stop_sequence": None,
                   "usage": {"input_tokens": 16, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 10}}
        if not body.get("stream"):
            return self.send(handler, 200, message)
        self.stream(handler, list(self.events(message, bool(results))), step)

    def events(self, message, whole):
        def event(kind, **fields):
            return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
        start = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
        yield event("message_start", message=start)
        yield event("ping")
        for i, block in enumerate(message["content"]):
            if block["type"] == "text":
                yield event("content_block_start", index=i, content_block={"type": "text", "text": ""})
                for word in [block["text"]] if whole else self.words():
                    yield event("content_block_delta", index=i, delta={"type": "text_delta", "text": word})
            elif block["type"] == "thinking":
                yield event("content_block_start", index=i, content_block={"type": "thinking", "thinking": "", "signature": ""})
                yield event("content_block_delta", index=i, delta={"type": "thinking_delta", "thinking": block["thinking"]})
                yield event("content_block_delta", index=i, delta={"type": "signature_delta", "signature": block["signature"]})
            else:
                yield event("content_block_start", index=i, content_block={**block, "input": {}})
                text = json.dumps(block["input"])
                for at in range(0, len(text), 5):
                    yield event("content_block_delta", index=i, delta={"type": "input_json_delta", "partial_json": text[at:at + 5]})
            yield event("content_block_stop", index=i)
        yield event("message_delta", delta={"stop_reason": message["stop_reason"], "stop_sequence": None},
                    usage={"output_tokens": message["usage"]["output_tokens"]})
        yield event("message_stop")

    def check(self, body):
        only(body, self.fields, "body")
        expect(isinstance(body.get("max_tokens"), int), "max_tokens: Field required")
        expect(body.get("messages"), "messages: at least one message is required")
        pending, before = [], None
        for i, message in enumerate(body["messages"]):
            only(message, {"role", "content"}, f"messages.{i}")
            expect(message["role"] in ("user", "assistant"), f"messages.{i}.role: {message['role']}")
            expect(message["role"] != before, f"messages.{i}: roles must alternate")
            before = message["role"]
            blocks = message["content"] if isinstance(message["content"], list) else [{"type": "text", "text": message["content"]}]
            if pending:
                got = [b["tool_use_id"] for b in blocks[:len(pending)] if b["type"] == "tool_result"]
                expect(sorted(got) == sorted(pending), f"messages.{i}: tool_use ids {pending} without tool_result blocks immediately after")
                pending = []
            for block in blocks:
                if block["type"] == "text":
                    expect(block["text"].strip(), f"messages.{i}: text content blocks must be non-empty")
            if message["role"] == "assistant":
                pending = [b["id"] for b in blocks if b["type"] == "tool_use"]
        if body.get("thinking", {}).get("type") == "enabled":
            expect(1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"], "thinking.budget_tokens: out of range")
            expect(body.get("temperature", 1) == 1, "temperature may only be set to 1 when thinking is enabled")
        for tool in body.get("tools", []):
            expect(tool.get("input_schema", {}).get("type") == "object", "tools: input_schema.type: object")
            if tool.get("strict"):
                self.check_schema(tool["input_schema"], f"tools.{tool['name']}.input_schema")
        output = body.get("output_config", {})
        expect(output.get("effort", "low") in ("low", "medium", "high", "xhigh", "max"), f"output_config.effort: {output.get('effort')}")
        if "format" in output:
            self.check_schema(output["format"]["schema"], "output_config.format.schema")

    def check_schema(self, schema, where):
        """Of an answer, or of a strict tool."""
        only(schema, {"type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "definitions", "title", "description", "properties", "required",
                      "additionalProperties", "format", "items", "minItems", "default"}, where)
        types = schema.get("type", [])
        if "object" in ([types] if isinstance(types, str) else types):
            expect(schema.get("additionalProperties") is False,
                   f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        expect(schema.get("format", "uuid") in ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
               f"{where}: String format '{schema.get('format')}' is not supported")
        expect(schema.get("minItems", 0) in (0, 1), f"{where}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
        for name, child in [*schema.get("properties", {}).items(), *schema.get("$defs", {}).items(), *schema.get("definitions", {}).items()]:
            self.check_schema(child, f"{where}.{name}")
        for child in [*schema.get("anyOf", []), *schema.get("allOf", []), *([schema["items"]] if "items" in schema else [])]:
            self.check_schema(child, where)


def camel(value, key=""):
    """Protobuf's JSON: each member has two names. What callers name themselves, and JSON Schema, stays."""
    if isinstance(value, list):
        return [camel(one, key) for one in value]
    if not isinstance(value, dict) or key in ("args", "response", "parametersJsonSchema", "responseJsonSchema"):
        return value
    if key == "properties":
        return {name: camel(one) for name, one in value.items()}
    named = {re.sub("_([a-z])", lambda m: m[1].upper(), name): one for name, one in value.items()}
    return {name: camel(one, name) for name, one in named.items()}


class Gemini(Vendor):
    shape = "gemini"
    schema_words = {"type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties", "required",
                    "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf", "propertyOrdering",
                    "default", "items", "minimum", "maximum"}

    def credential(self, headers):
        return headers.get("x-goog-api-key")

    def error(self, refused):
        error = {"code": refused.status, "message": str(refused), "status": "INVALID_ARGUMENT"}
        if refused.kind == "API_KEY_INVALID":
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": refused.kind, "domain": "googleapis.com"},
                                {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": str(refused)}]
        return {"error": error}

    def unknown_key(self):
        return Refused(400, "API key not valid. Please pass a valid API key.", "API_KEY_INVALID")

    def answer(self, handler, call, step):
        path, _, query = call["path"].partition("?")
        expect("key=" not in query, "the key came in the query")
        match = re.fullmatch(r"/v1(?:beta|alpha)?/models/([^:]+):(\w+)", path)
        if not match:
            raise Refused(404, f"unknown path {path}")
        model, verb = match.groups()
        body = camel(call["body"])
        if verb == "countTokens":
            return self.send(handler, 200, {"totalTokens": 12})
        if verb == "batchEmbedContents":
            only(body, {"requests"}, "body")
            for one in body["requests"]:
                expect(one.get("model") == f"models/{model}", "requests.model differs from the path's")
            return self.send(handler, 200, {"embeddings": [{"values": [float(len(r["content"]["parts"][0]["text"])), 0.5]}
                                                           for r in body["requests"]]})
        if verb == "embedContent":
            return self.send(handler, 200, {"embedding": {"values": [float(len(body["content"]["parts"][0]["text"])), 0.5]}})
        if verb not in ("generateContent", "streamGenerateContent"):
            raise Refused(404, f"unknown method {verb}")
        self.check(body)
        parts, finish = self.parts(body)
        def response(some, reason=None, index=0):
            candidate = {"content": {"role": "model", "parts": some}, "index": index}
            if reason:
                candidate["finishReason"] = step.get("finish", reason)
            return {"candidates": [candidate], "modelVersion": model + "-2025", "responseId": "resp-1",
                    "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 7 * (index + 1), "thoughtsTokenCount": 3,
                                      "cachedContentTokenCount": 4, "totalTokenCount": 23 + 7 * (index + 1)}}
        if verb == "generateContent":
            return self.send(handler, 200, response(parts, finish))
        pieces = []
        for part in parts:
            if "text" in part and not part["text"].startswith(("result", "{")):
                pieces += [[{**part, "text": word}] for word in (self.words() if not part.get("thought") else [part["text"]])]
            else:
                pieces.append([part])
        # One candidate after another, of which each ends for itself.
        bodies = [response(some, finish if i == len(pieces) - 1 else None, index)
                  for index in range(body.get("generationConfig", {}).get("candidateCount", 1)) for i, some in enumerate(pieces)]
        if "alt=sse" in query:
            return self.stream(handler, [b"data: " + json.dumps(b).encode() + b"\r\n\r\n" for b in bodies], step)
        return self.send(handler, 200, bodies)

    def parts(self, body):
        names = [f["name"] for t in body.get("tools", []) for f in t.get("functionDeclarations", [])]
        last = body["contents"][-1]["parts"]
        results = [p["functionResponse"] for p in last if "functionResponse" in p]
        mode = body.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode")
        if results:
            return [{"text": "result: " + json.dumps(results[-1]["response"])}], "STOP"
        if names and mode != "NONE":
            return [{"functionCall": {"name": n, "args": ARGUMENTS}, **({"thoughtSignature": "c2ln"} if i == 0 else {})}
                    for i, n in enumerate(names)], "STOP"
        config = body.get("generationConfig", {})
        if config.get("responseMimeType") == "application/json":
            return [{"text": json.dumps({"name": self.name})}], "STOP"
        return [{"text": "".join(self.words())}], "STOP"

    def check(self, body):
        only(body, {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings", "cachedContent"}, "body")
        before = None
        for i, content in enumerate(body["contents"]):
            only(content, {"role", "parts"}, f"contents[{i}]")
            role = content.get("role", "user")
            expect(role in ("user", "model"), f"contents[{i}].role")
            expect(role != before, f"contents[{i}]: turns must alternate")
            before = role
            expect(content["parts"], f"contents[{i}].parts: empty")
        for tool in body.get("tools", []):
            for function in tool.get("functionDeclarations", []):
                only(function, {"name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior"}, "function")
                expect(not ("parameters" in function and "parametersJsonSchema" in function), f"{function['name']}: either of the two")
                if "parameters" in function:
                    self.check_schema(function["parameters"], function["name"])
        config = body.get("generationConfig", {})
        if "responseSchema" in config:
            self.check_schema(config["responseSchema"], "responseSchema")

    formats = {"string": ("enum", "date-time"), "number": ("float", "double"), "integer": ("int32", "int64")}

    def check_schema(self, schema, where):
        only(schema, self.schema_words, where)
        expect(isinstance(schema.get("type", "object"), str), f"{where}: type is one word")
        kind = schema.get("type", "").lower()
        for i, word in enumerate(schema.get("enum", [])):
            expect(isinstance(word, str), f"{where}.enum[{i}] (TYPE_STRING), {json.dumps(word)}")
            expect(word, f"{where}.enum[{i}]: cannot be empty")
        expect("enum" not in schema or kind == "string", f"{where}.enum: only allowed for STRING type")
        expect("format" not in schema or schema["format"] in self.formats.get(kind, ()),
               f"{where}.format: only 'enum' and 'date-time' are supported for STRING type")
        expect(kind != "array" or schema.get("items"), f"{where}.items: missing field.")
        for i, name in enumerate(schema.get("required", [])):
            expect(name in schema.get("properties", {}), f"{where}.required[{i}]: property is not defined")
        expect("properties" not in schema or kind == "object", f"{where}.properties: only allowed for OBJECT type")
        for name, child in schema.get("properties", {}).items():
            self.check_schema(child, f"{where}.{name}")
        for i, child in enumerate(schema.get("anyOf", [])):
            self.check_schema(child, f"{where}.anyOf[{i}]")
        if "items" in schema:
            self.check_schema(schema["items"], f"{where}.items")
