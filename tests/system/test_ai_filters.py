"""Filters, the audit log, and callers who are known by their address."""
import gzip
import json
import os
import re
import urllib.request

import pytest

from ai_client import CALLERS, Gateway, ResponsesCaller
from harness import eventually, free_port
from test_ai_keys import Keys

KEY = "sk-" + "proj-" + "a1" * 20
MAIL = "jane.doe@example.com"


def says(vendor, *words):
    vendor.words = lambda: list(words)


def test_secrets_and_personal_data_are_taken_out_in_both_directions(scratch):
    port = free_port()
    gateway = Gateway(scratch, ("openai", "anthropic", "gemini"), more="  filters: { private: { find: [secrets, personal] } }",
                      top=f'metrics: {{ bind: "127.0.0.1:{port}" }}')
    for kind in ("openai", "anthropic", "gemini"):
        says(gateway[kind], "Call jane.d", "oe@exam", "ple.com or use " + KEY[:9], KEY[9:], " now", ".")
        for shape, Caller in CALLERS.items():
            caller = Caller(gateway)
            status, answer = caller.call(f"{kind}/x", text=f"I am {MAIL} with {KEY}")
            assert status == 200
            sent = json.dumps(gateway[kind].calls[-1]["body"])
            assert MAIL not in sent and KEY not in sent and "I am [email] with [api_key]" in sent
            assert caller.text(answer) == "Call [email] or use [api_key] now.", (kind, shape)
            events, whole = caller.streamed(f"{kind}/x")
            assert whole and caller.streamed_text(events) == "Call [email] or use [api_key] now.", (kind, shape, events)
    counted = [f'sluice_ai_filter_matches_total{{filter="private",direction="{way}"}} {count}' for way, count in (("request", 18), ("answer", 36))]

    def all_is_counted():  # the last answer is counted as its caller has it
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        return all(line in page for line in counted)
    eventually(all_is_counted, "each match is counted")


def test_geminis_list_is_filtered_too(scratch):
    gateway = Gateway(scratch, ("openai",), more="  filters: { private: { find: [email] } }")
    says(gateway["openai"], "Call jane.d", "oe@exam", "ple.com", ".")
    status, _, content = gateway.request("POST", "/v1beta/models/openai/x:streamGenerateContent", CALLERS["gemini"](gateway).body("x"))
    assert status == 200
    text = "".join(p.get("text", "") for e in json.loads(content) for c in e.get("candidates", []) for p in c.get("content", {}).get("parts", []))
    assert text == "Call [email]."


def test_what_models_think_in_lists_is_filtered_too(scratch):
    """As Mistral's stream it."""
    gateway = Gateway(scratch, ("mistral",), more="  filters: { private: { find: [secrets, personal] } }")
    gateway["mistral"].thoughts = ("He is jane.d", "oe@exam", "ple.com, I think")
    says(gateway["mistral"], "Call jane.d", "oe@exam", "ple.com or use " + KEY[:9], KEY[9:], " now", ".")
    events, whole = CALLERS["openai"](gateway).streamed("x", reasoning_effort="high")
    said = {"text": "", "thinking": ""}
    for _, event in events[:-1]:
        for choice in event["choices"]:
            content = choice["delta"].get("content") or []
            for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                said[part["type"]] += "".join(piece["text"] for piece in part["thinking"]) if part["type"] == "thinking" else part["text"]
    assert whole and said == {"thinking": "He is [email], I think", "text": "Call [email] or use [api_key] now."}, events
    events, whole = ResponsesCaller(gateway).streamed("x", reasoning={"effort": "high"})
    for kind, text in (("output_text", said["text"]), ("reasoning_summary_text", said["thinking"])):
        assert whole and "".join(e["delta"] for name, e in events if name == f"response.{kind}.delta") == text, events


def test_a_filter_refuses_and_says_which_it_was(scratch):
    gateway = Gateway(scratch, ("openai", "anthropic"), more="""  filters:
    nightfall: { pattern: "(?i)project nightfall", action: refuse }
    only-in: { find: [iban], action: refuse, in: request }
""")
    caller = CALLERS["openai"](gateway)
    status, answer = caller.call("openai/x", text="tell me of Project Nightfall")
    assert status == 400 and "filter nightfall" in caller.message(answer) and not gateway["openai"].calls
    status, answer = CALLERS["anthropic"](gateway).call("openai/x", text="\\u0050roject nightfall".encode().decode("unicode_escape"))
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    says(gateway["openai"], "Hello there, ", "this is about pro", "ject night", "fall, and it goes on for quite a while, so that it would have been shown ")
    status, answer = caller.call("openai/x")
    assert status == 403 and "filter nightfall" in caller.message(answer)
    status, _, content = gateway.request("POST", "/v1/chat/completions", caller.body("openai/x", stream=True))
    assert b"ject night" not in content and (status == 403 or content.endswith(b"<cut>")), content
    assert gateway["anthropic"].calls == []  # nobody else is asked for it
    says(gateway["openai"], "DE89 3704 0044 0532 0130 00")
    assert caller.text(caller.call("openai/x")[1]) == "DE89 3704 0044 0532 0130 00"


def test_what_has_nothing_to_find_passes_byte_for_byte(scratch):
    gateway = Gateway(scratch, ("openai",), more="  filters: { private: { find: [secrets, personal] } }")
    caller = CALLERS["openai"](gateway)
    raw = json.dumps(caller.body("x"), indent=3)
    status, _, content = gateway.request("POST", "/v1/chat/completions", raw)
    assert status == 200 and gateway["openai"].calls[-1]["raw"].decode() == raw
    assert json.loads(content)["x_unknown"] == {"kept": True}


CHAT = {"id": "1", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": f"ask {MAIL}"}, "finish_reason": "stop"}]}
EVENT = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"ask ' + MAIL.encode() + b'"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
UNREADABLE = {
    "packed": (gzip.compress(json.dumps(CHAT).encode()), {"content-type": "application/json", "content-encoding": "gzip"}),
    "packed events": (gzip.compress(EVENT), {"content-type": "text/event-stream", "content-encoding": "gzip"}),
    "events by another name": (EVENT, {"content-type": "text/plain"}),
    "a page": (f"<p>{MAIL}</p>".encode(), {"content-type": "text/html; charset=utf-8"}),
    "nameless": (MAIL.encode(), {}),
    "cut": (json.dumps(CHAT).encode()[:-1], {"content-type": "application/json"}),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_filters_cannot_read_does_not_pass(scratch, what):
    data, headers = UNREADABLE[what]
    gateway = Gateway(scratch, ("openai",), more="  filters: { private: { find: [email] } }")
    for caller in (CALLERS["openai"](gateway), ResponsesCaller(gateway)):
        for stream in (False, True):
            gateway["openai"].script.append({"plain": data, "headers": headers})
            status, fields, content = gateway.request("POST", caller.path("m", stream), caller.body("m", stream=stream), caller.headers)
            error = json.loads(content)["error"]
            assert status == 502 and "provider openai's answer" in error["message"] and "(status 200, " in error["message"], content
            assert MAIL.encode() not in content and "content-encoding" not in fields
    assert {call["headers"]["accept-encoding"] for call in gateway["openai"].calls} == {"identity"}
    # JSON by another name is JSON.
    gateway["openai"].script.append({"plain": json.dumps(CHAT).encode(), "headers": {"content-type": "text/plain"}})
    assert caller_text(gateway) == "ask [email]"


def caller_text(gateway):
    caller = CALLERS["openai"](gateway)
    return caller.text(caller.call("m")[1])


def test_what_is_packed_passes_as_it_is_where_nobody_has_to_read_it(scratch):
    gateway = Gateway(scratch, ("openai",), more="  cache: { ttl: 1h }")
    data, headers = UNREADABLE["packed"]
    for _ in range(2):
        gateway["openai"].script.append({"plain": data, "headers": headers})
        status, fields, content = gateway.request("POST", "/v1/chat/completions", CALLERS["openai"](gateway).body("m"))
        assert (status, fields["content-encoding"], content) == (200, "gzip", data)
    assert len(gateway["openai"].calls) == 2


def test_an_error_that_is_a_text_is_filtered_too(scratch):
    gateway = Gateway(scratch, ("openai",), more="  filters: { private: { find: [email] } }")
    gateway["openai"].script.append({"plain": f"no {MAIL}".encode(), "headers": {"content-type": "text/plain"}, "code": 404})
    status, _, content = gateway.request("POST", "/v1/chat/completions", CALLERS["openai"](gateway).body("m"))
    assert (status, content) == (404, b"no [email]")


def test_every_line_of_the_audit_log_is_json(scratch):
    path = os.path.join(scratch.path, "ai.jsonl")
    gateway = Gateway(scratch, ("openai",), more=f"  audit: {{ path: {path} }}")
    body = json.dumps(CALLERS["openai"](gateway).body("m", text="@")).encode()
    data, headers = UNREADABLE["packed"]
    gateway["openai"].script.append({"plain": data, "headers": headers})
    gateway.request("POST", "/v1/chat/completions", body)
    gateway.request("POST", "/v1/chat/completions", body.replace(b"@", b"a\xff\xfeb"))
    lines = eventually(lambda: (lambda l: l if len(l) >= 2 else None)(open(path, "rb").read().splitlines()), "all is written")
    packed, bytes_in_it = (json.loads(line.decode("utf-8")) for line in lines)
    assert "\ufffd" in packed["answer"] and "a\ufffd\ufffdb" in bytes_in_it["request"]


def test_the_audit_log_has_each_call_without_secrets(scratch):
    path = os.path.join(scratch.path, "ai.jsonl")
    prices = scratch.write("prices.yaml", "x: { input: 1000, output: 1000 }\n")
    gateway = Gateway(scratch, ("openai",), keys="required", more=f"  prices: {prices}\n  audit: {{ path: {path}, max_body: 1KiB }}")
    keys, caller = Keys(gateway), CALLERS["openai"](gateway)
    shown = keys.create("alice", "--team", "red")
    headers = {"authorization": f"Bearer {shown}"}
    body = caller.body("x", text=f"I am {MAIL}, card 4111 1111 1111 1111")
    eventually(lambda: gateway.post("/v1/chat/completions", body, headers)[0] == 200, "the key is known")
    says(gateway["openai"], "use ", KEY, " ok")
    gateway.request("POST", "/v1/chat/completions", caller.body("x", stream=True), headers)
    gateway.request("POST", "/v1/chat/completions", caller.body("x", text="é" * 2000), headers)
    gateway["openai"].script.append({"status": 400, "message": "no"})
    gateway.request("POST", "/v1/chat/completions", caller.body("x"), headers)
    # Those refused before the key was known have lines, too: the last one is what is waited for.
    lines = eventually(lambda: (lambda l: l if l and l[-1].get("error") == "400" else None)([json.loads(t) for t in open(path)]), "all is written")
    whole, stream, long, error = lines[-4:]
    assert (whole["key"], whole["team"], whole["provider"], whole["model"], whole["status"]) == ("alice", "red", "openai", "x", 200)
    assert whole["request"]["messages"][1]["content"] == "I am [email], card [credit_card]"
    assert whole["answer"]["choices"][0]["message"]["content"].startswith("Hello") and whole["dollars"] == 0.03
    assert whole["usage"] == {"input": 16, "cache_read": 4, "cache_write": 0, "output": 10, "reasoning": 3}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", whole["time"]) and whole["client"] == "127.0.0.1"
    assert "[api_key]" in stream["answer"] and KEY not in stream["answer"]
    assert long["request_bytes"] > 4000 and len(long["request"].encode()) <= 1024
    assert (error["status"], error["error"]) == (400, "400")
    text = open(path).read()
    assert shown not in text and "secret-of" not in text and MAIL not in text
    assert os.stat(path).st_mode & 0o007 == 0
    # It is rotated by moving it away.
    os.rename(path, path + ".1")
    eventually(lambda: gateway.post("/v1/chat/completions", body, headers)[0] == 200 and os.path.exists(path) and open(path).read(), "a new one is begun")


def test_the_audit_log_knows_what_streams_say_in_pieces(scratch):
    path = os.path.join(scratch.path, "ai.jsonl")
    gateway = Gateway(scratch, ("openai", "anthropic", "gemini"), more=f"  audit: {{ path: {path} }}")
    for kind in ("openai", "anthropic", "gemini"):
        says(gateway[kind], "Call jane.d", "oe@exam", "ple.com or use " + KEY[:9], KEY[9:], " now", ".")
        assert "jane.d" in CALLERS[kind](gateway).streamed_text(CALLERS[kind](gateway).streamed(f"{kind}/x")[0])
    list_path = "/v1beta/models/openai/x:streamGenerateContent"
    assert gateway.request("POST", list_path, CALLERS["gemini"](gateway).body("x"))[0] == 200
    lines = eventually(lambda: (lambda l: l if len(l) >= 4 else None)([json.loads(t) for t in open(path)]), "all is written")
    for line in lines:
        text = json.dumps(line["answer"])
        assert "[email]" in text and "[api_key]" in text, text
        for piece in ("jane.d", "oe@exam", "ple.com", KEY[:9], KEY[9:]):
            assert piece not in text, text
    assert isinstance(lines[3]["answer"], list)


def test_a_part_of_a_stream_in_the_audit_log_has_no_secrets(scratch):
    path = os.path.join(scratch.path, "ai.jsonl")
    gateway = Gateway(scratch, ("openai",), more=f"  audit: {{ path: {path}, max_body: 2KiB }}")
    says(gateway["openai"], "Call jane.d", "oe@exam", "ple.com ", *["and on "] * 60)
    gateway.request("POST", "/v1/chat/completions", CALLERS["openai"](gateway).body("x", stream=True))
    gateway.request("POST", "/v1beta/models/openai/x:streamGenerateContent", CALLERS["gemini"](gateway).body("x"))
    lines = eventually(lambda: (lambda l: l if len(l) >= 2 else None)([json.loads(t) for t in open(path)]), "all is written")
    for line in lines:
        assert line["answer_bytes"] > 2048 and "[email]" in line["answer"] and "oe@exam" not in line["answer"], line


def test_an_address_stands_for_a_key(scratch):
    gateway = Gateway(scratch, ("openai",), keys="required", more="""  identities:
    - { from: [127.0.0.0/8], key: app }
    - { from: [10.0.0.0/8], key: other }
""")
    keys, caller = Keys(gateway), CALLERS["openai"](gateway)
    status, answer = caller.call("gpt-a")
    assert status == 401 and "the key that stands for this caller is not known here" in caller.message(answer)
    keys.create("app", "--models", "gpt-*")
    eventually(lambda: caller.call("gpt-a")[0] == 200, "the key is known")
    status, answer = caller.call("other")
    assert status == 403 and "key app may not use model other" in caller.message(answer)
    # SDKs want to show something; a key that is known comes first.
    assert gateway.post("/v1/chat/completions", caller.body("gpt-a"), {"authorization": "Bearer none"})[0] == 200
    own = {"authorization": "Bearer " + keys.create("own")}
    eventually(lambda: gateway.post("/v1/chat/completions", caller.body("other"), own)[0] == 200, "the shown key is taken")
    keys.run("revoke", "app")
    eventually(lambda: caller.call("gpt-a")[0] == 401, "it is revoked")
