"""Keys' limits and budgets over several gateways, with a real Redis between them that is killed and started again."""
import json
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request

import pytest
from ai_vendors import OpenAi
from harness import HANG, Process, Sluice, eventually, free_port
from test_ai_keys import Keys

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")

GATEWAYS = 3
# A token is a tenth of a cent either way; a stand-in's answer has 20 + 10 of them: three cents.
PRICES = "up: { input: 1000, output: 1000, cached_input: 1000 }\n"
BODY = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}
ESTIMATE = -(-len(json.dumps(BODY)) // 4) + 10


class Redis(Process):
    def __init__(self, scratch, port, name="redis"):
        self.port = port
        super().__init__(scratch, name, ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                                         "--dir", scratch.path])
        eventually(lambda: "PONG" in self.cli("PING"), "redis answers")

    def cli(self, *words):
        return subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, timeout=HANG, check=False).stdout


class Node:
    """One gateway of them: a ledger of its own, the same keys."""

    def __init__(self, scratch, index, cluster):
        self.port, self.metrics = free_port(), free_port()
        self.sluice = Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state{index}
metrics: {{ bind: "127.0.0.1:{self.metrics}" }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
cluster: {{ redis: {{ url: "redis://127.0.0.1:{cluster.redis.port}/3", deadline: 2s, on_loss: {cluster.on_loss} }} }}
{cluster.top}
routes: [{{ name: llm, ai: true{cluster.route} }}]
ai:
  scope: cluster
  key_file: {scratch.path}/keys.json
  prices: {scratch.path}/prices.yaml
  providers: {{ openai: {{ base_url: "http://127.0.0.1:{cluster.vendor.port}", key: "file:{scratch.path}/openai.key" }} }}
  models: {{ m: {{ targets: [{{ provider: openai, model: up }}] }} }}
{cluster.more}
""", name=f"gateway{index}")

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=HANG) as page:
            found = re.search(rf"^{re.escape(name)} (\S+)$", page.read().decode(), re.M)
        return float(found.group(1)) if found else None

    def ask(self, key, path="/v1/chat/completions", body=None):
        """(status, fields in lower case, body)"""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body or BODY).encode(),
                                         {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})})
        try:
            with urllib.request.urlopen(request, timeout=HANG) as answer:
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read().decode()


class Cluster:
    """`more`: further lines of `ai`; `top`: further sections; `route`: further members of the route."""

    def __init__(self, scratch, more="", top="", route="", on_loss="share", gateways=GATEWAYS):
        self.scratch, self.more, self.top, self.route, self.on_loss = scratch, more, top, route, on_loss
        scratch.write("openai.key", "secret\n")
        scratch.write("prices.yaml", PRICES)
        self.vendor = OpenAi(scratch, "openai", key="secret")
        self.redis = Redis(scratch, free_port())
        self.nodes = [Node(scratch, i, self) for i in range(gateways)]
        self.keys = Keys(self.nodes[0])
        self.together(gateways)

    def together(self, gateways=GATEWAYS):
        for node in self.nodes:
            eventually(lambda n=node: n.metric("sluice_redis_up") == 1 and n.metric("sluice_redis_gateways") == gateways,
                       "every gateway knows of the others")

    def key(self, name, *arguments):
        key = self.keys.create(name, *arguments)
        for node in self.nodes:
            eventually(lambda n=node: n.ask(key, "/v1/messages/none", {})[0] != 401, "the key is known")
        return key

    def all_at_once(self, key, each):
        """`each` calls at every gateway, all under way together."""
        results = []
        threads = [threading.Thread(target=lambda n=node: results.append(n.ask(key))) for node in self.nodes for _ in range(each)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def lose_redis(self):
        self.redis.stop(signal.SIGKILL)
        eventually(lambda: all(n.metric("sluice_redis_up") == 0 for n in self.nodes), "every gateway notices")

    def find_redis(self):
        self.redis = Redis(self.scratch, self.redis.port, name="redis-again")
        eventually(lambda: all(n.metric("sluice_redis_up") == 1 for n in self.nodes), "they come back by themselves")


def let_in(results):
    assert {status for status, _, _ in results} <= {200, 402, 429}, results
    return sum(status == 200 for status, _, _ in results)


def test_gateways_let_in_together_what_one_would(scratch):
    cluster = Cluster(scratch)
    key = cluster.key("alice", "--requests-per-minute", "5")
    results = cluster.all_at_once(key, 4)
    assert let_in(results) == 5
    status, fields, content = cluster.nodes[1].ask(key)
    assert status == 429 and "used up its requests per minute" in content
    assert (fields["x-ratelimit-limit-requests"], fields["x-ratelimit-remaining-requests"]) == ("5", "0")
    assert 1 <= int(fields["retry-after"]) <= 13
    other = cluster.key("bob", "--requests-per-minute", "5")
    assert cluster.nodes[2].ask(other)[1]["x-ratelimit-remaining-requests"] == "4"
    assert cluster.nodes[0].ask(other)[1]["x-ratelimit-remaining-requests"] == "3"


def test_tokens_are_estimated_in_and_settled_out_for_all_of_them(scratch):
    cluster = Cluster(scratch)
    key = cluster.key("alice", "--tokens-per-minute", "6000")
    status, fields, _ = cluster.nodes[0].ask(key)
    assert status == 200
    assert abs(int(fields["x-ratelimit-remaining-tokens"]) - (6000 - ESTIMATE)) <= 100  # a second gives a hundred
    cluster.vendor.usage = lambda: {"prompt_tokens": 5000, "completion_tokens": 1000, "total_tokens": 6000}
    assert cluster.nodes[0].ask(key)[0] == 200
    eventually(lambda: cluster.nodes[1].ask(key)[0] == 429, "what it took is known to the others")
    assert "tokens per minute" in cluster.nodes[2].ask(key)[2]


def test_a_budget_is_overspent_by_no_more_than_estimates_were_short(scratch):
    """Of all gateways together: what is held is held for all. Each call costs 100 tokens, and is estimated at less."""
    cluster = Cluster(scratch)
    cluster.vendor.usage = lambda: {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
    estimate, admitted = ESTIMATE / 1000, 5
    budget = admitted * estimate + estimate / 2
    key = cluster.key("alice", "--budget", f"{budget:.6f}")
    gate = threading.Event()
    answer = cluster.vendor.answer

    def held(handler, call, step):
        gate.wait(30)
        answer(handler, call, step)

    cluster.vendor.answer = held
    results = []
    threads = [threading.Thread(target=lambda n=node: results.append(n.ask(key))) for node in cluster.nodes for _ in range(5)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(results) == len(threads) - admitted, "the others are refused")
    for status, fields, content in results:
        assert (status, fields["retry-after"]) == (429, "1") and "calls under way hold the rest" in content
    gate.set()
    for thread in threads:
        thread.join()
    assert let_in(results) == admitted and len(cluster.vendor.calls) == admitted
    for node in cluster.nodes:  # settled: it is spent, and the SDKs need not try again
        status, fields, _ = eventually(lambda n=node: (lambda r: r if "x-should-retry" in r[1] else None)(n.ask(key)), "it is spent")
        assert status == 429 and fields["x-should-retry"] == "false"
        assert fields["x-ratelimit-remaining-dollars"] == "0.000000"


def test_while_redis_is_away_each_gives_its_share_and_what_was_spent_is_known_when_it_is_back(scratch):
    cluster = Cluster(scratch)
    key = cluster.key("alice", "--budget", "0.9")
    assert cluster.nodes[0].ask(key)[0] == 200  # three cents; 87 are left
    cluster.nodes[1].ask(key), cluster.nodes[2].ask(key)  # each has heard of it: 81 are left
    cluster.lose_redis()
    spent = 0
    for node in cluster.nodes:
        count = 0
        while node.ask(key)[0] == 200:
            count += 1
            assert count < 30
        spent += count
        assert count * 0.03 <= (0.9 - 0.03) / GATEWAYS  # of what it knew to be left
        assert count * 0.03 >= (0.9 - 0.09) / GATEWAYS - 0.06
    cluster.find_redis()  # which has forgotten everything
    left = 0
    while cluster.nodes[left % GATEWAYS].ask(key)[0] == 200:
        left += 1
        assert left < 30
    total = (3 + spent + left) * 0.03
    # What each had not heard of the others when Redis went is all that is forgotten: two calls at most here.
    assert 0.9 - 0.09 < total < 0.9 + 0.061, (spent, left)


def test_where_it_says_so_nothing_goes_through_without_redis(scratch):
    cluster = Cluster(scratch, on_loss="deny", gateways=1)
    key, free = cluster.key("alice", "--requests-per-minute", "100"), cluster.key("bob")
    assert cluster.nodes[0].ask(key)[0] == 200
    cluster.lose_redis()
    status, _, content = cluster.nodes[0].ask(key)
    assert status == 429 and "not known just now" in content
    assert cluster.nodes[0].ask(free)[0] == 200  # nothing is counted of it


def test_a_callers_end_while_redis_is_asked_gives_back_what_was_taken(scratch):
    cluster = Cluster(scratch, gateways=1)
    node, key = cluster.nodes[0], cluster.key("alice", "--tokens-per-minute", "1000")
    cluster.redis.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["curl", "-sS", "--max-time", "20", "-H", f"authorization: Bearer {key}", "-d",
                            json.dumps({**BODY, "max_tokens": 900}), f"http://127.0.0.1:{node.port}/v1/chat/completions"],
                           timeout=0.3, capture_output=True, check=False)
    finally:
        cluster.redis.process.send_signal(signal.SIGCONT)
    eventually(lambda: node.metric("sluice_redis_up") == 1, "it is back")
    assert eventually(lambda: node.ask(key, body={**BODY, "max_tokens": 900})[0] == 200, "nothing of it is used up")


def test_a_policy_without_redis_says_what_is_missing(scratch):
    from harness import SLUICE
    policy = scratch.write("wrong.yaml", f"""version: 1
state_dir: {scratch.path}
listeners: {{ web: {{ bind: "127.0.0.1:1" }} }}
routes: [{{ ai: true }}]
ai: {{ scope: cluster, providers: {{ p: {{ kind: compatible, base_url: "http://127.0.0.1:1" }} }} }}
""")
    done = subprocess.run([SLUICE, "check", policy], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "wrong.yaml:5:1: error: ai of scope cluster needs `cluster.redis`" in done.stdout + done.stderr, done


TOKENS = """limits:
  tokens: {{ key: [{key}], unit: tokens, rate: 6000/m, burst: {burst}, scope: {scope} }}
"""


@pytest.mark.parametrize("scope", ["per_node", "cluster"])
def test_a_limit_in_tokens_is_estimated_in_and_settled_out(scratch, scope):
    """The first call takes all there is, and the answer's usage gives most of it back."""
    cluster = Cluster(scratch, top=TOKENS.format(key="{ claim: team }", burst=600, scope=scope), route=", limits: [tokens]",
                      gateways=1 if scope == "per_node" else 2)
    red, blue = cluster.key("a", "--team", "red"), cluster.key("b", "--team", "blue")
    first, last = cluster.nodes[0], cluster.nodes[-1]
    large = {**BODY, "max_tokens": 500}
    gate = threading.Event()
    answer = cluster.vendor.answer

    def held(handler, call, step):
        if call["body"]["max_tokens"] == 500:
            gate.wait(30)
        answer(handler, call, step)

    cluster.vendor.answer = held
    results = []
    thread = threading.Thread(target=lambda: results.append(first.ask(red, body=large)))
    thread.start()
    eventually(lambda: cluster.vendor.calls, "it is under way")
    status, fields, content = last.ask(red, body={**BODY, "max_tokens": 400})
    assert status == 429 and json.loads(content)["error"]["message"] == "limit tokens exceeded", content
    assert int(fields["retry-after"]) >= 1 and '"tokens";q=600' in fields["ratelimit-policy"]
    assert last.ask(blue, body={**BODY, "max_tokens": 400})[0] == 200
    gate.set()
    thread.join()
    assert results[0][0] == 200
    assert eventually(lambda: last.ask(red, body={**BODY, "max_tokens": 400})[0] == 200, "it took thirty")
    # More than was left: the next ones wait for it.
    cluster.vendor.usage = lambda: {"prompt_tokens": 5000, "completion_tokens": 1000, "total_tokens": 6000}
    assert eventually(lambda: first.ask(red)[0] == 200, "there is room")
    eventually(lambda: last.ask(red)[0] == 429, "it took more than there was")


def test_a_limit_in_tokens_by_model_and_a_call_larger_than_it(scratch):
    cluster = Cluster(scratch, gateways=1, top=TOKENS.format(key="{ claim: model }", burst=100, scope="per_node"), route=", limits: [tokens]",
                      more='  untranslatable: drop')
    node, key = cluster.nodes[0], cluster.key("a")
    cluster.vendor.usage = lambda: {"prompt_tokens": 4000, "completion_tokens": 1000, "total_tokens": 5000}
    assert node.ask(key, body={**BODY, "max_tokens": 4000})[0] == 200  # larger than all there ever is: let in alone
    eventually(lambda: node.ask(key)[0] == 429, "it is used up")
    status, _, content = node.ask(key, path="/v1/messages", body=BODY)
    assert status == 429 and json.loads(content)["error"]["type"] == "rate_limit_error", content


def test_limits_in_tokens_are_of_routes_with_ai(scratch):
    from harness import SLUICE
    policy = scratch.write("wrong.yaml", f"""version: 1
state_dir: {scratch.path}
listeners: {{ web: {{ bind: "127.0.0.1:1", limits: [t] }} }}
upstreams: {{ u: {{ endpoints: ["127.0.0.1:2"] }} }}
limits: {{ t: {{ unit: tokens, rate: 1000/d, action: delay }} }}
routes: [{{ name: r, upstream: u, limits: [{{ name: t, cost: 3 }}] }}]
""")
    done = subprocess.run([SLUICE, "check", policy], capture_output=True, text=True, timeout=30)
    for line in ("limit `t` of unit tokens cannot delay", "listener `web` uses limit `t`, which counts tokens",
                 "route `r` uses limit `t`, which counts tokens, and is not served by `ai`", "at a cost, and a token is a token"):
        assert line in done.stdout + done.stderr, done
