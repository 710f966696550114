"""What other gateways' users suffer from and only a running gateway shows, each named after its number in the tables of pitfalls
(P: between shapes, M: names of metrics). The others are in tests/unit/ai; what providers do wrong is in test_ai_scenarios.py."""
import json
import re
import socket
import urllib.request

from ai_client import CALLERS, Gateway
from harness import HANG, eventually, free_port
from test_ai_budgets import Budgeted

MESSAGES = {"anthropic-version": "2023-06-01"}


def test_p21_count_tokens_goes_to_who_has_it_or_is_refused_here(scratch):
    gateway = Gateway(scratch, ("openai", "anthropic"), models="""    claude: { targets: [{ provider: anthropic }] }
    gpt: { targets: [{ provider: openai }] }
    either: { targets: [{ provider: openai }, { provider: anthropic }] }""")
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    for model in ("claude", "either"):
        status, answer = gateway.post("/v1/messages/count_tokens", {"model": model, **body}, MESSAGES)
        assert (status, answer) == (200, {"input_tokens": 12})
    status, answer = gateway.post("/v1/messages/count_tokens", {"model": "gpt", **body}, MESSAGES)
    assert (status, answer["error"]["type"]) == (404, "not_found_error") and "no provider of model gpt has /messages/count_tokens" in answer["error"]["message"]
    assert not gateway["openai"].calls


def test_p22_no_path_goes_around_a_budget(scratch):
    gateway = Budgeted(scratch, kinds=("openai", "anthropic"))
    headers = gateway.holder("a", "--budget", "0.05")
    assert gateway.ask(headers)[0] == 200
    for method, path, body in (("POST", "/v1/files", {}), ("POST", "/v1/batches", {}), ("POST", "/v1/images/generations", {"prompt": "x"}),
                               ("GET", "/v1/files/1", None), ("DELETE", "/v1/files/1", None), ("POST", "/v1/audio/speech", {}),
                               ("POST", "/v1/messages/batches", {})):
        status, _, content = gateway.request(method, path, body, headers)
        assert status == 403 and b"cannot be kept" in content, (path, content)
    # A model in the body does not make it any better.
    for path, body in (("/v1/batches", {"input_file_id": "f"}), ("/v1/fine_tuning/jobs", {}),
                       ("/v1/videos", {"prompt": "x"}), ("/v1/audio/speech", {"input": "x"}), ("/v1/realtime/sessions", {}),
                       ("/v1/realtime/client_secrets", {}), ("/v1/something/new", {})):
        status, _, content = gateway.request("POST", path, {"model": "m", **body}, headers)
        assert status == 403 and b"cannot be kept" in content, (path, content)
    for limit in (("--tokens-per-minute", "100000"), ("--tokens-per-day", "100000"), ("--models", "m")):
        other = gateway.holder(limit[0][2:], *limit)
        for path in ("/v1/batches", "/v1/fine_tuning/jobs", "/v1/realtime/sessions"):
            status, _, content = gateway.request("POST", path, {"model": "m"}, other)
            assert status == 403 and b"cannot be kept" in content, (path, content)
    unlimited = gateway.holder("unlimited", "--requests-per-minute", "1000")
    gateway["openai"].script.append({"plain": b"{}"})
    assert gateway.request("POST", "/v1/batches", {"model": "m"}, unlimited)[0] == 200
    # What the answers tell the cost of is counted as everything is, by the same accounts.
    for path, body in (("/v1/chat/completions", {"messages": []}), ("/v1/responses", {"input": "Hi"}), ("/v1/embeddings", {"input": "Hi" * 100}),
                       ("/v1/completions", {"prompt": "Hi" * 100}), ("/v1/images/generations", {"prompt": "Hi", "n": 10}), ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100})):
        status, _, content = gateway.request("POST", path, {"model": "m", "max_tokens": 100, **body}, headers)
        assert status in (402, 429) and b"left of its budget" in content, (path, content)
    assert len(gateway["openai"].calls) == 2


def test_p22_nor_has_anthropic(scratch):
    gateway = Budgeted(scratch, kinds=("anthropic",))
    headers = {**gateway.holder("a", "--budget", "0.05"), **MESSAGES}
    status, _, content = gateway.request("POST", "/v1/messages/batches", {"model": "m", "requests": []}, headers)
    assert status == 403 and b"cannot be kept" in content
    for model in ("m", "free"):  # it is free, whatever the price
        assert gateway.request("POST", "/v1/messages/count_tokens", {"model": model, "messages": []}, headers)[0] == 200


def test_p22_gemini_has_no_such_path_either(scratch):
    gateway = Budgeted(scratch, kinds=("gemini",))
    headers = gateway.holder("a", "--budget", "0.05")
    for path in ("/v1beta/models/m:batchGenerateContent", "/v1beta/models/m:asyncBatchEmbedContent", "/v1beta/models/m:predict",
                 "/v1beta/models/m:predictLongRunning", "/v1beta/cachedContents", "/v1beta/interactions", "/upload/v1beta/files"):
        status, _, content = gateway.request("POST", path, {"model": "models/m"}, headers)
        assert status == 403 and b"cannot be kept" in content, (path, content)
    assert gateway.request("POST", "/v1beta/models/m:countTokens", {"contents": []}, headers)[0] == 200
    assert len(gateway["gemini"].calls) == 1


def test_p22_pictures_without_usage_cost_what_they_were_estimated_at(scratch):
    gateway = Budgeted(scratch)
    headers = gateway.holder("a", "--budget", "100")
    body = {"model": "m", "prompt": "x", "n": 2}
    assert gateway.request("POST", "/v1/images/generations", body, headers)[0] == 200
    spent = eventually(lambda: gateway.usage()["total"]["dollars"], "it is charged")
    assert 2 * 6.24 <= spent < 2 * 6.24 + 0.1
    usage = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30, "input_tokens_details": {"text_tokens": 10}}
    gateway["openai"].script.append({"plain": json.dumps({"data": [], "usage": usage}).encode(), "headers": {"content-type": "application/json"}})
    assert gateway.request("POST", "/v1/images/generations", body, headers)[0] == 200
    eventually(lambda: abs(gateway.usage()["total"]["dollars"] - spent - 0.03) < 1e-9, "what the answer says counts")


def test_a_head_that_becomes_too_large_on_its_way_is_refused(scratch):
    """The gateway's own fields do not fit beside as many, or as large ones, as a caller may send."""
    gateway = Gateway(scratch, ("openai",))
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    for more in ({f"x-{n}": "y" for n in range(124)}, {"x": "y" * (32 * 1024 - 160)}):  # besides four fields of the client's own
        status, answer = gateway.post("/v1/chat/completions", body, more)
        assert status == 431 and "does not fit" in answer["error"]["message"], (status, answer)
    assert gateway.post("/v1/chat/completions", body, {f"x-{n}": "y" for n in range(80)})[0] == 200
    assert len(gateway["openai"].calls) == 1


def test_p24_a_caller_that_goes_away_is_billed_for_what_came_and_blames_nobody(scratch):
    metrics = free_port()
    gateway = Budgeted(scratch, top=f'metrics: {{ bind: "127.0.0.1:{metrics}" }}\n')
    headers, vendor = gateway.holder("a"), gateway["openai"]
    for n in range(6):
        vendor.script.append({"stall": 4})
        gone = vendor.gone
        body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}).encode()
        connection = socket.create_connection(("127.0.0.1", gateway.port), HANG)
        connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: {headers['authorization']}\r\n"
                           f"content-length: {len(body)}\r\n\r\n".encode() + body)
        seen = b""
        while b"data:" not in seen:
            seen += connection.recv(4096)
        connection.close()
        eventually(lambda: vendor.gone > gone, "the vendor hears of it")
    assert gateway.ask(headers)[0] == 200
    lines = eventually(lambda: (lambda u: u if u["total"]["requests"] == 7 else None)(gateway.usage("--by", "model")), "all is written")
    assert lines["total"]["errors"] == 6 and lines["total"]["output"] > 10  # six beginnings, and one whole answer of ten
    page = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=HANG).read().decode()
    ejected = re.findall(r"^sluice_upstream\w*eject\w*\{[^}]*\} (\S+)$", page, re.M)
    assert all(float(value) == 0 for value in ejected), ejected
    assert re.search(r'gen_ai_server_request_duration_count\{[^}]*error_type="cancelled"[^}]*\} 6', page), page
    assert "(failed)" not in page  # it was that model that was answering


def test_m_names_and_buckets_are_the_conventions_own(scratch):
    """OpenTelemetry's GenAI conventions, as Prometheus spells them."""
    metrics = free_port()
    gateway = Gateway(scratch, ("openai", "mistral", "gemini", "anthropic", "azure"), top=f'metrics: {{ bind: "127.0.0.1:{metrics}" }}')
    caller = CALLERS["openai"](gateway)
    words = {"openai": "openai", "mistral": "mistral_ai", "gemini": "gcp.gemini", "anthropic": "anthropic", "azure": "azure.ai.openai"}
    for kind in words:
        caller.streamed(f"{kind}/up")
    page = eventually(lambda: (lambda p: p if all(f'gen_ai_provider_name="{w}"' in p for w in words.values()) else None)(
        urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=HANG).read().decode()), "all of them are counted")
    buckets = {}
    for name, le in re.findall(r'^(gen_ai_\w+)_bucket\{[^}]*le="([^"]+)"[^}]*\}', page, re.M):
        buckets.setdefault(name, set()).add(float(le))
    assert set(buckets) == {"gen_ai_client_token_usage", "gen_ai_server_request_duration", "gen_ai_server_time_to_first_token",
                            "gen_ai_server_time_per_output_token"}
    assert buckets["gen_ai_client_token_usage"] == {*(4.0 ** i for i in range(14)), float("inf")}
    assert buckets["gen_ai_server_request_duration"] == {*(0.01 * 2 ** i for i in range(14)), float("inf")}
    for label in ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type", "error_type"):
        assert f'{label}="' in page
    assert re.findall(r'gen_ai_token_type="(\w+)"', page).count("input") > 0 and set(re.findall(r'gen_ai_token_type="(\w+)"', page)) == {"input", "output"}
