"""Budgets, usage, the cache, filters and the audit log in keeper mode: under the gateway's system call filter, over gateways
that take over, and over one that is killed."""
import json
import os
import signal

import pytest

import netns
from ai_vendors import OpenAi
from harness import Scratch, eventually
from netns import Net, NodeSluice
from test_ai_budgets import usage_of
from test_ai_keys import Keys

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces")


def policy(scratch, vendor, workers):
    return f"""version: 1
state_dir: {scratch.path}/state
workers: {workers}
metrics: {{ bind: "127.0.0.1:9464" }}
intercept: {{ local: [{{ to: [203.0.113.0/24], ports: [80], listener: web }}] }}
listeners: {{ web: {{}} }}
bans: {{ rules: [{{ when: {{ event: auth_failure, count: 1000, within: 1m }}, for: 1m }}] }}
routes: [{{ ai: true }}]
ai:
  providers: {{ openai: {{ base_url: "http://127.0.0.1:{vendor.port}", key: "file:{scratch.path}/openai.key" }} }}
  prices: {scratch.path}/prices.yaml
  budgets: {{ each: {{ each: key, dollars: 0.08 }} }}
  cache: {{ ttl: 1h, keys: [docs] }}
  filters: {{ private: {{ find: [email] }} }}
  audit: {{ path: {scratch.path}/ai.jsonl }}
"""


@pytest.fixture
def net():
    with Scratch() as scratch:
        yield Net(scratch)


def ask(net, key, text="Hi"):
    """(status, fields in lower case, body)"""
    body = {"model": "up", "max_tokens": 10, "messages": [{"role": "user", "content": text}]}
    said = net.in_client("curl", "-sS", "--max-time", "10", "-i", "-H", "content-type: application/json", "-H", f"authorization: Bearer {key}",
                         "-d", json.dumps(body), "http://203.0.113.7/v1/chat/completions", check=False)
    head, _, content = said.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    return int((first.split() + ["0", "0"])[1]), {line.split(":")[0].lower(): line.split(": ", 1)[1] for line in lines}, content


def test_budgets_live_longer_than_gateways_and_nothing_is_refused_to_them(net):
    scratch = net.scratch
    scratch.write("openai.key", "secret\n")
    scratch.write("prices.yaml", "up: { input: 1000, output: 1000, cached_input: 1000 }\n")
    vendor = netns.Thread(net.node, lambda: OpenAi(scratch, "openai", key="secret")).result()
    sluice = NodeSluice(net, policy(scratch, vendor, 2))
    keys = Keys(type("Gateway", (), {"sluice": sluice}))
    alice, docs = keys.create("alice"), keys.create("docs")
    eventually(lambda: ask(net, docs, "I am jane.doe@example.com")[0] == 200, "the keys are known")
    assert "I am [email]" in json.dumps(vendor.calls[-1]["body"])
    assert ask(net, docs, "I am jane.doe@example.com")[1]["x-sluice-cache"] == "hit"
    assert [ask(net, alice)[0] for _ in range(3)] == [200, 200, 429]
    eventually(lambda: usage_of(sluice.policy)["total"]["requests"] == 4, "all is written")
    first = sluice.gateway()
    sluice.write_policy(policy(scratch, vendor, 1))
    sluice.ctl("reload")
    eventually(lambda: sluice.gateway() != first, "another gateway serves")
    assert ask(net, alice)[0] == 429
    second = sluice.gateway()
    os.kill(second, signal.SIGKILL)
    eventually(lambda: sluice.gateway() not in (0, None, second), "the next gateway serves")
    eventually(lambda: ask(net, alice)[0] == 429, "what was spent is known to it")
    assert len(vendor.calls) == 3
    total = usage_of(sluice.policy)["total"]
    assert (total["requests"], total["cache_hits"], total["dollars"]) == (4, 1, 0.09)
    assert os.stat(os.path.join(scratch.path, "state", "gateway", "usage.db")).st_mode & 0o077 == 0
    assert "jane.doe" not in open(os.path.join(scratch.path, "ai.jsonl")).read()
    eventually(lambda: sluice.metric("sluice_ai_usage_writable") == 1, "usage is kept")
    assert sluice.metric("sluice_gateway_refused_system_calls_total") == 0, sluice.output()
