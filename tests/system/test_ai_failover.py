"""What goes wrong at providers beyond the scenarios of test_ai_scenarios.py: before the caller's first byte another try is made;
who is asked, how often, and with which key."""
import gzip
import json
import time
import urllib.request

import pytest

from ai_client import CALLERS, Gateway
from harness import eventually, free_port

CHAIN = "    m: { targets: [{ provider: openai, model: first }], fallback: [anthropic/second] }"


@pytest.fixture
def chain(scratch):
    return Gateway(scratch, ("openai", "anthropic"), models=CHAIN,
                   providers={"openai": ", timeouts: { first_token: 1s, idle: 1s }"})


@pytest.fixture
def alone(scratch):
    return Gateway(scratch, ("openai",), providers={"openai": ", timeouts: { first_token: 1s, idle: 1s }"})


def ask(gateway, stream):
    caller = CALLERS["openai"](gateway)
    if stream:
        events, whole = caller.streamed("m")
        assert whole
        return caller.streamed_text(events)
    status, answer = caller.call("m")
    assert status == 200, answer
    return caller.text(answer)


both = pytest.mark.parametrize("stream", [False, True])


@both
@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 429, "headers": {"retry-after": "30"}}, {"status": 500}, {"status": 502},
                                   {"status": 503}, {"status": 529}, {"reset": True}, {"hang": True}, {"status": 401}, {"status": 403}])
def test_a_failure_leads_to_the_fallback(chain, fault, stream):
    chain["openai"].script += [dict(fault), dict(fault)]
    assert ask(chain, stream) == "".join(chain["anthropic"].words())
    assert chain["anthropic"].calls[-1]["body"]["model"] == "second"
    assert len(chain["openai"].calls) <= 1


def test_calls_to_a_provider_that_cannot_be_reached_are_its_errors(scratch):
    nobody, page = free_port(), free_port()
    dead = f' }}\n    dead: {{ kind: compatible, base_url: "http://127.0.0.1:{nobody}"'
    gateway = Gateway(scratch, ("openai",), providers={"openai": dead}, models="    m: { targets: [{ provider: dead, model: gone }] }",
                      top=f'metrics: {{ bind: "127.0.0.1:{page}" }}')
    caller = CALLERS["openai"](gateway)
    status, answer = caller.call("m")
    assert (status, answer["error"]["message"]) == (502, "connection refused"), answer
    assert caller.call("nobody-has-it")[0] == 404  # nobody's
    counted = 'provider="dead",gen_ai_request_model="(failed)",team="",error_type="502"} 1'

    def metrics():
        return urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=30).read().decode()

    eventually(lambda: counted in metrics(), "it is counted")
    assert 'error_type="404"' not in metrics()


def test_a_stream_that_begins_with_an_error_is_not_passed_on(chain):
    chain["openai"].script.append({"error": 0})
    assert ask(chain, True) == "".join(chain["anthropic"].words())


def test_all_fail_and_the_last_one_says_how(chain):
    chain["openai"].script.append({"status": 503})
    chain["anthropic"].script += [{"status": 529, "message": "busy"}] * 2
    status, answer = CALLERS["openai"](chain).call("m")
    assert (status, answer["error"]["message"]) == (503, "busy")
    chain["openai"].script.append({"status": 503})
    chain["anthropic"].script += [{"status": 429, "headers": {"retry-after": "77"}}] * 2
    status, fields, _ = chain.request("POST", "/v1/chat/completions", CALLERS["openai"](chain).body("m"))
    assert status == 429 and fields["retry-after"] == "77"


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429, "headers": {"retry-after": "1"}}, {"reset": True}])
def test_the_only_one_is_asked_again(alone, fault):
    alone["openai"].script.append(dict(fault))
    begun = time.monotonic()
    status, _ = CALLERS["openai"](alone).call("m")
    assert status == 200 and len(alone["openai"].calls) == 2
    if "headers" in fault:
        assert time.monotonic() - begun >= 1


def test_the_only_one_that_asks_for_long_patience_is_not_waited_for(alone):
    """The caller shall decide."""
    alone["openai"].script.append({"status": 429, "headers": {"retry-after": "600"}})
    status, fields, _ = alone.request("POST", "/v1/chat/completions", CALLERS["openai"](alone).body("m"))
    assert status == 429 and fields["retry-after"] == "600"
    assert len(alone["openai"].calls) == 1


def test_a_cut_shows_as_502_or_504_not_as_the_callers_fault(alone):
    alone["openai"].script += [{"reset": True}] * 2
    status, answer = CALLERS["openai"](alone).call("m")
    assert status == 502 and answer["error"]["type"] == "server_error"
    alone["openai"].script += [{"hang": True}] * 2
    status, answer = CALLERS["anthropic"](alone).call("m")
    assert status == 504


def test_keys_rest_one_by_one(scratch):
    """Two keys of one provider: the one whose rate is used up rests, the other goes on."""
    gateway = Gateway(scratch, ("openai",))
    scratch.write("second.key", "secret-of-openai")
    policy = gateway.policy.replace(f'key: "file:{scratch.path}/openai.key"',
                                    f'keys: ["file:{scratch.path}/openai.key", "file:{scratch.path}/second.key"]')
    scratch.write("second.key", "another-secret")
    gateway.sluice.write_policy(policy)
    gateway.sluice.ctl("reload")
    vendor = gateway["openai"]
    vendor.credential = lambda headers: vendor.key  # takes both, and says which one it was
    caller = CALLERS["openai"](gateway)

    def used():
        return vendor.calls[-1]["headers"]["authorization"]

    seen = set()
    for _ in range(4):
        assert caller.call("m")[0] == 200
        seen.add(used())
    assert seen == {"Bearer secret-of-openai", "Bearer another-secret"}
    vendor.script.append({"status": 429, "headers": {"retry-after": "60"}})
    before = len(vendor.calls)
    assert caller.call("m")[0] == 200
    first, second = [c["headers"]["authorization"] for c in vendor.calls[before:]]
    assert first != second
    for _ in range(4):
        assert caller.call("m")[0] == 200
        assert used() == second


@pytest.fixture
def two_keys(scratch):
    gateway = Gateway(scratch, ("openai", "gemini"))
    policy = gateway.policy
    for kind in ("openai", "gemini"):
        second = scratch.write(f"second-{kind}.key", f"another-{kind}")
        policy = policy.replace(f'key: "file:{scratch.path}/{kind}.key"', f'keys: ["file:{scratch.path}/{kind}.key", "file:{second}"]')
        vendor = gateway[kind]
        vendor.credential = lambda headers, vendor=vendor: vendor.key  # takes both
    gateway.sluice.write_policy(policy)
    gateway.sluice.ctl("reload")
    return gateway


@pytest.mark.parametrize("headers", [{"retry-after-ms": "1"}, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1ms"}])
def test_a_key_rests_no_longer_than_its_vendor_says(two_keys, headers):
    vendor, caller = two_keys["openai"], CALLERS["openai"](two_keys)
    assert caller.call("openai/m")[0] == 200
    vendor.script.append({"status": 429, "headers": headers})
    before = len(vendor.calls)
    for _ in range(8):
        assert caller.call("openai/m")[0] == 200
    used = [c["headers"]["authorization"] for c in vendor.calls[before:]]
    assert used[0] in used[2:], "the key that was refused is used again"


def test_a_key_of_geminis_rests_as_its_error_says(two_keys):
    vendor, caller = two_keys["gemini"], CALLERS["openai"](two_keys)
    assert caller.call("gemini/m")[0] == 200
    error = {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED",
                       "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "120s"}]}}
    step = {"plain": json.dumps(error).encode(), "headers": {"content-type": "application/json"}, "code": 429}
    vendor.script += [dict(step) for _ in range(3)]
    status, fields, _ = two_keys.request("POST", "/v1/chat/completions", caller.body("gemini/m"))
    assert (status, fields["retry-after"]) == (429, "120")


def test_a_key_that_gemini_does_not_know_rests(scratch):
    """It says 400 to such a key, and the reason within."""
    gateway = Gateway(scratch, ("gemini",))
    wrong = scratch.write("wrong.key", "not-known-there")
    gateway.sluice.write_policy(gateway.policy.replace(f'key: "file:{scratch.path}/gemini.key"',
                                                       f'keys: ["file:{wrong}", "file:{scratch.path}/gemini.key"]'))
    gateway.sluice.ctl("reload")
    for shape in ("gemini", "openai", "anthropic", "openai"):
        assert CALLERS[shape](gateway).call("g")[0] == 200
    assert sorted(c["headers"]["x-goog-api-key"] for c in gateway["gemini"].calls) == ["not-known-there"] + ["secret-of-gemini"] * 4
    assert "a provider refuses a key" in gateway.sluice.output()
    status = gateway.sluice.status()["language_models"]
    assert status["providers"] == [{"provider": "gemini", "requests": 4, "errors": 0, "keys": 2, "keys_resting": 1}]
    gateway["gemini"].key = "another"
    for shape, stream in (("gemini", False), ("openai", True), ("anthropic", False)):
        caller = CALLERS[shape](gateway)
        status, _, content = gateway.request("POST", caller.path("g", stream), caller.body("g", stream=stream), caller.headers)
        assert (status, "does not take the gateway's key" in content.decode()) == (502, True), content


@pytest.mark.parametrize("shape", sorted(CALLERS))
def test_the_gateways_key_is_in_no_error(scratch, shape):
    gateway = Gateway(scratch, ("openai", "anthropic", "gemini"))
    for kind in ("openai", "anthropic", "gemini"):
        caller = CALLERS[shape](gateway)
        for stream in (False, True):
            step = {"status": 400, "message": f"what is secret-of-{kind}?"}
            gateway[kind].script.append(step)
            status, _, content = gateway.request("POST", caller.path(f"{kind}/m", stream), caller.body(f"{kind}/m", stream=stream), caller.headers)
            assert status == 400 and b"what is [key]?" in content, (kind, content)
            gateway[kind].script += [{"plain": f"no: secret-of-{kind}".encode(), "headers": {"content-type": "text/plain"}, "code": 400}]
            status, _, content = gateway.request("POST", caller.path(f"{kind}/m", stream), caller.body(f"{kind}/m", stream=stream), caller.headers)
            assert status == 400 and b"secret" not in content, (kind, content)


def test_an_error_that_is_packed_is_told_by_its_status(alone):
    packed = {"content-type": "application/json", "content-encoding": "gzip", "Retry-After": "7"}
    alone["openai"].script.append({"plain": gzip.compress(b'{"error": {"message": "secret"}}'), "headers": packed, "code": 404})
    status, fields, content = alone.request("POST", "/v1/chat/completions", CALLERS["openai"](alone).body("m"))
    assert status == 404 and "content-encoding" not in fields and fields["retry-after"] == "7"
    assert json.loads(content)["error"]["message"] == "the provider answered with status 404"


def test_weights_divide_the_requests(scratch):
    gateway = Gateway(scratch, ("openai", "mistral"),
                      models="    m: { targets: [{ provider: openai, weight: 3 }, { provider: mistral, weight: 1 }, { provider: openai, weight: 0, model: never }] }")
    caller = CALLERS["openai"](gateway)
    for _ in range(80):
        assert caller.call("m")[0] == 200
    assert 40 <= len(gateway["openai"].calls) <= 75 and len(gateway["mistral"].calls) >= 5
    assert all(c["body"]["model"] == "m" for c in gateway["openai"].calls)
