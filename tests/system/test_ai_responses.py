"""OpenAI's Responses API towards providers that have none: translated both ways, also as streams."""
import json

import pytest

from ai_client import Gateway, ResponsesCaller
from harness import Scratch

KINDS = ("anthropic", "gemini", "mistral", "compatible")
MODELS = "\n".join(f"    {kind}-model: {{ targets: [{{ provider: {kind}, model: up-{kind} }}] }}" for kind in KINDS)
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def gateway():
    with Scratch() as scratch:
        yield Gateway(scratch, KINDS, models=MODELS)


@pytest.fixture
def caller(gateway):
    return ResponsesCaller(gateway)


@kinds
def test_text(gateway, caller, kind):
    status, answer = caller.call(f"{kind}-model", max_output_tokens=100, temperature=0.5, metadata={"a": "b"}, truncation="disabled")
    assert status == 200, answer
    assert caller.text(answer) == "".join(gateway[kind].words())
    assert caller.usage(answer) == (20, 10) and answer["usage"]["total_tokens"] == 30
    assert "/responses" not in gateway[kind].calls[-1]["path"]
    status, answer = gateway.post("/v1/responses", {"model": f"{kind}-model", "input": "Hi"})
    assert status == 200 and caller.text(answer) == "".join(gateway[kind].words())


@kinds
def test_stream(gateway, caller, kind):
    events, whole = caller.streamed(f"{kind}-model")
    assert whole and caller.streamed_text(events) == "".join(gateway[kind].words())
    assert caller.usage(events[-1][1]["response"]) == (20, 10)


@kinds
def test_parallel_tools_and_their_results(gateway, caller, kind):
    tools = ["weather", "time"]
    status, answer = caller.call(f"{kind}-model", tools=tools, tool_choice="auto", parallel_tool_calls=True)
    assert status == 200, answer
    wanted = [("weather", {"city": "Paris"}), ("time", {"city": "Paris"})]
    assert [call[1:] for call in caller.calls(answer)] == wanted
    status, answer = caller.results(f"{kind}-model", answer, tools)
    assert status == 200 and "sunny" in caller.text(answer), answer
    events, whole = caller.streamed(f"{kind}-model", tools=tools)
    assert whole and [call[1:] for call in caller.streamed_calls(events)] == wanted


@kinds
def test_a_schema_is_asked_for(gateway, caller, kind):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
    status, answer = caller.call(f"{kind}-model", text={"format": {"type": "json_schema", "name": "who", "schema": schema, "strict": True}})
    assert status == 200, answer
    assert '"name"' in json.dumps(gateway[kind].calls[-1]["body"])
    if kind != "anthropic":  # whose stand-in says its words all the same
        assert set(json.loads(caller.text(answer))) == {"name"}


@kinds
def test_an_error_and_a_cut_stream_are_no_answers(gateway, caller, kind):
    gateway[kind].script.append({"status": 400, "message": "context length exceeded"})
    status, answer = caller.call(f"{kind}-model")
    assert status == 400 and "context length exceeded" in caller.message(answer)
    gateway[kind].script.append({"cut": 4, "delay": 0.05})
    events, whole = caller.streamed(f"{kind}-model")
    assert not whole and "error" in events[-1][1]
    assert not any(name in ("response.completed", "response.incomplete") for name, _ in events)


@kinds
@pytest.mark.parametrize("state", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True},
                                   {"input": [{"type": "item_reference", "id": "msg_1"}]}])
def test_p19_what_one_vendor_keeps_is_refused_by_name(gateway, caller, kind, state):
    before = len(gateway[kind].calls)
    status, answer = caller.call(f"{kind}-model", **state)
    field = next(iter(state))
    assert status == 400 and answer["error"]["param"].startswith(field), answer
    assert len(gateway[kind].calls) == before


def test_who_has_the_api_gets_it_as_it_is(scratch):
    """Byte for byte, with what is kept there."""
    gateway = Gateway(scratch, ("openai",), models="    m: { targets: [{ provider: openai }] }")
    body = {"model": "m", "input": "Hi", "previous_response_id": "resp_1", "unknown": {"kept": 1}}
    status, answer = gateway.post("/v1/responses", body)
    call = gateway["openai"].calls[-1]
    assert call["path"] == "/v1/responses" and call["body"] == body
    assert status == 400 and "unknown" in answer["error"]["message"]


@pytest.mark.parametrize("kind", ["openai", "azure"])
def test_who_has_the_api_answers_in_its_own_words(scratch, kind):
    gateway = Gateway(scratch, (kind,), models=f"    m: {{ targets: [{{ provider: {kind} }}] }}")
    caller = ResponsesCaller(gateway)
    words = "".join(gateway[kind].words())
    status, answer = caller.call("m")
    assert status == 200 and caller.text(answer) == words and caller.usage(answer) == (20, 10)
    events, whole = caller.streamed("m")
    assert whole and caller.streamed_text(events) == words
    status, answer = caller.call("m", tools=["weather", "time"])
    assert [name for _, name, _ in caller.calls(answer)] == ["weather", "time"]
    status, answer = caller.results("m", answer, ["weather", "time"])
    assert (status, caller.text(answer)) == (200, "result: sunny")
    events, whole = caller.streamed("m", tools=["weather", "time"])
    assert whole and [name for _, name, _ in caller.streamed_calls(events)] == ["weather", "time"]
    gateway[kind].script.append({"cut": 6, "delay": 0.05})
    events, whole = caller.streamed("m")
    assert not whole and events[-1][0] == "error"
    assert all(call["path"].endswith("/responses") for call in gateway[kind].calls)


def test_a_fallback_without_the_api_is_asked_in_its_own_words(scratch):
    gateway = Gateway(scratch, ("openai", "anthropic"), models="    m: { targets: [{ provider: openai }], fallback: [anthropic/claude] }")
    gateway["openai"].script.append({"status": 503})
    caller = ResponsesCaller(gateway)
    status, answer = caller.call("m")
    assert status == 200 and caller.text(answer) == "".join(gateway["anthropic"].words())
