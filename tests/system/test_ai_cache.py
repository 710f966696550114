"""Answers that are kept: for the same request of the same key alone, whole, and for their time."""
import json
import socket
import urllib.request

from ai_client import CALLERS, Gateway
from harness import HANG, eventually, free_port
from test_ai_budgets import usage_of
from test_ai_keys import Keys


def caching(scratch, kinds=("openai",), cache="{ ttl: 1h }", **arguments):
    gateway = Gateway(scratch, kinds, more=f"  cache: {cache}", **arguments)
    return gateway, CALLERS["openai"](gateway)


def ask(gateway, body, headers=None, path="/v1/chat/completions"):
    status, fields, content = gateway.request("POST", path, body, headers)
    return status, fields.get("x-sluice-cache"), fields, content


def leave_after(gateway, body, last):
    """A caller that closes its connection as soon as it has read `last`."""
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), HANG) as connection:
        connection.sendall(head.encode() + data)
        seen = b""
        while last not in seen:
            piece = connection.recv(4096)
            assert piece, seen
            seen += piece


def test_the_same_request_is_answered_from_memory(scratch):
    port = free_port()
    gateway, caller = caching(scratch, top=f'metrics: {{ bind: "127.0.0.1:{port}" }}')
    body = caller.body("any", text="one")
    status, result, _, first = ask(gateway, body)
    assert (status, result) == (200, "miss")
    status, result, fields, second = ask(gateway, json.dumps(body, indent=2))
    assert (status, result, second) == (200, "hit", first)
    assert int(fields["age"]) >= 0 and fields["x-sluice-provider"] == "openai" and fields["content-type"] == "application/json"
    assert ask(gateway, caller.body("any", text="two"))[1] == "miss"
    assert len(gateway["openai"].calls) == 2
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    assert 'team="",result="hit"} 1' in page and 'team="",result="miss"} 2' in page and "sluice_ai_cache_entries 2" in page


def test_a_stream_is_given_again_as_a_stream(scratch):
    gateway, _ = caching(scratch, ("openai", "anthropic"))
    for shape, model in (("openai", "openai/x"), ("anthropic", "openai/x"), ("gemini", "anthropic/c"), ("anthropic", "anthropic/c")):
        caller = CALLERS[shape](gateway)
        path, body = caller.path(model, True), caller.body(model, stream=True)
        first = gateway.request("POST", path, body, caller.headers)
        second = gateway.request("POST", path, body, caller.headers)
        assert (first[1]["x-sluice-cache"], second[1]["x-sluice-cache"]) == ("miss", "hit"), shape
        assert second[2] == first[2] and second[1]["content-type"].startswith("text/event-stream")
        # One that does not stream is another request.
        assert gateway.request("POST", caller.path(model, False), caller.body(model), caller.headers)[1]["x-sluice-cache"] == "miss"


def test_each_key_has_its_own_and_a_hit_costs_nothing(scratch):
    prices = scratch.write("prices.yaml", "any: { input: 1000, output: 1000 }\n")
    gateway, caller = caching(scratch, keys="required", top="")
    gateway.sluice.write_policy(gateway.policy + f"  prices: {prices}\n")
    keys = Keys(gateway)
    one = {"authorization": "Bearer " + keys.create("a", "--requests-per-minute", "3", "--budget", "0.08")}
    two = {"authorization": "Bearer " + keys.create("b")}
    body = caller.body("any", max_tokens=10)
    eventually(lambda: ask(gateway, body, two)[0] == 200, "the keys are known")
    assert [ask(gateway, body, one)[1] for _ in range(3)] == ["miss", "hit", "hit"]
    assert ask(gateway, body, one)[0] == 429  # a request it is
    assert ask(gateway, body, two)[1] == "hit"
    line = eventually(lambda: next((l for l in usage_of(gateway.sluice.policy, "--by", "key")["usage"] if l["key"] == "a" and l["cache_hits"] == 2), None), "it is written")
    assert (line["requests"], line["dollars"]) == (3, 0.03)


def test_a_beta_is_another_question(scratch):
    gateway, _ = caching(scratch, ("anthropic",))
    caller = CALLERS["anthropic"](gateway)
    results = [ask(gateway, caller.body("any"), {**caller.headers, **beta}, caller.path("any", False))[1]
               for beta in ({}, {"Anthropic-Beta": "one"}, {"anthropic-beta": "two"}, {"anthropic-beta": "one"}, {})]
    assert results == ["miss", "miss", "miss", "hit", "hit"]


def test_errors_and_cut_streams_are_never_kept(scratch):
    gateway, caller = caching(scratch)
    vendor = gateway["openai"]
    for step, stream in (({"status": 400}, False), ({"status": 429, "headers": {"retry-after": "1"}}, False), ({"cut": 3}, True),
                         ({"garbage": 3}, True), ({"error": 3}, True), ({"end": 3}, True)):
        body = caller.body("any", text=json.dumps(step), stream=stream)
        vendor.script += [step, step]
        ask(gateway, body)
        vendor.script.clear()
        eventually(lambda: ask(gateway, body)[0] == 200, "the vendor answers again")
        assert ask(gateway, body)[1] == "hit"
    # Somebody else's going away does not make half an answer a whole one.
    vendor.delay = 0.05
    body = caller.body("any", text="gone", stream=True)
    leave_after(gateway, body, b"HTTP/1.1")
    eventually(lambda: vendor.gone > 0, "the vendor sees that its caller has gone")
    vendor.delay = 0
    assert ask(gateway, body)[1] == "miss"


def test_a_caller_that_leaves_with_the_last_event_has_the_whole_answer(scratch):
    """As some SDKs do, before the body has ended."""
    port = free_port()
    gateway, caller = caching(scratch, top=f'metrics: {{ bind: "127.0.0.1:{port}" }}')
    gateway["openai"].script.append({"linger": 3})
    body = caller.body("any", stream=True)
    leave_after(gateway, body, b"[DONE]\n\n")
    page = eventually(lambda: (lambda p: p if "sluice_ai_cache_entries 1" in p else None)(
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()), "it is kept")
    assert 'error_type="cancelled"' not in page
    status, result, _, content = ask(gateway, body)
    assert (status, result) == (200, "hit") and content.endswith(b"data: [DONE]\n\n")
    assert len(gateway["openai"].calls) == 1


def test_all_candidates_of_a_stream_are_kept(scratch):
    gateway, _ = caching(scratch, ("gemini",))
    caller = CALLERS["gemini"](gateway)
    gateway["gemini"].delay = 0.02
    path, body = caller.path("any", True), caller.body("any", stream=True)
    body.setdefault("generationConfig", {})["candidateCount"] = 3
    answers = [gateway.request("POST", path, body, caller.headers) for _ in range(2)]
    assert [fields["x-sluice-cache"] for _, fields, _ in answers] == ["miss", "hit"]
    assert answers[0][2].count(b'"finishReason"') == 3 and answers[1][2] == answers[0][2]


def test_the_caller_may_do_without(scratch):
    gateway, caller = caching(scratch)
    body = caller.body("any")
    assert ask(gateway, body, {"cache-control": "no-store"})[1] is None
    assert ask(gateway, body)[1] == "miss"
    assert ask(gateway, body, {"cache-control": "no-cache"})[1] is None
    assert ask(gateway, body)[1] == "hit"
    assert len(gateway["openai"].calls) == 3


def test_only_where_the_policy_says(scratch):
    gateway, caller = caching(scratch, cache="{ ttl: 1s, models: [\"kept-*\"] }", models="    kept-1: { targets: [{ provider: openai }] }\n    other: { targets: [{ provider: openai }] }")
    assert [ask(gateway, caller.body("other"))[1] for _ in range(2)] == [None, None]
    assert [ask(gateway, caller.body("kept-1"))[1] for _ in range(2)] == ["miss", "hit"]
    eventually(lambda: ask(gateway, caller.body("kept-1"))[1] == "miss", "its time is up")


def changed(body, **fields):
    return {**body, **fields}


def test_c4_the_whole_request_is_the_key(scratch):
    """What makes another answer makes another entry, also a value that is the vendor's own default."""
    gateway, caller = caching(scratch)
    plain = caller.body("any", tools=["weather", "time"])
    system, user = plain["messages"]
    variants = [plain, changed(plain, temperature=0), changed(plain, temperature=1), changed(plain, temperature=None), changed(plain, max_tokens=10),
                changed(plain, max_tokens=11), changed(plain, top_p=1), changed(plain, tool_choice="none"), changed(plain, tool_choice="auto"),
                changed(plain, seed=1), changed(plain, stop=["x"]), changed(plain, tools=plain["tools"][:1]), changed(plain, tools=plain["tools"][::-1]),
                changed(plain, messages=[user]), changed(plain, messages=[{**system, "content": "Be long."}, user]),
                changed(plain, messages=[system, {**user, "content": "Hi "}]), changed(plain, user="somebody"), changed(plain, model="another"),
                changed(plain, response_format={"type": "json_object"})]
    assert [ask(gateway, body)[1] for body in variants] == ["miss"] * len(variants)
    assert [ask(gateway, body)[1] for body in variants] == ["hit"] * len(variants)
    assert len(gateway["openai"].calls) == len(variants)


def test_c4_a_longer_beginning_is_no_hit(scratch):
    gateway, caller = caching(scratch)
    for text in ("tell me", "tell me more", "tell me more about it", "tell"):
        assert ask(gateway, caller.body("any", text=text))[1] == "miss"


def test_c4_another_provider_or_model_is_another_answer(scratch):
    """The caller's words stay the same while the policy's do not."""
    gateway, caller = caching(scratch, ("openai", "mistral"), models="    m: { targets: [{ provider: openai, model: one }] }")
    body = caller.body("m")
    assert [ask(gateway, body)[1] for _ in range(2)] == ["miss", "hit"]
    policy = open(gateway.sluice.policy).read()
    for target in ("provider: openai, model: two", "provider: mistral, model: one"):
        gateway.sluice.write_policy(policy.replace("provider: openai, model: one", target))
        gateway.sluice.ctl("reload")
        status, result, fields, content = ask(gateway, body)
        assert (status, result, fields["x-sluice-provider"]) == (200, "miss", target.split()[1].rstrip(",")), target
        assert ask(gateway, body)[1] == "hit"


def test_c4_no_key_sees_what_another_one_asked(scratch):
    """The same words of two tenants, and of a key that has one's name before its own."""
    gateway, caller = caching(scratch, keys="required")
    keys = Keys(gateway)
    holders = [{"authorization": "Bearer " + keys.create(name, *arguments)} for name, arguments in
               (("a", ()), ("ab", ()), ("c", ("--team", "a")), ("d", ("--owner", "a")))]
    body = caller.body("any")
    eventually(lambda: gateway.request("GET", "/v1/models", headers=holders[-1])[0] == 200, "the keys are known")
    assert [ask(gateway, body, holder)[1] for holder in holders] == ["miss"] * 4
    assert [ask(gateway, body, holder)[1] for holder in holders] == ["hit"] * 4


def test_c4_it_is_kept_only_for_who_the_policy_names(scratch):
    gateway, caller = caching(scratch, cache="{ ttl: 1h, keys: [a] }", keys="required")
    keys = Keys(gateway)
    named, other = ({"authorization": "Bearer " + keys.create(name)} for name in "ab")
    body = caller.body("any")
    eventually(lambda: gateway.request("GET", "/v1/models", headers=other)[0] == 200, "the keys are known")
    assert [ask(gateway, body, other)[1] for _ in range(2)] == [None, None]
    assert [ask(gateway, body, named)[1] for _ in range(2)] == ["miss", "hit"]


def test_c4_an_answer_of_the_fallback_is_not_the_first_ones(scratch):
    """What another model said while the first one was away is not what the first one says."""
    gateway, caller = caching(scratch, ("openai", "anthropic"), models="    m: { targets: [{ provider: openai, model: one }], fallback: [anthropic/two] }")
    body = caller.body("m")
    gateway["openai"].script.append({"status": 503})
    _, result, fields, _ = ask(gateway, body)
    assert (result, fields["x-sluice-provider"]) == ("miss", "anthropic")
    _, result, fields, _ = ask(gateway, body)
    assert (result, fields["x-sluice-provider"]) == ("miss", "openai")
    _, result, fields, _ = ask(gateway, body)
    assert (result, fields["x-sluice-provider"]) == ("hit", "openai")
