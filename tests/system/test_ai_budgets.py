"""Budgets in money, and what is kept of calls: held back on the way in, settled by usage, over restarts."""
import csv
import gzip
import io
import json
import os
import sqlite3
import subprocess
import threading

import pytest
from ai_client import CALLERS, Gateway
from harness import SLUICE, Sluice, eventually
from test_ai_keys import Keys

# A token is a tenth of a cent either way; a stand-in's answer has 20 + 10 of them: three cents.
PRICES = "up: { input: 1000, output: 1000, cached_input: 1000 }\n"
ANSWER = 0.03


def usage_of(policy, *arguments):
    done = subprocess.run([SLUICE, "usage", "--policy", policy, "--output", "json", *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


class Budgeted(Gateway):
    def __init__(self, scratch, more="", kinds=("openai",), prices=PRICES, keys="required", **arguments):
        path = scratch.write("prices.yaml", prices)
        models = "    m: { targets: [{ provider: " + kinds[0] + ", model: up }] }\n    free: { targets: [{ provider: " + kinds[0] + ", model: unpriced }] }"
        super().__init__(scratch, kinds, models=models, keys=keys, more=f"  prices: {path}\n" + more, **arguments)
        self.keys = Keys(self)

    def holder(self, name, *arguments):
        headers = {"authorization": "Bearer " + self.keys.create(name, *arguments)}
        eventually(lambda: self.request("GET", "/v1/models", headers=headers)[0] == 200, "the key is known")
        return headers

    def ask(self, headers, model="m", path="/v1/chat/completions", **more):
        body = {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}], **more}
        status, fields, content = self.request("POST", path, body, headers)
        return status, fields, content

    def restart(self, scratch):
        self.sluice.stop()
        self.sluice = Sluice(scratch, open(self.policy_file).read())

    @property
    def policy_file(self):
        return self.sluice.policy

    def usage(self, *arguments):
        return usage_of(self.policy_file, *arguments)


def test_a_key_spends_its_budget_and_no_more_also_after_a_restart(scratch):
    gateway = Budgeted(scratch)
    headers = gateway.holder("alice", "--team", "red", "--owner", "Alice", "--budget", "0.08", "--budget-period", "month")
    listed = gateway.keys.list()[0]
    assert (listed["budget_dollars"], listed["budget_period"]) == (0.08, "month")
    for left in ("0.080000", "0.050000"):
        status, fields, _ = gateway.ask(headers)
        assert status == 200 and fields["x-ratelimit-limit-dollars"] == "0.080000"
        assert float(left) - 0.05 < float(fields["x-ratelimit-remaining-dollars"]) < float(left)  # less what is held for it
    status, fields, content = gateway.ask(headers)
    error = json.loads(content)["error"]
    assert (status, error["type"], error["code"]) == (429, "insufficient_quota", "insufficient_quota"), content
    assert "key alice has $0.02 left of its budget for the month" in error["message"]
    assert fields["x-should-retry"] == "false" and int(fields["retry-after"]) > 1
    assert len(gateway["openai"].calls) == 2
    gateway.restart(scratch)
    eventually(lambda: gateway.ask(headers)[0] == 429, "it is spent after a restart too")
    assert len(gateway["openai"].calls) == 2
    total = gateway.usage()["total"]
    assert (total["requests"], total["input"] + total["cache_read"], total["output"], total["dollars"]) == (2, 40, 20, 0.06)


def test_the_error_has_the_callers_own_shape(scratch):
    gateway = Budgeted(scratch)
    headers = gateway.holder("a", "--budget", "0.001")
    status, fields, content = gateway.request("POST", "/v1/messages", CALLERS["anthropic"](gateway).body("m"),
                                              {**headers, "anthropic-version": "2023-06-01"})
    assert (status, json.loads(content)["error"]["type"]) == (402, "billing_error"), content
    assert fields["anthropic-ratelimit-dollars-limit"] == "0.001000"
    status, _, content = gateway.request("POST", "/v1beta/models/m:generateContent", CALLERS["gemini"](gateway).body("m"), headers)
    assert (status, json.loads(content)["error"]["status"]) == (429, "RESOURCE_EXHAUSTED"), content
    assert not gateway["openai"].calls


def test_budgets_by_team_model_and_route_and_for_each_key(scratch):
    gateway = Budgeted(scratch, more="""  budgets:
    red: { teams: [red], dollars: 0.05, per: day }
    each: { each: key, keys: ["solo-*"], dollars: 0.05, per: week }
    dear: { models: ["dear-*"], routes: ["llm*"], dollars: 0.01 }
""", route=", name: llm-route")
    one, two = gateway.holder("a", "--team", "red"), gateway.holder("b", "--team", "red")
    blue = gateway.holder("c", "--team", "blue")
    solo, other = gateway.holder("solo-1"), gateway.holder("solo-2")
    assert gateway.ask(one)[0] == 200
    status, _, content = gateway.ask(two)
    assert status == 429 and "budget red has $0.02 left of its budget for the day" in content.decode()
    assert gateway.ask(blue)[0] == 200
    assert gateway.ask(solo)[0] == 200 and gateway.ask(other)[0] == 200
    assert gateway.ask(solo)[0] == 429 and gateway.ask(other)[0] == 429
    assert gateway.ask(blue)[0] == 200


def test_a_policy_with_a_wrong_budget_says_what_is_wrong(scratch):
    policy = scratch.write("wrong.yaml", f"""version: 1
state_dir: {scratch.path}
listeners: {{ web: {{ bind: "127.0.0.1:1" }} }}
routes: [{{ name: llm, ai: true }}]
ai:
  providers: {{ p: {{ kind: compatible, base_url: "http://127.0.0.1:1" }} }}
  keys: none
  budgets:
    a: {{ each: key, dollars: 5, routes: [lmm] }}
""")
    done = subprocess.run([SLUICE, "check", policy], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    for line in ("wrong.yaml:9:5: error: budget `a` needs `prices`", "budget `a` is by key, which `keys: none` does not ask for",
                 "budget `a`: there is no route `lmm` with `ai: true` (did you mean `llm`?)"):
        assert line in done.stdout + done.stderr, done


def test_n_concurrent_calls_overspend_by_no_more_than_their_estimates_were_short(scratch):
    """What is held for a call is a token for 4 bytes of it, and max_tokens. Each of these costs more: 100 tokens."""
    gateway = Budgeted(scratch)
    vendor = gateway["openai"]
    vendor.usage = lambda: {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
    body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}
    estimate = (-(-len(json.dumps(body)) // 4) + 10) / 1000
    admitted = 5
    headers = gateway.holder("a", "--budget", f"{admitted * estimate + estimate / 2:.6f}")
    gate = threading.Event()
    answer = vendor.answer

    def held(handler, call, step):
        gate.wait(30)
        answer(handler, call, step)

    vendor.answer = held
    results = []
    threads = [threading.Thread(target=lambda: results.append(gateway.ask(headers))) for _ in range(20)]
    for thread in threads:
        thread.start()
    # Those that are refused say that it is for now: what calls under way hold may come free.
    eventually(lambda: len(results) == 20 - admitted, "the others are refused")
    for status, fields, content in results:
        assert (status, fields["retry-after"]) == (429, "1"), content
        assert "calls under way hold the rest" in content.decode()
    gate.set()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _, _ in results) == [200] * admitted + [429] * 15
    assert len(vendor.calls) == admitted
    budget = admitted * estimate + estimate / 2
    eventually(lambda: gateway.usage()["total"]["requests"] == admitted, "usage is written")
    spent = gateway.usage()["total"]["dollars"]
    assert spent == pytest.approx(admitted * 0.1)
    assert spent <= budget + admitted * (0.1 - estimate)
    status, fields, _ = gateway.ask(headers)
    assert status == 429 and fields["x-should-retry"] == "false"


def test_a_stream_that_breaks_off_is_counted_by_what_went_by(scratch):
    gateway = Budgeted(scratch)
    headers = gateway.holder("a", "--budget", "10")
    gateway["openai"].script.append({"cut": 4})
    body = {"model": "m", "max_tokens": 10, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    status, _, content = gateway.request("POST", "/v1/chat/completions", body, headers)
    assert status == 200 and content.endswith(b"<cut>")
    text = "".join(gateway["openai"].words()[:3])
    line = eventually(lambda: next(iter(gateway.usage("--by", "model")["usage"]), None), "it is written")
    assert (line["model"], line["errors"], line["output"]) == ("up", 1, -(-len(text) // 4))
    assert line["input"] == -(-len(json.dumps(body)) // 4)
    assert line["dollars"] == pytest.approx((line["input"] + line["output"]) / 1000)


def test_what_has_no_price_is_not_asked_where_a_budget_is(scratch):
    gateway = Budgeted(scratch)
    bounded, free = gateway.holder("a", "--budget", "10"), gateway.holder("b")
    status, _, content = gateway.ask(bounded, model="free")
    assert status == 403 and "no price of model free" in content.decode()
    assert gateway.ask(free, model="free")[0] == 200
    for path, body in (("/v1/files", {}), ("/v1/images/generations", {"prompt": "x"})):
        status, _, content = gateway.request("POST", path, body, bounded)
        assert status == 403 and "cannot be kept" in content.decode()
    assert eventually(lambda: gateway.usage()["total"]["unpriced"] == 1, "it is written")


def test_prices_are_read_again(scratch):
    gateway = Budgeted(scratch)
    headers = gateway.holder("a", "--budget", "1")
    assert gateway.ask(headers)[0] == 200
    scratch.write("prices.yaml", "up: { input: 1000000, output: 1000000 }\n")
    eventually(lambda: "may cost $" in gateway.ask(headers)[2].decode(), "it is too dear now")


def test_prices_that_are_empty_or_gone_change_nothing(scratch):
    gateway = Budgeted(scratch, more="  budgets: { all: { dollars: 10 } }\n")
    headers = gateway.holder("alice")
    path = os.path.join(scratch.path, "prices.yaml")
    open(path, "w").close()
    eventually(lambda: "prices.yaml is empty" in gateway.sluice.output(), "an empty file is no prices")
    os.remove(path)
    eventually(lambda: gateway.ask(headers)[0] == 200, "it goes on")
    assert gateway.sluice.process.poll() is None


@pytest.mark.parametrize("usage, cost", [({"prompt_tokens": 20.0, "completion_tokens": 1e1}, 0.03), ({"prompt_tokens": "20", "completion_tokens": 10}, None),
                                         ({"prompt_tokens": 1e300, "completion_tokens": 10}, None), ({"prompt_tokens": -20, "completion_tokens": 10}, None),
                                         ({"prompt_tokens": 20.5, "completion_tokens": 10}, None), (None, None)])
def test_usage_that_cannot_be_read_is_none(scratch, usage, cost):
    """What it says counts where it is a number; else the estimate, a token for 4 bytes either way."""
    gateway = Budgeted(scratch)
    headers, vendor = gateway.holder("a"), gateway["openai"]
    vendor.usage = lambda: usage
    vendor.always_usage = True
    for stream in (False, True):
        before = gateway.usage()["total"]["dollars"]
        status, _, content = gateway.ask(headers, stream=stream)
        assert status == 200
        sent = len(vendor.calls[-1]["raw"])
        spent = eventually(lambda: gateway.usage()["total"]["dollars"] - before or None, "it is charged")
        if cost is not None:
            assert spent == pytest.approx(cost), stream
        else:
            least = (sent // 4 + (len("".join(vendor.words()).encode()) if stream else len(content)) // 4) * 0.001
            assert least * 0.5 <= spent <= least * 1.5, (stream, spent, least)


def test_all_candidates_of_a_stream_are_counted(scratch):
    gateway = Budgeted(scratch, kinds=("gemini",))
    headers, path = gateway.holder("a"), "/v1beta/models/m:streamGenerateContent?alt=sse"
    gateway["gemini"].delay = 0.02
    body = {"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": {"maxOutputTokens": 10, "candidateCount": 3}}
    status, _, content = gateway.request("POST", path, body, headers)
    assert status == 200 and content.count(b'"finishReason"') == 3
    total = lambda: gateway.usage()["total"]
    eventually(lambda: total()["requests"] == 1, "it is written")
    assert (total()["input"] + total()["cache_read"], total()["output"]) == (20, 3 * 7 + 3)


def test_an_answer_that_is_no_json_is_counted_by_its_bytes(scratch):
    gateway = Budgeted(scratch)
    headers = gateway.holder("a")
    for headers_of in ({"content-type": "text/html"}, {"content-type": "text/plain"}):
        before = gateway.usage()["total"]["dollars"]
        gateway["openai"].script.append({"plain": b"x" * 4000, "headers": headers_of})
        assert gateway.ask(headers)[0] == 200
        eventually(lambda: gateway.usage()["total"]["dollars"] - before >= 1.0, "a thousand tokens are charged")


def test_what_a_budget_cannot_count_does_not_pass(scratch):
    gateway = Budgeted(scratch, more="  budgets: { all: { dollars: 10 } }\n")
    headers = gateway.holder("a")
    packed = {"content-type": "application/json", "content-encoding": "gzip"}
    gateway["openai"].script.append({"plain": gzip.compress(b"{}"), "headers": packed})
    status, _, content = gateway.ask(headers)
    assert status == 502 and b"content-encoding, which was not asked for (status 200, application/json)" in content


def test_prices_are_judged_as_the_policy_is(scratch):
    gateway = Budgeted(scratch)
    headers = gateway.holder("alice")
    path = os.path.join(scratch.path, "prices.yaml")
    policy = gateway.policy_file
    check = lambda: subprocess.run([SLUICE, "check", policy], capture_output=True, text=True, timeout=30)
    assert check().returncode == 0
    bad = {"up: { inputt: 1, input: 1, output: 2 }\n": f"{path}:1:7: error: `inputt` is no price", "up: [\n": f"{path}:", "# nothing\n": "there is no price in it",
           "a: { input: 1, output: 1 }\nup: { input: x, output: 2 }\n": f"{path}:2:14: error: up.input is not a price", "": "is empty"}
    for text, said in bad.items():
        with open(path, "w") as file:
            file.write(text)
        done = check()
        assert done.returncode == 1 and said in done.stderr, (text, done)
        if text:
            eventually(lambda: said.replace("error: ", "") in gateway.sluice.output().replace("error: ", ""), f"the log says so: {said}")
        assert gateway.ask(headers)[0] == 200
    assert subprocess.run([SLUICE, "check", "--without-files", policy], capture_output=True, timeout=30).returncode == 0
    os.remove(path)
    line = 1 + open(policy).read().split("\n").index(f"  prices: {path}")
    assert f"{policy}:{line}:" in check().stderr and "No such file" in check().stderr
    assert gateway.usage()["total"]["unpriced"] == 0
    gateway.sluice.stop()
    refused = subprocess.run([SLUICE, "run", "--policy", policy, "--socket", os.path.join(scratch.path, "other.sock")], capture_output=True, text=True, timeout=30)
    assert refused.returncode != 0 and "No such file" in refused.stdout + refused.stderr


def test_status_tells_what_today_took(scratch):
    gateway = Budgeted(scratch)
    red, none = gateway.holder("alice", "--team", "red"), gateway.holder("bob")
    for headers, model in ((red, "m"), (red, "m"), (none, "free")):
        assert gateway.ask(headers, model)[0] == 200
    gateway["openai"].script.append({"status": 400})
    assert gateway.ask(none)[0] == 400
    told = eventually(lambda: (lambda s: s if len(s["today"]) == 3 else None)(gateway.sluice.status()["language_models"]), "all are counted")
    assert told["providers"] == [{"provider": "openai", "requests": 4, "errors": 1, "keys": 1, "keys_resting": 0}]
    assert told["today"][0] == {"model": "up", "team": "red", "requests": 2, "errors": 0, "input_tokens": 40, "output_tokens": 20, "dollars": 2 * ANSWER}
    assert {row["model"]: row["requests"] for row in told["today"]} == {"up": 2, "unpriced": 1, "(failed)": 1}
    text = gateway.sluice.ctl("status").stdout
    assert "language models\n" in text and "KEYS RESTING" in text and "language models, today (UTC)\n" in text and "unpriced" in text
    rows = [line.split() for line in text.split("language models, today (UTC)\n")[1].splitlines()[1:4]]
    assert sorted(row[-1] for row in rows) == ["$0.00", "$0.00", "$0.06"]


def test_usage_by_what_one_likes(scratch):
    gateway = Budgeted(scratch, kinds=("openai", "anthropic"))
    alice, bob = gateway.holder("alice", "--team", "red", "--owner", "=cmd()"), gateway.holder("bob")
    assert gateway.ask(alice)[0] == 200 and gateway.ask(alice)[0] == 200 and gateway.ask(bob, model="free")[0] == 200
    gateway["openai"].script.append({"status": 400})
    assert gateway.ask(bob)[0] == 400
    eventually(lambda: gateway.usage()["total"]["requests"] == 4, "all is written")
    lines = {tuple(line[k] for k in ("key", "team", "model")): line for line in gateway.usage("--by", "key,team,model")["usage"]}
    assert set(lines) == {("alice", "red", "up"), ("bob", "", "unpriced"), ("bob", "", "(failed)")}
    assert lines["alice", "red", "up"]["requests"] == 2 and lines["bob", "", "(failed)"]["errors"] == 1
    run = lambda *a, check=0: (lambda d: (d.returncode == check or pytest.fail(str(d))) and d)(
        subprocess.run([SLUICE, "usage", *a], capture_output=True, text=True, timeout=30))
    rows = list(csv.DictReader(io.StringIO(run("--policy", gateway.policy_file, "--by", "owner,provider", "--output", "csv").stdout)))
    assert [(r["owner"], r["requests"], r["dollars"]) for r in rows] == [("", "2", "0.000000"), ("'=cmd()", "2", "0.060000")]
    table = run("--file", os.path.join(scratch.path, "gateway", "usage.db"), "--by", "model", "--since", "1d").stdout
    assert "MODEL" in table and "$0.06 *" in table and "1 requests that `prices` has no price for" in table
    assert "no calls since 2999-01-01" in run("--policy", gateway.policy_file, "--since", "2999-01-01").stdout
    assert "No such file" in run("--file", "/nonexistent/usage.db", check=1).stderr
    for wrong in (["--by", "colour"], ["--since", "yesterday"], ["--since", "2026-13-01"], ["--since", "2026-02-30"], ["--until", "7d"],
                  ["--until", "2026-11-31"], ["more"]):
        run("--policy", gateway.policy_file, *wrong, check=2)


def test_where_usage_cannot_be_kept_calls_go_on_and_it_says_so(scratch):
    gateway = Budgeted(scratch, more="  usage: { file: /dev/null/usage.db }\n")
    headers = gateway.holder("a", "--budget", "0.05")
    assert gateway.ask(headers)[0] == 200
    assert gateway.ask(headers)[0] == 429  # held in memory
    assert "usage and budgets are not kept" in gateway.sluice.output()
    assert gateway.sluice.output().count("usage and budgets are not kept") == 1


def test_the_file_of_usage_is_its_owners_alone_and_has_no_key(scratch):
    gateway = Budgeted(scratch)
    headers = gateway.holder("a")
    assert gateway.ask(headers)[0] == 200
    eventually(lambda: gateway.usage()["total"]["requests"] == 1, "it is written")
    kept = os.path.join(scratch.path, "gateway")
    assert "usage.db" in os.listdir(kept)
    for name in os.listdir(kept):
        path = os.path.join(kept, name)
        assert os.stat(path).st_mode & 0o077 == 0, name
        assert headers["authorization"].split()[1].encode() not in open(path, "rb").read()
    names = [row[0] for row in sqlite3.connect(os.path.join(kept, "usage.db")).execute("SELECT name FROM sqlite_master")]
    assert "usage" in names and "spent" in names
