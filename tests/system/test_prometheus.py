"""A real Prometheus scrapes the real binary: every query of the dashboard has an answer, and the rules are evaluated."""
import json
import os
import pathlib
import subprocess
import urllib.parse

import pytest
import yaml

from harness import Process, Scratch, eventually
from netns import Net, NodeSluice

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
routes: [{ path: /few, upstream: app, limits: [few] }, { path: /gone, upstream: gone }, { upstream: app }]
"""
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


@pytest.fixture
def net():
    with Scratch() as scratch:
        net = Net(scratch)
        net.nginx()
        yield net


def test_every_panel_has_data_and_every_rule_is_evaluated(net):
    sluice = NodeSluice(net, POLICY.replace("@STATE@", f"{net.scratch.path}/state"))
    prometheus = Prometheus(net)
    eventually(lambda: prometheus.ask('up{job="sluice"} == 1'), "it is scraped")
    net.in_client("ip", "address", "add", "10.71.0.99/24", "dev", "eth0")

    def answered(query):
        """Asks the gateway something of each kind, so that rates are there, and Prometheus."""
        subprocess.run(net.command(net.client, "curl", "-sS", "-o", "/dev/null", "--max-time", "5", "http://203.0.113.7/", "http://203.0.113.7/few",
                                   "http://203.0.113.7/gone"), check=False, capture_output=True)
        return prometheus.ask(query)

    assert net.curl("http://203.0.113.7/", "--interface", "10.71.0.99", "--max-time", "1") is None
    queries = list(dashboard_queries())
    assert len(queries) > 25
    for query in queries:
        eventually(lambda query=query: answered(query), f"there is data for {query}")

    # Numbers that are known.
    eventually(lambda: answered('sum(rate(sluice_requests_total{code="2xx"}[30s])) > 0 and sum(rate(sluice_requests_total{code="5xx"}[30s])) > 0'),
               "answers of both classes")
    eventually(lambda: prometheus.ask('sluice_guard_rule_dropped_packets_total{rule="nobody"} > 0'), "the rule's drops")
    rules = eventually(lambda: (all_ := [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]])
                       and all(rule["health"] == "ok" for rule in all_) and all_, "every rule was evaluated")
    assert len(rules) == sum(len(group["rules"]) for group in yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())["groups"])
    eventually(lambda: prometheus.ask('route:sluice_request_errors:ratio_rate5m{route=~".*/gone"} == 1'), "a route without an origin answers nothing but errors")

    sluice.stop()
    eventually(lambda: [alert for alert in prometheus.api("alerts")["alerts"] if alert["labels"]["alertname"] == "SluiceDown"], "its end is noticed")
