"""Answers that are kept: for the same request of the same key alone, whole, and for their time."""
import json
import urllib.request

from ai_client import CALLERS, Gateway
from harness import eventually, free_port
from test_ai_budgets import usage_of
from test_ai_keys import Keys


def caching(scratch, kinds=("openai",), cache="{ ttl: 1h }", **arguments):
    gateway = Gateway(scratch, kinds, more=f"  cache: {cache}", **arguments)
    return gateway, CALLERS["openai"](gateway)


def ask(gateway, body, headers=None, path="/v1/chat/completions"):
    status, fields, content = gateway.request("POST", path, body, headers)
    return status, fields.get("x-sluice-cache"), fields, content


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
    import socket
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data) + data)
        connection.recv(100)
    eventually(lambda: vendor.gone > 0, "the vendor sees that its caller has gone")
    vendor.delay = 0
    assert ask(gateway, body)[1] == "miss"


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
