"""A real Prometheus scrapes the real binary: every query of the dashboard has an answer, and the rules are evaluated."""
import http.client
import json
import os
import pathlib
import subprocess
import urllib.parse

import pytest
import yaml

from ai_vendors import Anthropic, OpenAi
from harness import HANG, Process, Scratch, eventually
from netns import Net, NodeSluice, Thread
from test_ai_keys import Keys

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces")

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
# All that a panel is of, and a limit that is met.
POLICY = """version: 1
workers: 2
state_dir: @STATE@
metrics: { bind: "127.0.0.1:9464" }
intercept: { local: [{ to: [203.0.113.0/24], ports: [80], listener: web }] }
guard:
  interfaces: ["lan*"]
  rules: [{ name: nobody, from: [10.71.0.99], action: drop }]
limits: { few: { key: [client_ip], rate: 1/m } }
bans: { rules: [{ when: { limit: few, count: 1000, within: 10s }, for: 10s }] }
listeners: { web: {} }
upstreams: { app: { endpoints: ["10.72.0.2:8080"] }, gone: { endpoints: ["10.72.0.2:9"] } }
routes: [{ path: /v1, ai: true }, { path: /few, upstream: app, limits: [few] }, { path: /gone, upstream: gone }, { upstream: app }]
ai:
  keys: required
  providers:
    openai: { kind: openai, base_url: "http://127.0.0.1:@OPENAI@", key: "file:@SCRATCH@/vendor.key" }
    anthropic: { kind: anthropic, base_url: "http://127.0.0.1:@ANTHROPIC@", key: "file:@SCRATCH@/vendor.key" }
  models: { m: { targets: [{ provider: openai, model: up }], fallback: [anthropic/claude] } }
  prices: @SCRATCH@/prices.yaml
  cache: { ttl: 1h }
  bypass: { action: count }
"""
PRICES = "up: { input: 1000, output: 1000, cached_input: 1000 }\nclaude: { input: 1000, output: 1000, cached_input: 1000 }\n"
CONFIG = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(DEPLOY / "prometheus/rules.yaml")],
          "scrape_configs": [{"job_name": "sluice", "static_configs": [{"targets": ["127.0.0.1:9464"]}]}]}
VARIABLES = {"$__rate_interval": "30s", "$job": "sluice", "$instance": "127.0.0.1:9464"}


def dashboard_queries():
    for panel in json.loads((DEPLOY / "grafana/dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            yield query


class Prometheus(Process):
    def __init__(self, net):
        self.net = net
        config = net.scratch.write("prometheus.yaml", yaml.safe_dump(CONFIG))
        super().__init__(net.scratch, "prometheus", net.command(
            net.node, "prometheus", f"--config.file={config}", f"--storage.tsdb.path={net.scratch.path}/tsdb", "--web.listen-address=127.0.0.1:9090"))
        eventually(lambda: "Ready" in net.in_node("curl", "-sS", "http://127.0.0.1:9090/-/ready"), "Prometheus is ready")

    def api(self, path, **query):
        page = self.net.in_node("curl", "-sS", f"http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(query)}")
        answer = json.loads(page)
        assert answer["status"] == "success", page
        return answer["data"]

    def ask(self, query):
        return self.api("query", query=query)["result"]


class Models:
    """Vendors on the node, and a caller of theirs."""

    def __init__(self, net):
        self.net, self.asked = net, 0
        net.scratch.write("vendor.key", "vendors-key\n")
        net.scratch.write("prices.yaml", PRICES)
        made = lambda kind, name: Thread(net.node, lambda: kind(net.scratch, name, key="vendors-key")).result()
        self.openai, self.anthropic = made(OpenAi, "openai"), made(Anthropic, "anthropic")

    def policy(self):
        return POLICY.replace("@SCRATCH@", self.net.scratch.path).replace("@OPENAI@", str(self.openai.port)).replace("@ANTHROPIC@", str(self.anthropic.port))

    def key(self, sluice):
        self.headers = {"content-type": "application/json", "authorization": "Bearer " + Keys(type("Gateway", (), {"sluice": sluice})).create(
            "alice", "--team", "red", "--budget", "100000", "--budget-period", "month")}
        eventually(lambda: self.calls([("again", False)]) == [200], "the key is known")

    def calls(self, questions):
        """The statuses of calls: (what is asked, whether the answer shall be a stream)."""
        def body():
            connection = http.client.HTTPConnection("203.0.113.7", timeout=HANG)
            statuses = []
            for text, stream in questions:
                connection.request("POST", "/v1/chat/completions", json.dumps(
                    {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}), self.headers)
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
            connection.close()
            return statuses
        return self.net.as_client(body).result()

    def one_of_each(self):
        """An answer, one of the cache, a stream, one of the second target, and a refusal."""
        self.asked += 1
        statuses = self.calls([(f"{self.asked}", False), ("again", False), (f"{self.asked} as a stream", True)])
        for status in (503, 400):
            self.openai.script.append({"status": status})
            statuses += self.calls([(f"{self.asked} and {status}", False)])
        return statuses


@pytest.fixture
def net():
    with Scratch() as scratch:
        net = Net(scratch)
        net.nginx()
        yield net


def test_every_panel_has_data_and_every_rule_is_evaluated(net):
    models = Models(net)
    sluice = NodeSluice(net, models.policy().replace("@STATE@", f"{net.scratch.path}/state"))
    models.key(sluice)
    prometheus = Prometheus(net)
    eventually(lambda: prometheus.ask('up{job="sluice"} == 1'), "it is scraped")
    net.in_client("ip", "address", "add", "10.71.0.99/24", "dev", "eth0")

    def answered(query):
        """Asks the gateway something of each kind, so that rates are there, and Prometheus."""
        subprocess.run(net.command(net.client, "curl", "-sS", "-o", "/dev/null", "--max-time", "5", "http://203.0.113.7/", "http://203.0.113.7/few",
                                   "http://203.0.113.7/gone"), check=False, capture_output=True)
        assert models.one_of_each() == [200, 200, 200, 200, 400]
        return prometheus.ask(query)

    assert net.curl("http://203.0.113.7/", "--interface", "10.71.0.99", "--max-time", "1") is None
    queries = list(dashboard_queries())
    assert len(queries) > 40
    for query in queries:
        eventually(lambda query=query: answered(query), f"there is data for {query}")

    # Numbers that are known.
    eventually(lambda: answered('sum(rate(sluice_requests_total{code="2xx"}[30s])) > 0 and sum(rate(sluice_requests_total{code="5xx"}[30s])) > 0'),
               "answers of both classes")
    eventually(lambda: prometheus.ask('sluice_guard_rule_dropped_packets_total{rule="nobody"} > 0'), "the rule's drops")
    known = {}
    for query in (query for query in queries if "ai_" in query and "unmetered" not in query):
        known[query] = eventually(lambda query=query: [found for found in prometheus.ask(query) if float(found["value"][1]) > 0], f"more than nothing: {query}")
        assert all(found["metric"] for found in known[query]), f"by labels that there are: {query}"
    labels = lambda metric, name: {found["metric"].get(name) for query in known if metric in query for found in known[query]} - {None}
    assert {"input", "output", "cache_read"} <= labels("sluice_ai_tokens_total", "type") and labels("sluice_ai_cost", "team") == {"red"}
    assert {"up", "claude"} <= labels("gen_ai_server_request_duration", "gen_ai_request_model")
    rules = eventually(lambda: (all_ := [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]])
                       and all(rule["health"] == "ok" for rule in all_) and all_, "every rule was evaluated")
    assert len(rules) == sum(len(group["rules"]) for group in yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())["groups"])
    eventually(lambda: prometheus.ask('route:sluice_request_errors:ratio_rate5m{route=~".*/gone"} == 1'), "a route without an origin answers nothing but errors")

    sluice.stop()
    eventually(lambda: [alert for alert in prometheus.api("alerts")["alerts"] if alert["labels"]["alertname"] == "SluiceDown"], "its end is noticed")
