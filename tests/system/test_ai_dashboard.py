"""The dashboard's row of language models on a real Prometheus that scrapes a gateway with calls: each query finds something."""
import json
import math
import pathlib
import shutil
import threading
import time
import urllib.parse
import urllib.request

import pytest
from ai_client import CALLERS, Gateway
from harness import Process, eventually, free_port
from test_ai_keys import Keys

DASHBOARD = pathlib.Path(__file__).resolve().parents[2] / "deploy/grafana/dashboard.json"
BY_THE_KEEPER = "sluice_ai_unmetered_bytes_total"  # test_ai_caught.py has it


def queries(row):
    title = None
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        title = panel["title"] if panel["type"] == "row" else title
        if title == row:
            yield from (target["expr"] for target in panel.get("targets", []))


class Prometheus(Process):
    def __init__(self, scratch, target):
        self.port = free_port()
        config = scratch.write("prometheus.yml", f"""
global: {{ scrape_interval: 1s }}
scrape_configs: [{{ job_name: sluice, static_configs: [{{ targets: ["127.0.0.1:{target}"] }}] }}]
""")
        super().__init__(scratch, "prometheus", ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={scratch.path}/tsdb",
                                                 f"--web.listen-address=127.0.0.1:{self.port}"])

    def values(self, query):
        """What is above 0, as Grafana would ask for it with both variables at All."""
        query = query.replace("$__rate_interval", "10s").replace("$job", ".+").replace("$instance", ".+")
        asked = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": query}), timeout=10)
        answer = json.load(asked)
        assert answer["status"] == "success", answer
        values = {json.dumps(found["metric"], sort_keys=True): float(found["value"][1]) for found in answer["data"]["result"]}
        return {labels: value for labels, value in values.items() if value > 0 and not math.isnan(value)}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
def test_every_panel_of_language_models_shows_something(scratch):
    prices = scratch.write("prices.yaml", "up: { input: 1000, output: 1000, cached_input: 1000 }\nclaude: { input: 1000, output: 1000 }\n")
    page = free_port()
    gateway = Gateway(scratch, ("openai", "anthropic"), models="    m: { targets: [{ provider: openai, model: up }], fallback: [anthropic/claude] }",
                      keys="required", more=f"  prices: {prices}\n  cache: {{ ttl: 1h }}", top=f'metrics: {{ bind: "127.0.0.1:{page}" }}')
    headers = {"authorization": "Bearer " + Keys(gateway).create("alice", "--team", "red", "--budget", "1000", "--budget-period", "month")}
    eventually(lambda: gateway.request("GET", "/v1/models", headers=headers)[0] == 200, "the key is known")
    prometheus = Prometheus(scratch, page)
    caller = CALLERS["openai"](gateway)
    caller.headers = headers
    done = threading.Event()

    def call():
        number = 0
        while not done.is_set():
            number += 1
            for text in (f"{number}", "again"):
                caller.call("m", text=text)
            caller.streamed("m", text=f"{number} streamed")
            for status in (503, 400):  # the next target is asked; nobody is
                gateway["openai"].script.append({"status": status})
                caller.call("m", text=f"{number} and {status}")
            time.sleep(0.2)

    calls = threading.Thread(target=call)
    calls.start()
    try:
        asked = [query for query in queries("Language models") if BY_THE_KEEPER not in query]
        assert len(asked) == 10
        for query in asked:
            found = eventually(lambda query=query: prometheus.values(query), f"it finds something: {query}", 30)
            assert "{}" not in found, f"by labels that there are: {query}"
        tokens = prometheus.values(next(query for query in asked if "sluice_ai_tokens_total" in query))
        assert {"input", "output", "cache_read"} <= {json.loads(labels)["type"] for labels in tokens}
        cost = prometheus.values(next(query for query in asked if "sum by (team)" in query))
        assert set(cost) == {'{"team": "red"}'}
    finally:
        done.set()
        calls.join()
