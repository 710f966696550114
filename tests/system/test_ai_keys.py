"""Virtual keys: made, shown where each SDK puts them, limited, revoked."""
import http.client
import json
import os
import stat
import subprocess
import threading
import time

from ai_client import CALLERS, Gateway
from harness import HANG, SLUICE, curl, eventually


class Keys:
    def __init__(self, gateway):
        self.policy = gateway.sluice.policy

    def run(self, *arguments, check=0):
        done = subprocess.run([SLUICE, "keys", *arguments, "--policy", self.policy], capture_output=True, text=True, timeout=30)
        assert done.returncode == check, done
        return done

    def create(self, name, *arguments):
        return json.loads(self.run("create", "--name", name, *arguments, "--output", "json").stdout)["key"]

    def list(self):
        return json.loads(self.run("list", "--output", "json").stdout)["keys"]


def ways(key):
    return [("?", {"authorization": f"Bearer {key}"}), ("?", {"x-api-key": key}), ("?", {"api-key": key}),
            ("?", {"x-goog-api-key": key}), (f"?key={key}", {})]


def test_a_key_opens_the_gateway_wherever_sdks_put_it(scratch):
    gateway = Gateway(scratch, ("openai", "anthropic"), keys="required")
    keys, caller = Keys(gateway), CALLERS["openai"](gateway)
    body = caller.body("openai/any")
    for query, headers in [("", {}), *ways("sk-sluice-unknown")]:
        for path in ("/v1/chat/completions", "/v1/messages", "/v1beta/models/openai/x:generateContent"):
            status, answer = gateway.post(path + query, body, headers)
            assert status == 401, (path, answer)
    assert not gateway["openai"].calls
    key = keys.create("alice", "--owner", "Alice", "--team", "search")
    eventually(lambda: gateway.post("/v1/chat/completions", body, {"authorization": f"Bearer {key}"})[0] == 200, "the key is known")
    for query, headers in ways(key):
        status, _ = gateway.post("/v1/chat/completions" + query, body, headers)
        assert status == 200
        call = gateway["openai"].calls[-1]
        assert key not in json.dumps(call["headers"]) and key not in call["path"]
    status, answer = gateway.post("/v1/messages", CALLERS["anthropic"](gateway).body("anthropic/c"), {"x-api-key": key, "anthropic-version": "2023-06-01"})
    assert status == 200
    status, answer = gateway.post("/v1/messages", CALLERS["anthropic"](gateway).body("anthropic/c"), {"x-api-key": "no"})
    assert (status, answer["type"], answer["error"]["type"]) == (401, "error", "authentication_error")
    keys.run("revoke", "alice")
    eventually(lambda: gateway.post("/v1/chat/completions", body, {"authorization": f"Bearer {key}"})[0] == 401, "it is revoked")
    path = os.path.join(scratch.path, "keys.json")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert key not in open(path).read() and key not in gateway.sluice.output()


def test_what_belongs_to_a_callers_account_does_not_go_with_the_gateways_key(scratch):
    """A vendor refuses the key (401) where they do not belong together, and it would rest for everybody."""
    gateway = Gateway(scratch, ("openai", "gemini"))
    account = {"OpenAI-Organization": "org-1", "openai-project": "p", "x-goog-user-project": "g", "proxy-authorization": "Basic eDp5",
               "openai-beta": "kept"}
    for kind in ("openai", "gemini"):
        caller = CALLERS[kind](gateway)
        model = f"{kind}/m"
        status, _, _ = gateway.request("POST", caller.path(model, False), caller.body(model), {**caller.headers, **account})
        sent = gateway[kind].calls[-1]["headers"]
        assert status == 200 and {name for name in account if name.lower() in sent} == {"openai-beta"}, sent


def test_who_shows_no_key_is_known_by_where_it_calls_from(scratch):
    gateway = Gateway(scratch, ("openai",), keys="required",
                      more="  identities: [{ from: [127.0.0.9, 127.0.0.10], key: team-a }, { from: [127.0.0.11], key: nobody }]\n")
    keys, caller = Keys(gateway), CALLERS["openai"](gateway)
    other = keys.create("team-b", "--models", "openai/*")
    keys.create("team-a", "--requests-per-minute", "2", "--models", "openai/*")

    def ask(source, *headers, model="openai/any"):
        code, body, head = curl(f"http://127.0.0.1:{gateway.port}/v1/chat/completions", "--interface", source, "-H", "content-type: application/json",
                                *[word for header in headers for word in ("-H", header)], "-d", json.dumps(caller.body(model)))
        assert code == 0, head
        return int(head.split()[1]), body

    eventually(lambda: ask("127.0.0.9")[0] == 200, "its place is its key")
    assert ask("127.0.0.9", model="other/any")[0] in (403, 404)
    assert ask("127.0.0.10")[0] == 200
    assert ask("127.0.0.10")[0] == 429, "one key's limit for both"
    assert ask("127.0.0.9", f"authorization: Bearer {other}")[0] == 200, "who shows a key is who that says"
    assert ask("127.0.0.9", "authorization: Bearer sk-sluice-unknown")[0] == 429, "passed over: SDKs want to show something"
    for source in ("127.0.0.8", "127.0.0.11"):
        assert ask(source)[0] == 401
    assert ask("127.0.0.8", "x-forwarded-for: 127.0.0.9")[0] == 401, "what is claimed is not believed"


def test_a_key_is_shown_once_and_listed_without(scratch):
    gateway = Gateway(scratch, ("openai",), keys="required")
    keys = Keys(gateway)
    key = keys.create("bob", "--models", "gpt-5,claude-*", "--expires", "30d", "--tokens-per-day", "1000")
    assert key.startswith("sk-sluice-") and len(key) > 50
    listed = keys.list()
    assert [(k["name"], k["models"], k["tokens_per_day"], k["expired"]) for k in listed] == [("bob", ["gpt-5", "claude-*"], 1000, False)]
    assert key not in keys.run("list").stdout
    assert "already" in keys.run("create", "--name", "bob", check=1).stderr
    assert "no key" in keys.run("revoke", "nobody", check=1).stderr
    keys.run("revoke", listed[0]["id"])
    assert keys.list() == []
    for wrong in (["create"], ["create", "--name", "x", "--tokens-per-day", "-1"], ["revoke"], ["dance"], ["list", "more"]):
        keys.run(*wrong, check=2)


def test_a_key_is_known_when_it_is_shown(scratch):
    """As a script has it that makes a key and goes on. On a machine that is busy not each time, but it is no race that is always lost."""
    gateway = Gateway(scratch, ("openai",), keys="required")
    keys, body = Keys(gateway), CALLERS["openai"](gateway).body("openai/any")
    made = (keys.create(f"key-{i}") for i in range(20))
    assert any(gateway.post("/v1/chat/completions", body, {"authorization": f"Bearer {key}"})[0] == 200 for key in made)


def test_two_who_make_keys_lose_none(scratch):
    gateway = Gateway(scratch, ("openai",), keys="required")
    keys = Keys(gateway)
    threads = [threading.Thread(target=keys.create, args=(f"key-{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys.list()) == 8


def test_a_key_is_for_its_models_until_it_expires(scratch):
    gateway = Gateway(scratch, ("openai",), keys="required", models="    gpt-a: { targets: [{ provider: openai }] }\n    other: { targets: [{ provider: openai }] }")
    keys, caller = Keys(gateway), CALLERS["openai"](gateway)
    headers = {"authorization": "Bearer " + keys.create("a", "--models", "gpt-*")}
    short = {"authorization": "Bearer " + keys.create("b", "--expires", "2s")}
    eventually(lambda: gateway.post("/v1/chat/completions", caller.body("gpt-a"), headers)[0] == 200, "the key is known")
    status, answer = gateway.post("/v1/chat/completions", caller.body("other"), headers)
    assert status == 403 and "other" in answer["error"]["message"]
    status, _, content = gateway.request("GET", "/v1/models", headers=headers)
    assert [m["id"] for m in json.loads(content)["data"]] == ["gpt-a"]
    status, answer = gateway.post("/v1/files", {}, headers)
    assert status == 403  # nobody could say which model that is for
    eventually(lambda: "expired" in str(gateway.post("/v1/chat/completions", caller.body("other"), short)[1]), "it has expired")


def test_a_key_is_for_its_models_however_gemini_s_paths_name_others(scratch):
    gateway = Gateway(scratch, ("gemini",), keys="required")
    headers = {"x-goog-api-key": Keys(gateway).create("flash", "--models", "gemini-flash")}
    body = CALLERS["gemini"](gateway).body("gemini-flash")
    eventually(lambda: gateway.request("POST", "/v1beta/models/gemini-flash:generateContent", body, headers)[0] == 200, "the key is known")
    assert gateway.request("POST", "/v1beta/models/gemini-flash%3AgenerateContent", body, headers)[0] == 200
    assert gateway["gemini"].calls[-1]["path"] == "/v1beta/models/gemini-flash:generateContent"
    known = len(gateway["gemini"].calls)
    for method, path in (("POST", "/v1beta/models/gemini-ultra:generateContent"), ("POST", "/v1beta/models/gemini-ultra%3AgenerateContent"),
                         ("POST", "/v1/models/gemini-ultra%3agenerateContent"), ("POST", "/v1beta/models/gemini-ultra"),
                         ("DELETE", "/v1beta/models/gemini-ultra"), ("DELETE", "/v1beta/models"),
                         ("POST", "/v1beta/tunedModels/mine:generateContent"), ("POST", "/v1beta/tunedModels/mine%3AgenerateContent")):
        status, _, content = gateway.request(method, path, {**body, "model": "gemini-flash"} if method == "POST" else None, headers)
        assert status == 403, (method, path, content)
    assert len(gateway["gemini"].calls) == known


def test_a_model_s_name_does_not_climb_out_of_a_vendor_s_path(scratch):
    gateway = Gateway(scratch, ("azure", "gemini"), providers={"azure": ', api_version: "2024-10-21"'}, keys="required",
                      models='    "mini*": { targets: [{ provider: azure }] }\n    "flash*": { targets: [{ provider: gemini }] }')
    headers = {"authorization": "Bearer " + Keys(gateway).create("mini", "--models", "mini*,flash*")}
    caller = CALLERS["openai"](gateway)
    eventually(lambda: gateway.post("/v1/chat/completions", caller.body("mini"), headers)[0] == 200, "the key is known")
    for model in ("mini/../large", "mini/../../../openai/files?x=", "mini/.", "mini/..", "flash/../ultra"):
        status, answer = gateway.post("/v1/chat/completions", caller.body(model), headers)
        assert status == 400 and answer["error"]["param"] == "model", (model, answer)
    assert gateway.post("/v1/chat/completions", caller.body("mini.../v..1"), headers)[0] == 200
    assert not gateway["gemini"].calls and all("/mini" in call["path"] and "/../" not in call["path"] for call in gateway["azure"].calls)


def test_limits_are_settled_by_usage_and_told_to_callers(scratch):
    gateway = Gateway(scratch, ("openai", "anthropic"), keys="required")
    keys, caller = Keys(gateway), CALLERS["openai"](gateway)
    headers = {"authorization": "Bearer " + keys.create("a", "--requests-per-minute", "3")}
    tokens = {"authorization": "Bearer " + keys.create("b", "--tokens-per-minute", "600")}
    body = caller.body("openai/any", max_tokens=400)
    eventually(lambda: gateway.post("/v1/chat/completions", body, tokens)[0] == 200, "the keys are known")
    # 400 and more were estimated, 30 were used: so there is room for another one.
    status, fields, _ = gateway.request("POST", "/v1/chat/completions", body, tokens)
    assert status == 200 and fields["x-ratelimit-limit-tokens"] == "600"
    assert 600 - 60 - 450 < int(fields["x-ratelimit-remaining-tokens"]) < 600 - 400
    status, fields, content = gateway.request("POST", "/v1/chat/completions", caller.body("openai/any", max_tokens=590), tokens)
    assert status == 429, content
    assert int(fields["retry-after"]) >= 1 and "tokens per minute" in json.loads(content)["error"]["message"]
    for left in ("2", "1", "0"):
        status, fields, _ = gateway.request("POST", "/v1/chat/completions", caller.body("openai/any"), headers)
        assert (status, fields["x-ratelimit-remaining-requests"]) == (200, left)
    status, fields, content = gateway.request("POST", "/v1/messages", CALLERS["anthropic"](gateway).body("anthropic/c"),
                                              {**headers, "anthropic-version": "2023-06-01"})
    assert (status, json.loads(content)["error"]["type"]) == (429, "rate_limit_error")
    assert fields["anthropic-ratelimit-requests-limit"] == "3"


def test_a_stream_is_settled_by_its_last_event(scratch):
    """Who has that asks again at once, though the vendor has not ended the body."""
    gateway = Gateway(scratch, ("openai",), keys="required")
    caller = CALLERS["openai"](gateway)
    key = {"authorization": "Bearer " + Keys(gateway).create("a", "--tokens-per-minute", "600")}
    eventually(lambda: gateway.request("GET", "/v1/models", headers=key)[0] == 200, "the key is known")
    gateway["openai"].script.append({"linger": 5})
    streaming = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=HANG)
    streaming.request("POST", "/v1/chat/completions", json.dumps(caller.body("openai/any", stream=True, max_tokens=400)),
                      {"content-type": "application/json", **key})
    answer = streaming.getresponse()
    assert any(line.startswith(b"data: [DONE]") for line in answer)
    assert gateway.post("/v1/chat/completions", caller.body("openai/any", max_tokens=400), key)[0] == 200
    answer.read()
    streaming.close()


def test_a_broken_file_of_keys_changes_nothing(scratch):
    gateway = Gateway(scratch, ("openai",), keys="required")
    keys, caller = Keys(gateway), CALLERS["openai"](gateway)
    headers = {"authorization": "Bearer " + keys.create("a")}
    eventually(lambda: gateway.post("/v1/chat/completions", caller.body("any"), headers)[0] == 200, "the key is known")
    scratch.write("keys.json", "{ not json")
    eventually(lambda: "stay as they were" in gateway.sluice.output(), "it says so")
    assert gateway.post("/v1/chat/completions", caller.body("any"), headers)[0] == 200
    scratch.write("keys.json", "")  # about to be written, or cut by a full disk
    eventually(lambda: "keys.json is empty" in gateway.sluice.output(), "it says so")
    assert gateway.post("/v1/chat/completions", caller.body("any"), headers)[0] == 200
    os.remove(os.path.join(scratch.path, "keys.json"))
    eventually(lambda: gateway.post("/v1/chat/completions", caller.body("any"), headers)[0] == 401, "who takes the file away revokes all")


def test_a_place_that_is_not_there_has_no_keys(scratch):
    done = subprocess.run([SLUICE, "keys", "list", "--file", f"{scratch.path}/no/keys.json"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr.strip()) == (1, f"sluice: there is no directory {scratch.path}/no")
    done = subprocess.run([SLUICE, "keys", "list", "--file", f"{scratch.path}/keys.json"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done


def test_check_tells_of_an_ai_section_without_providers(scratch):
    def check(ai, routes):
        path = scratch.write("p.yaml", f"""version: 1
listeners: {{ web: {{ bind: "127.0.0.1:1" }} }}
routes: [{{ {routes} }}]
ai: {{ keys: none, providers: {{ {ai} }} }}
""")
        done = subprocess.run([SLUICE, "check", path], capture_output=True, text=True, timeout=30)
        return done.returncode, done.stderr
    assert check('o: { base_url: "http://127.0.0.1:2" }', "ai: true") == (0, "")
    code, said = check("", "ai: true")
    assert code == 1 and "is served by `ai`, which has no providers" in said


def test_the_routes_limits_count_by_team(scratch):
    gateway = Gateway(scratch, ("openai",), keys="required", route=", limits: [per-team]",
                      top="limits: { per-team: { key: [{ claim: team }], rate: 2/h } }")
    keys, caller = Keys(gateway), CALLERS["openai"](gateway)
    one = {"authorization": "Bearer " + keys.create("a", "--team", "red")}
    two = {"authorization": "Bearer " + keys.create("b", "--team", "red")}
    other = {"authorization": "Bearer " + keys.create("c", "--team", "blue")}
    # The last key is known no earlier than the others; its team has a count of its own.
    eventually(lambda: gateway.post("/v1/chat/completions", caller.body("any"), other)[0] == 200, "the keys are known")
    assert gateway.post("/v1/chat/completions", caller.body("any"), one)[0] == 200
    assert gateway.post("/v1/chat/completions", caller.body("any"), two)[0] == 200
    status, answer = gateway.post("/v1/chat/completions", caller.body("any"), two)
    assert status == 429 and "per-team" in answer["error"]["message"]
    assert gateway.post("/v1/chat/completions", caller.body("any"), other)[0] == 200
