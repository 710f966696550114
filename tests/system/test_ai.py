"""The AI gateway before stand-ins of all vendors: each caller's shape to each provider."""
import http.client
import json
import socket
import threading
import time

import pytest

from ai_client import CALLERS, KINDS, Gateway, events_of
from harness import HANG, Scratch, eventually

MODELS = "\n".join(f'    {kind}-model: {{ targets: [{{ provider: {kind}, model: up-{kind} }}] }}' for kind in KINDS) + """
    "wild-*": { targets: [{ provider: openai }] }
    "wild-and-long-*": { targets: [{ provider: anthropic }] }"""


@pytest.fixture(scope="module")
def gateway():
    with Scratch() as scratch:
        yield Gateway(scratch, models=MODELS)


@pytest.fixture
def alone():
    with Scratch() as scratch:
        yield scratch


pairs = pytest.mark.parametrize("caller", CALLERS)
kinds = pytest.mark.parametrize("kind", KINDS)


def text_of(vendor):
    return "".join(vendor.words())


@pairs
@kinds
def test_text(gateway, caller, kind):
    vendor, caller = gateway[kind], CALLERS[caller](gateway)
    status, answer = caller.call(f"{kind}-model")
    assert status == 200, answer
    assert caller.text(answer) == text_of(vendor)
    assert caller.usage(answer) == (20, 10)
    call = vendor.calls[-1]
    assert f"up-{kind}" in (call["body"].get("model") or call["path"])
    assert "of-the-caller" not in json.dumps(call["headers"])
    assert "x-forwarded-for" not in call["headers"]


@pairs
@kinds
def test_stream(gateway, caller, kind):
    vendor, caller = gateway[kind], CALLERS[caller](gateway)
    events, whole = caller.streamed(f"{kind}-model")
    assert whole
    assert caller.streamed_text(events) == text_of(vendor)


@pairs
@kinds
def test_parallel_tools_and_their_results(gateway, caller, kind):
    caller = CALLERS[caller](gateway)
    tools = ["weather", "time"]
    status, answer = caller.call(f"{kind}-model", tools=tools)
    assert status == 200, answer
    calls = caller.calls(answer)
    assert [(name, arguments) for _, name, arguments in calls] == [("weather", {"city": "Paris"}), ("time", {"city": "Paris"})]
    assert len({identity for identity, _, _ in calls}) == 2 or caller.shape == "gemini"
    status, answer = caller.results(f"{kind}-model", answer, tools)
    assert status == 200, answer
    assert "sunny" in caller.text(answer)


@pairs
@kinds
def test_tools_in_a_stream(gateway, caller, kind):
    caller = CALLERS[caller](gateway)
    events, whole = caller.streamed(f"{kind}-model", tools=["weather", "time"])
    assert whole
    calls = caller.streamed_calls(events)
    assert [(name, arguments) for _, name, arguments in calls] == [("weather", {"city": "Paris"}), ("time", {"city": "Paris"})]


# As agents' tools have them.
ANY_SCHEMA = {"type": "object", "required": ["url", "gone"], "properties": {
    "url": {"type": "string", "format": "uri", "minLength": 1}, "level": {"type": "integer", "enum": [0, 1, 2]}, "kind": {"const": "x"},
    "mode": {"enum": ["a", "b"]}, "list": {"type": "array"}, "lists": {"type": "array", "items": {"type": "array", "items": {}}},
    "deep": {"anyOf": [{"type": "object", "properties": {"n": {"type": "number", "minimum": 0}}}, {"type": "null"}]}}}


@kinds
def test_any_schema_of_a_tool_is_one_that_the_vendor_takes(gateway, kind):
    caller = CALLERS["openai"](gateway)
    for strict in (False, True):
        tools = [{"type": "function", "function": {"name": "f", "parameters": ANY_SCHEMA, "strict": strict}}]
        status, answer = gateway.post("/v1/chat/completions", {**caller.body(f"{kind}-model"), "tools": tools})
        assert status == 200, answer
        assert [name for _, name, _ in caller.calls(answer)] == ["f"]


@kinds
def test_any_schema_of_an_answer_is_one_that_the_vendor_takes(gateway, kind):
    openai, gemini = CALLERS["openai"](gateway), CALLERS["gemini"](gateway)
    status, answer = openai.call(f"{kind}-model", response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": ANY_SCHEMA}})
    assert status == 200, answer
    schema = {"type": "OBJECT", "propertyOrdering": ["a", "o"], "properties": {
        "a": {"type": "STRING", "nullable": True, "maxLength": 9}, "o": {"type": "OBJECT", "properties": {"b": {"type": "STRING", "format": "enum", "enum": ["x"]}}}}}
    status, answer = gemini.call(f"{kind}-model", generationConfig={"responseMimeType": "application/json", "responseSchema": schema})
    assert status == 200, answer


EFFORTS = {"openai": lambda word: {"reasoning_effort": word}, "anthropic": lambda word: {"output_config": {"effort": word}},
           "gemini": lambda word: {"generationConfig": {"thinkingConfig": {"thinkingLevel": word.upper(), "includeThoughts": True}}}}


@pairs
@kinds
def test_any_effort_is_one_that_the_vendor_takes(gateway, caller, kind):
    """And the highest is not the lowest."""
    if caller == kind:
        pytest.skip("passes as it is")
    words = ("low", "medium", "high", "xhigh", "max") if caller != "gemini" else ("minimal", "low", "medium", "high")
    def asked(word):
        if (caller, kind, word) == ("openai", "mistral", "max"):  # as it is, and refused there
            return
        status, answer = CALLERS[caller](gateway).call(f"{kind}-model", **EFFORTS[caller](word))
        assert status == 200, (word, answer)
        body = gateway[kind].calls[-1]["body"]
        return body.get("thinking", {}).get("budget_tokens", 0), body.get("generationConfig", {}).get("thinkingConfig", {}).get("thinkingBudget", 0)
    budgets = [budget for word in words if (budget := asked(word))]
    assert budgets == sorted(budgets)


@pairs
def test_what_mistrals_models_think_is_thought_elsewhere(gateway, caller):
    vendor, client = gateway["mistral"], CALLERS[caller](gateway)
    more = EFFORTS[caller]("high")
    status, answer = client.call("mistral-model", **more)
    assert status == 200, answer
    events, whole = client.streamed("mistral-model", **more)
    assert whole, events
    if caller == "openai":  # its own words
        assert answer["choices"][0]["message"]["content"][0]["type"] == "thinking"
        return
    thought = "".join(vendor.thoughts)
    if caller == "anthropic":
        assert [b.get("thinking", b.get("text")) for b in answer["content"]] == ["".join(vendor.thoughts), text_of(vendor)]
        assert "".join(e["delta"].get("thinking", "") for n, e in events if n == "content_block_delta") == thought
        assert client.streamed_text(events) == text_of(vendor)
    else:
        assert [p["text"] for p in client.parts(answer)] == [thought, text_of(vendor)] and client.parts(answer)[0]["thought"]
        assert client.streamed_text(events) == thought + text_of(vendor)


@pairs
@kinds
def test_an_error_comes_in_the_callers_shape(gateway, caller, kind):
    vendor, caller = gateway[kind], CALLERS[caller](gateway)
    vendor.script.append({"status": 400, "message": "context length exceeded"})
    status, answer = caller.call(f"{kind}-model")
    assert status == 400
    if vendor.shape != "openai" or kind != "mistral" or caller.shape != "openai":
        assert "context length exceeded" in caller.message(answer)
    before = len(vendor.calls)
    vendor.script.append({"status": 400})
    caller.call(f"{kind}-model")
    assert len(vendor.calls) == before + 1  # and is asked of nobody again


def test_the_same_shape_passes_untouched(gateway):
    body = b'{ "messages" : [{"role":"user","content":"\\u00fc"}],\n "model":"openai-model",  "metadata":{"a":"b"} }'
    status, fields, content = gateway.request("POST", "/v1/chat/completions", body, {"openai-beta": "x=y", "authorization": "Bearer of-the-caller"})
    assert status == 200
    call = gateway["openai"].calls[-1]
    assert call["raw"] == body.replace(b"openai-model", b"up-openai")
    assert call["headers"]["openai-beta"] == "x=y"
    assert call["headers"]["authorization"] == "Bearer secret-of-openai"
    assert json.loads(content)["x_unknown"] == {"kept": True}
    assert fields["x-request-id"] == "req-openai"
    assert fields["x-sluice-provider"] == "openai"
    for name in fields:
        assert "ratelimit" not in name and name != "set-cookie"


def test_usage_is_asked_for_upstream_and_hidden_from_who_did_not(gateway):
    caller = CALLERS["openai"](gateway)
    events, _ = caller.streamed("openai-model")
    assert gateway["openai"].calls[-1]["body"]["stream_options"] == {"include_usage": True}
    assert not any(e != "[DONE]" and e.get("usage") for _, e in events)
    for kind in KINDS:
        events, _ = caller.streamed(f"{kind}-model", stream_options={"include_usage": True})
        assert events[-2][1]["usage"]["prompt_tokens"] == 20, kind


def test_models_are_chosen_by_name_then_by_the_longest_pattern(gateway):
    caller = CALLERS["openai"](gateway)
    caller.call("wild-1")
    assert gateway["openai"].calls[-1]["body"]["model"] == "wild-1"
    caller.call("wild-and-long-1")
    assert gateway["anthropic"].calls[-1]["body"]["model"] == "wild-and-long-1"
    for name in CALLERS:
        status, answer = CALLERS[name](gateway).call("nobody-knows")
        assert status == 404 and "nobody-knows" in CALLERS[name](gateway).message(answer)


def test_models_are_listed_in_each_shape(gateway):
    status, _, content = gateway.request("GET", "/v1/models")
    assert [m["id"] for m in json.loads(content)["data"]] == sorted(f"{k}-model" for k in KINDS)
    status, _, content = gateway.request("GET", "/v1/models", headers={"anthropic-version": "2023-06-01"})
    assert {m["type"] for m in json.loads(content)["data"]} == {"model"}
    status, _, content = gateway.request("GET", "/v1beta/models?key=of-the-caller")
    assert "models/gemini-model" in [m["name"] for m in json.loads(content)["models"]]
    status, _, content = gateway.request("GET", "/v1/models/openai-model")
    assert status == 200 and json.loads(content)["id"] == "openai-model"
    status, _, content = gateway.request("GET", "/v1/models/none")
    assert status == 404


@pytest.mark.parametrize("kind", ["openai", "mistral", "gemini", "azure"])
def test_embeddings(gateway, kind):
    status, answer = gateway.post("/v1/embeddings", {"model": f"{kind}-model", "input": ["one", "three"]})
    assert status == 200, answer
    assert [d["embedding"] for d in answer["data"]] == [[3.0, 0.5], [5.0, 0.5]]
    status, answer = gateway.post(f"/v1beta/models/{kind}-model:embedContent", {"model": f"models/{kind}-model", "content": {"parts": [{"text": "one"}]}})
    assert (status, answer["embedding"]["values"]) == (200, [3.0, 0.5])
    status, answer = gateway.post(f"/v1beta/models/{kind}-model:batchEmbedContents",
                                  {"requests": [{"model": f"models/{kind}-model", "content": {"parts": [{"text": "four"}]}}]})
    assert (status, answer["embeddings"][0]["values"]) == (200, [4.0, 0.5])


def test_embeddings_as_base64_and_where_there_are_none(gateway):
    import base64
    import struct
    status, answer = gateway.post("/v1/embeddings", {"model": "gemini-model", "input": "three", "encoding_format": "base64"})
    assert struct.unpack("<2f", base64.b64decode(answer["data"][0]["embedding"])) == (5.0, 0.5)
    status, answer = gateway.post("/v1/embeddings", {"model": "anthropic-model", "input": "a"})
    assert status == 501 and "no embeddings" in answer["error"]["message"]


def test_other_paths_go_to_their_vendor(gateway):
    status, answer = gateway.post("/v1/messages/count_tokens", {"model": "anthropic-model", "messages": []}, {"anthropic-version": "2023-06-01"})
    assert (status, answer) == (200, {"input_tokens": 12})
    assert gateway["anthropic"].calls[-1]["body"]["model"] == "up-anthropic"
    status, answer = gateway.post("/v1/messages/count_tokens", {"model": "openai-model", "messages": []}, {"anthropic-version": "2023-06-01"})
    assert status == 404  # that model's provider has no such thing
    status, answer = gateway.post("/v1beta/models/gemini-model:countTokens", {"contents": []}, {"x-goog-api-key": "of-the-caller"})
    assert (status, answer) == (200, {"totalTokens": 12})
    assert gateway["gemini"].calls[-1]["path"] == "/v1beta/models/up-gemini:countTokens"
    status, answer = gateway.post("/v1/images/generations", {"model": "openai-model", "prompt": "a"})
    assert status == 200 and answer["data"]
    status, answer = gateway.post("/no/api", {})
    assert status == 404 and "no path of an LLM API" in answer["error"]["message"]


PICTURES = [b'event: image_generation.%s\ndata: {"type": "image_generation.%s", "b64_json": "AAAA"%s}\n\n' % (kind, kind, more)
            for kind, more in ((b"partial_image", b""), (b"completed", b', "usage": {"input_tokens": 7, "output_tokens": 40}'))]


@pytest.mark.parametrize("path, body, events", [
    ("/v1/images/generations", {"model": "openai-model", "stream": True, "prompt": "a"}, PICTURES),
    ("/v1/threads/t/runs", {"stream": True}, [b'event: thread.run.created\ndata: {"id": "run_1"}\n\n', b"event: done\ndata: [DONE]\n\n"]),
    ("/v1/audio/speech", {"model": "openai-model", "stream_format": "sse"}, [b'data: {"type": "speech.audio.delta", "audio": "AAAA"}\n\n',
                                                                             b'data: {"type": "speech.audio.done", "usage": {"input_tokens": 7}}\n\n'])])
def test_streams_of_what_one_vendor_has_go_on_as_they_come(gateway, path, body, events):
    """Nobody here knows which of their events is the last: they are whole where their transfer is."""
    vendor, seen = gateway["openai"], threading.Event()

    def answer(handler, call, step):
        def waited():
            yield events[0]
            assert seen.wait(HANG), "the first one is not held back"
            yield from events[1:]
        vendor.stream(handler, waited(), step)

    vendor.answer = answer
    try:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=HANG)
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200
        first = response.read(len(events[0]))
        seen.set()
        assert first + response.read() == b"".join(events)
        connection.close()
    finally:
        del vendor.answer


def test_a_model_that_a_pattern_serves_is_there(scratch):
    gateway = Gateway(scratch, ("openai", "gemini"), models='    "gpt-*": { targets: [{ provider: openai }] }\n    fast: { targets: [{ provider: gemini }] }')
    for path, headers, name in (("/v1/models/gpt-5", {}, "id"), ("/v1/models/fast", {}, "id"), ("/v1/models/gpt-5", {"anthropic-version": "2023-06-01"}, "id"),
                                ("/v1beta/models/gpt-5", {}, "name")):
        status, _, content = gateway.request("GET", path, headers=headers)
        assert status == 200 and json.loads(content)[name].removeprefix("models/") == path.rsplit("/", 1)[1], content
    assert gateway.request("GET", "/v1/models/claude-5")[0] == 404
    assert [m["id"] for m in json.loads(gateway.request("GET", "/v1/models")[2])["data"]] == ["fast"]


def test_geminis_caches_name_their_model_as_it_does(gateway):
    gateway["gemini"].script.append({"plain": b"{}"})
    status, _, content = gateway.request("POST", "/v1beta/cachedContents", {"model": "models/gemini-model", "contents": []},
                                         {"x-goog-api-key": "of-the-caller"})
    assert status == 200, content
    assert gateway["gemini"].calls[-1]["body"]["model"] == "models/up-gemini"


def test_geminis_files_are_uploaded_where_it_takes_them(gateway):
    for path in ("/upload/v1beta/files", "/team/upload/v1beta/files", "/v1beta/files"):
        gateway["gemini"].script.append({"plain": b"{}", "headers": {"x-goog-upload-url": "http://up/"}})
        status, fields, _ = gateway.request("POST", path + "?uploadType=resumable", {"file": {}}, {"x-goog-api-key": "of-the-caller"})
        assert status == 200 and fields["x-goog-upload-url"] == "http://up/"
        assert gateway["gemini"].calls[-1]["path"] == path.removeprefix("/team") + "?uploadType=resumable"


def test_a_prefix_of_the_route_is_no_part_of_the_api(gateway):
    status, answer = gateway.post("/team/llm/v1/chat/completions", CALLERS["openai"](gateway).body("openai-model"))
    assert status == 200
    assert gateway["openai"].calls[-1]["path"] == "/v1/chat/completions"


def test_what_is_no_request_is_refused_by_name(gateway):
    for body, said in ((b"{", "not a JSON object"), (b'{"model":"a","model":"b"}', "key twice"), (b'{"messages":[]}', "model")):
        status, answer = gateway.post("/v1/chat/completions", body)
        assert status == 400 and said in answer["error"]["message"], answer
    status, fields, _ = gateway.request("GET", "/v1/chat/completions")
    assert status == 405 and fields["allow"] == "POST"
    status, answer = gateway.post("/v1/chat/completions", CALLERS["openai"](gateway).body("anthropic-model", logit_bias={"1": 1}))
    assert status == 400 and "logit_bias" in answer["error"]["message"]


def test_events_are_passed_on_as_they_come(gateway):
    """The vendor waits for the caller's word between two events: nothing is held back."""
    for kind in ("openai", "anthropic", "gemini"):
        vendor = gateway[kind]
        vendor.delay = 0.3
        try:
            arrivals = []
            with socket.create_connection(("127.0.0.1", gateway.port), HANG) as connection:
                body = json.dumps(CALLERS["openai"](gateway).body(f"{kind}-model", stream=True)).encode()
                connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                seen = b""
                while b"[DONE]" not in seen:
                    piece = connection.recv(65536)
                    assert piece, seen
                    seen += piece
                    arrivals.append(time.monotonic())
            assert len(arrivals) >= len(vendor.words())
            assert arrivals[-1] - arrivals[0] > 0.3  # a lower bound: not all at once
        finally:
            vendor.delay = 0


@pairs
@kinds
def test_a_caller_that_goes_away_cancels_upstream(gateway, caller, kind):
    vendor, caller = gateway[kind], CALLERS[caller](gateway)
    vendor.script.append({"stall": 4})
    gone = vendor.gone
    body = json.dumps(caller.body(f"{kind}-model", stream=True)).encode()
    head = "".join(f"{k}: {v}\r\n" for k, v in caller.headers.items())
    connection = socket.create_connection(("127.0.0.1", gateway.port), HANG)
    connection.sendall(f"POST {caller.path(f'{kind}-model', True)} HTTP/1.1\r\nhost: a\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    connection.close()
    eventually(lambda: vendor.gone > gone, "the vendor hears of it")


@pairs
@kinds
@pytest.mark.parametrize("how", [{"cut": 4}, {"end": 4}, {"garbage": 4}, {"error": 4}])
def test_a_stream_that_breaks_is_never_shown_as_whole(gateway, caller, kind, how):
    vendor, caller = gateway[kind], CALLERS[caller](gateway)
    if "garbage" in how and vendor.shape == caller.shape:
        pytest.skip("what passes byte for byte is the caller's to read")
    vendor.script.append({**how, "delay": 0.05})  # so that the caller has got something by then
    events, whole = caller.streamed(f"{kind}-model")
    assert not whole
    assert all(e != "[DONE]" for _, e in events) and all(n != "message_stop" for n, _ in events)
    name, last = events[-1]
    assert "error" in last and (name == "error" or caller.shape != "anthropic")
    if vendor.shape == "gemini" or caller.shape == "gemini":
        assert all("finishReason" not in c for _, e in events for c in e.get("candidates", []))


def test_a_large_request_with_expect_is_asked_for(gateway):
    body = json.dumps(CALLERS["openai"](gateway).body("openai-model", text="x" * 3_000_000)).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), HANG) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert len(gateway["openai"].calls[-1]["raw"]) == len(body) - len("openai-model") + len("up-openai")


def test_http2_callers_are_served_alike(gateway):
    import subprocess
    body = json.dumps(CALLERS["openai"](gateway).body("anthropic-model", stream=True))
    done = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", "--max-time", str(HANG), "-d", body, "-H", "content-type: application/json",
                           f"http://127.0.0.1:{gateway.port}/v1/chat/completions"], capture_output=True)
    assert done.returncode == 0, done
    events = events_of(done.stdout.decode())
    assert CALLERS["openai"](gateway).streamed_text(events) == text_of(gateway["anthropic"])


def test_many_streams_at_a_time(gateway):
    wrong = []

    def one():
        caller = CALLERS["openai"](gateway)
        events, whole = caller.streamed("anthropic-model")
        if not whole or caller.streamed_text(events) != text_of(gateway["anthropic"]):
            wrong.append(events)

    threads = [threading.Thread(target=one) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_body_beyond_the_bound_is_refused_in_the_callers_shape(alone):
    gateway = Gateway(alone, ("openai",), route=", max_body: 1KiB")
    status, answer = gateway.post("/v1/chat/completions", CALLERS["openai"](gateway).body("any", text="x" * 2000))
    assert status == 413 and "max_body" in answer["error"]["message"]


def test_without_a_table_the_only_provider_is_asked(alone):
    gateway = Gateway(alone, ("anthropic",))
    status, answer = CALLERS["openai"](gateway).call("claude-x")
    assert status == 200
    assert gateway["anthropic"].calls[-1]["body"]["model"] == "claude-x"


def test_without_a_table_the_provider_may_be_said(alone):
    gateway = Gateway(alone, ("anthropic", "openai"))
    assert CALLERS["openai"](gateway).call("anthropic/claude-x")[0] == 200
    assert gateway["anthropic"].calls[-1]["body"]["model"] == "claude-x"
    assert CALLERS["openai"](gateway).call("claude-x")[0] == 404


def test_what_cannot_be_expressed_is_dropped_where_the_policy_says_so(alone):
    gateway = Gateway(alone, ("anthropic",), more="  untranslatable: drop")
    status, fields, _ = gateway.request("POST", "/v1/chat/completions", CALLERS["openai"](gateway).body("any", logit_bias={"1": 1}))
    assert status == 200 and fields["x-sluice-dropped"] == "logit_bias"


def test_a_key_is_taken_up_while_it_runs(alone):
    gateway = Gateway(alone, ("openai",))
    gateway["openai"].key = "another-secret"
    caller = CALLERS["openai"](gateway)
    status, answer = caller.call("any")
    assert status == 502 and "key" in caller.message(answer)
    assert "secret" not in json.dumps(answer)
    alone.write("openai.key", "another-secret\n")
    eventually(lambda: caller.call("any")[0] == 200, "the new key is used")
    assert "another-secret" not in gateway.sluice.output() and "secret-of" not in gateway.sluice.output()
    assert "another-secret" not in json.dumps(gateway.sluice.status())


def test_azure_by_deployment(alone):
    gateway = Gateway(alone, ("azure",), providers={"azure": ', api_version: "2024-10-21"'})
    assert CALLERS["openai"](gateway).call("gpt-x")[0] == 200
    assert gateway["azure"].calls[-1]["path"] == "/openai/deployments/gpt-x/chat/completions?api-version=2024-10-21"


def test_metrics_after_the_genai_conventions(alone):
    prices = alone.write("prices.yaml", "up: { input: 500000, output: 1000000, cached_input: 250000 }\n")
    port = __import__("harness").free_port()
    gateway = Gateway(alone, ("openai", "anthropic"), models="    m: { targets: [{ provider: openai, model: up }], fallback: [anthropic/claude] }",
                      more=f"  prices: {prices}", top=f'metrics: {{ bind: "127.0.0.1:{port}" }}')
    caller = CALLERS["openai"](gateway)
    assert caller.call("m")[0] == 200
    caller.streamed("m")
    gateway["openai"].script.append({"status": 503})
    assert caller.call("m")[0] == 200
    gateway["openai"].script.append({"status": 400})
    assert caller.call("m")[0] == 400

    def page():
        import urllib.request
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()

    labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="openai",provider="openai",gen_ai_request_model="up",team=""'
    text = eventually(lambda: (lambda p: p if 'gen_ai_request_model="(failed)"' in p else None)(page()), "the page has all")
    assert f'gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="input"}} 40' in text
    assert f'gen_ai_client_token_usage_count{{{labels},gen_ai_token_type="output"}} 2' in text
    assert f'gen_ai_server_request_duration_count{{{labels},error_type=""}} 2' in text
    assert f"gen_ai_server_time_to_first_token_count{{{labels}}} 1" in text
    assert f'sluice_ai_tokens_total{{{labels},type="cache_read"}} 8' in text
    assert f"sluice_ai_cost_dollars_total{{{labels}}} 38" in text  # twice 8 + 1 + 10
    assert 'error_type="400"' in text
    assert 'sluice_ai_fallbacks_total{gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",provider="anthropic",gen_ai_request_model="claude",team=""} 1' in text


def test_streams_that_come_in_one_piece_one_after_the_other(alone):
    gateway = Gateway(alone, ("gemini",), models=MODELS.split("\n")[3])
    whole = lambda events: b"".join(b"%x\r\n%s\r\n" % (len(e), e) for e in events) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    gateway["gemini"].stream = lambda handler, events, step: handler.connection.sendall(head + whole(events))
    caller = CALLERS["openai"](gateway)
    for _ in range(60):
        events, good = caller.streamed("gemini-model")
        assert good and caller.streamed_text(events) == text_of(gateway["gemini"])
    assert gateway.sluice.process.poll() is None


def test_every_piece_of_a_tool_call_has_its_function(gateway):
    """OpenAI's Python SDK asserts it in its helper for streams, also of the piece that has a signature of Gemini's."""
    events, _ = CALLERS["openai"](gateway).streamed("gemini-model", tools=("a", "b"))
    pieces = [piece for _, event in events[:-1] for choice in event["choices"] for piece in choice["delta"].get("tool_calls", [])]
    assert any("extra_content" in piece for piece in pieces)
    assert all("function" in piece for piece in pieces), pieces
