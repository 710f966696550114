"""The dashboard and the rules ask only for what the binary exports, and Prometheus understands every query."""
import importlib.util
import json
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
METRIC = re.compile(r"(?<![:\w])(?:sluice|gen_ai)_[a-z0-9_]+")
HISTOGRAM_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def exported():
    names = set()
    for source in [path for part in ("gateway", "kernel") for path in (ROOT / part).glob("**/*.[ch]*")]:
        names.update(re.findall(r'"((?:sluice|gen_ai)_[a-z0-9_]+)"', source.read_text()))
    return names


def dashboard():
    return json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())


def dashboard_queries():
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def rule_queries():
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("query", dashboard_queries() + rule_queries())
def test_a_query_names_only_exported_metrics(query):
    names = exported()
    asked = set(METRIC.findall(query))
    missing = {name for name in asked if name not in names and HISTOGRAM_SUFFIX.sub("", name) not in names}
    assert not missing


def test_prometheus_parses_every_query(tmp_path):
    queries = [query.replace("$__rate_interval", "5m") for query in dashboard_queries()]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [
        {"record": f"q:{i}", "expr": query} for i, query in enumerate(queries)]}]}))
    done = subprocess.run(["promtool", "check", "rules", str(rules)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_dashboard_is_what_its_script_makes():
    path = ROOT / "deploy/grafana/make_dashboard.py"
    spec = importlib.util.spec_from_file_location("make_dashboard", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.dashboard() == dashboard()
