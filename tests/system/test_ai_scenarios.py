"""failoverbench's sixteen scenarios of what providers do wrong, a test each (S14 and S16: what must not be paid for). Streams have its
60 tokens and break after 40; its pauses of half a minute are longer here than the policy's timeouts of a second."""
import json

import pytest

from ai_client import CALLERS, Gateway
from harness import eventually
from test_ai_budgets import Budgeted

FALLBACK = "    m: { targets: [{ provider: openai, model: first }], fallback: [anthropic/second] }"
TIMEOUTS = ", timeouts: { first_token: 1s, idle: 1s }"
TOKENS = [f" token-{n:02}" for n in range(60)]
HALF = 41  # events: the role's, and 40 tokens

both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
each_caller = pytest.mark.parametrize("caller", CALLERS)


@pytest.fixture
def chain(scratch):
    gateway = Gateway(scratch, ("openai", "anthropic"), models=FALLBACK, providers={"openai": TIMEOUTS})
    gateway["openai"].words = lambda: TOKENS
    return gateway


def ask(gateway, stream=False, caller="openai"):
    """The name of the vendor whose answer came, whole."""
    caller = CALLERS[caller](gateway)
    if stream:
        events, whole = caller.streamed("m")
        assert whole
        text = caller.streamed_text(events)
    else:
        status, answer = caller.call("m")
        assert status == 200, answer
        text = caller.text(answer)
    return next(name for name, vendor in gateway.vendors.items() if text == "".join(vendor.words()))


def broken(gateway, fault, caller):
    """How many tokens came of a stream that must not look whole, nor be begun again by another model."""
    gateway["openai"].script.append({**fault, "delay": 0.01})
    events, whole = CALLERS[caller](gateway).streamed("m")
    assert not whole and "error" in events[-1][1], events[-1]
    assert len(gateway["openai"].calls) == 1 and not gateway["anthropic"].calls
    text = json.dumps(events)
    came = [token in text for token in TOKENS]
    assert came == sorted(came, reverse=True), "in order, none left out"
    return sum(came)


@both
def test_s01_a_rate_limit_that_says_when_to_come_back(chain, stream):
    chain["openai"].script.append({"status": 429, "headers": {"retry-after": "1"}})
    assert ask(chain, stream) == "anthropic"
    eventually(lambda: ask(chain, stream) == "openai", "it is asked again when the second is over")


def test_s02_a_rate_limit_that_lasts(chain):
    chain["openai"].script += [{"status": 429, "headers": {"retry-after": "60"}}] * 8
    assert [ask(chain, stream) for stream in (False, True) * 4] == ["anthropic"] * 8
    assert len(chain["openai"].calls) == 1, "who asks for a minute's rest is left alone"


@both
def test_s03_an_error_once(chain, stream):
    chain["openai"].script.append({"status": 500})
    assert [ask(chain, stream) for _ in range(2)] == ["anthropic", "openai"]


@both
def test_s04_unavailable(chain, stream):
    chain["openai"].script += [{"status": 503}] * 4
    assert [ask(chain, stream) for _ in range(5)] == ["anthropic"] * 4 + ["openai"]


@both
def test_s05_a_reset_before_the_head(chain, stream):
    chain["openai"].script.append({"reset": True})
    assert ask(chain, stream) == "anthropic"


@both
def test_s06_a_provider_that_hangs(chain, stream):
    chain["openai"].script.append({"hang": True})
    assert ask(chain, stream) == "anthropic"
    eventually(lambda: chain["openai"].gone == 1, "what nobody waits for is not left open")


def test_s07_a_slow_first_token_is_not_waited_for_longer_than_the_policy_says(chain):
    # Nothing but a head; the role, which is no token; comments without an end.
    for fault in ({"first": 30}, {"stall": 1}, {"comments": 0.1}):
        chain["openai"].script.append(fault)
        assert ask(chain, True) == "anthropic"


def test_s07_a_slow_first_token_is_waited_for_as_long_as_the_policy_says(scratch):
    gateway = Gateway(scratch, ("openai", "anthropic"), models=FALLBACK, providers={"openai": ", timeouts: { first_token: 60s, idle: 1s }"})
    gateway["openai"].script.append({"first": 3})
    assert ask(gateway, True) == "openai"


@each_caller
def test_s08_a_cut_in_the_middle(chain, caller):
    assert broken(chain, {"cut": HALF}, caller) == 40


@each_caller
def test_s09_a_stall_in_the_middle(chain, caller):
    assert broken(chain, {"stall": HALF}, caller) == 40
    eventually(lambda: chain["openai"].gone == 1, "the provider's side is closed too")


@each_caller
def test_s10_a_malformed_chunk(chain, caller):
    """Of the transfer: no caller's parser would take it either."""
    assert broken(chain, {"bad_chunk": HALF}, caller) == 40


@pytest.mark.parametrize("caller", [c for c in CALLERS if c != "openai"])
def test_s10_a_malformed_event_that_cannot_be_translated(chain, caller):
    assert broken(chain, {"garbage": HALF}, caller) == 40


def test_s10_a_malformed_event_passes_where_every_byte_does(chain):
    """Same shape on both sides: the caller's own SDK says what is wrong with it, and nothing else is lost."""
    chain["openai"].script.append({"garbage": HALF})
    status, _, content = chain.request("POST", "/v1/chat/completions", CALLERS["openai"](chain).body("m", stream=True))
    assert status == 200 and content.endswith(b"data: [DONE]\n\n") and b"data: {not json\n\n" in content
    assert sum(token.encode() in content for token in TOKENS) == 59


@each_caller
def test_s10_a_malformed_beginning_leads_to_the_fallback(chain, caller):
    for fault in ({"garbage": 0}, {"bad_chunk": 0}):
        chain["openai"].script.append(fault)
        assert ask(chain, True, caller) == "anthropic"


@each_caller
def test_s11_an_end_without_the_last_word(chain, caller):
    """Neither `[DONE]` nor a reason to stop: half an answer."""
    assert broken(chain, {"end": HALF}, caller) == 40


@each_caller
def test_s11_no_done_after_a_reason_to_stop_is_whole(chain, caller):
    chain["openai"].script.append({"no_done": True})
    events, whole = CALLERS[caller](chain).streamed("m")
    assert whole and "error" not in events[-1][1]
    assert all(token in json.dumps(events) for token in TOKENS)


@both
@each_caller
def test_s12_too_long_a_context_is_the_callers_to_shorten(chain, caller, stream):
    callers_fault(chain, caller, stream, "context_length_exceeded: 9000 tokens of 8192")


@both
@each_caller
def test_s13_what_the_content_filter_refuses_is_asked_once(chain, caller, stream):
    callers_fault(chain, caller, stream, "content_filter: the prompt was refused")


def callers_fault(chain, caller, stream, message):
    chain["openai"].script.append({"status": 400, "message": message})
    caller = CALLERS[caller](chain)
    status, answer = chain.post(caller.path("m", stream), caller.body("m", stream=stream), caller.headers)
    assert (status, caller.message(answer)) == (400, message)
    assert len(chain["openai"].calls) == 1 and not chain["anthropic"].calls


def test_s13_an_answer_that_the_filter_ended_is_an_answer(chain):
    """It says so itself, and is neither tried again nor shown as an end like any other."""
    chain["openai"].script += [{"finish": "content_filter"}] * 2
    _, answer = CALLERS["openai"](chain).call("m")
    events, whole = CALLERS["anthropic"](chain).streamed("m")
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert whole and [e["delta"]["stop_reason"] for n, e in events if n == "message_delta"] == ["refusal"]
    assert not chain["anthropic"].calls


@each_caller
def test_s14_a_stream_that_was_cut_is_not_begun_again_elsewhere(chain, caller):
    """No prefill: what one model has begun, another does not go on with, whether it would refuse it or not."""
    chain["anthropic"].script.append({"status": 400, "message": "prefill is not supported"})
    assert broken(chain, {"cut": HALF}, caller) == 40
    assert chain["anthropic"].script


def test_s15_who_flaps_is_returned_to_each_time(chain):
    up, down = {}, {"status": 503}
    pattern = [down, up, down, down, down, up, up, {"hang": True}, up, {"status": 500}, down, up]
    chain["openai"].script += [dict(step) for step in pattern]
    assert [ask(chain, n % 2 == 0) for n in range(len(pattern))] == ["openai" if step == up else "anthropic" for step in pattern]


@both
def test_s16_the_fallbacks_model_and_usage_are_reported_and_failed_tries_not_billed(scratch, stream):
    gateway = Budgeted(scratch, kinds=("openai", "anthropic"),
                       prices="up: { input: 1000, output: 1000, cached_input: 1000 }\nclaude: { input: 1, output: 1 }\n")
    policy = open(gateway.policy_file).read().replace("m: { targets: [{ provider: openai, model: up }] }",
                                                      "m: { targets: [{ provider: openai, model: up }], fallback: [anthropic/claude] }")
    gateway.sluice.write_policy(policy)
    gateway.sluice.ctl("reload")
    headers = gateway.holder("a", "--budget", "1")
    gateway["openai"].script.append({"status": 503})
    status, fields, content = gateway.ask(headers, stream=stream, **({"stream_options": {"include_usage": True}} if stream else {}))
    assert status == 200 and fields["x-sluice-provider"] == "anthropic"
    assert b'"model":"claude' in content.replace(b": ", b":") and b"30" in content
    lines = eventually(lambda: gateway.usage("--by", "provider,model")["usage"], "it is written")
    assert [(line["provider"], line["model"], line["requests"], line["errors"]) for line in lines] == [("anthropic", "claude", 1, 0)]
    assert lines[0]["dollars"] < 0.001 and lines[0]["input"] + lines[0]["cache_read"] + lines[0]["output"] == 30
