#!/usr/bin/env python3
"""Writes dashboard.json: rows of panels, each a title, a unit, and its queries. Run it after a change; a test compares."""
import json
import pathlib

ROWS = [
    ("Golden signals", [
        ("Requests by route", "reqps", [("sum by (route) (rate(sluice_requests_total{%s}[$__rate_interval]))", "{{route}}")]),
        ("5xx ratio by route", "percentunit", [(
            'sum by (route) (rate(sluice_requests_total{%s,code="5xx"}[$__rate_interval]))'
            " / sum by (route) (rate(sluice_requests_total{%s}[$__rate_interval]))", "{{route}}")]),
        ("Duration by route", "s", [
            ("histogram_quantile(0.5, sum by (route, le) (rate(sluice_request_duration_seconds_bucket{%s}[$__rate_interval])))", "{{route}} p50"),
            ("histogram_quantile(0.99, sum by (route, le) (rate(sluice_request_duration_seconds_bucket{%s}[$__rate_interval])))", "{{route}} p99")]),
        ("Open connections by listener", "short", [("sum by (listener) (sluice_connections_active{%s})", "{{listener}}")]),
        ("New connections by way in", "cps", [("sum by (listener, way) (rate(sluice_connections_total{%s}[$__rate_interval]))", "{{listener}} {{way}}")]),
        ("Bytes to and from clients", "Bps", [
            ("sum(rate(sluice_client_sent_bytes_total{%s}[$__rate_interval]))", "sent"),
            ("sum(rate(sluice_client_received_bytes_total{%s}[$__rate_interval]))", "received")]),
    ]),
    ("Upstreams", [
        ("Requests by endpoint", "reqps", [("sum by (upstream, endpoint) (rate(sluice_upstream_requests_total{%s}[$__rate_interval]))", "{{upstream}} {{endpoint}}")]),
        ("Endpoints by state", "short", [("sum by (upstream, state) (sluice_upstream_endpoint_state{%s})", "{{upstream}} {{state}}")]),
        ("First byte p99", "s", [("histogram_quantile(0.99, sum by (upstream, le) (rate(sluice_upstream_first_byte_duration_seconds_bucket{%s}[$__rate_interval])))", "{{upstream}}")]),
        ("Connect p99", "s", [("histogram_quantile(0.99, sum by (upstream, le) (rate(sluice_upstream_connect_duration_seconds_bucket{%s}[$__rate_interval])))", "{{upstream}}")]),
        ("Connect failures, retries, ejections", "ops", [
            ("sum by (upstream) (rate(sluice_upstream_connect_failures_total{%s}[$__rate_interval]))", "{{upstream}} connect failures"),
            ("sum by (upstream) (rate(sluice_upstream_retries_total{%s}[$__rate_interval]))", "{{upstream}} retries"),
            ("sum by (upstream) (rate(sluice_upstream_ejections_total{%s}[$__rate_interval]))", "{{upstream}} ejections")]),
        ("Nothing to pick, circuit breakers", "ops", [
            ("sum by (upstream) (rate(sluice_upstream_no_endpoint_total{%s}[$__rate_interval]))", "{{upstream}} no endpoint"),
            ("sum by (upstream) (rate(sluice_upstream_circuit_breaker_refused_total{%s}[$__rate_interval]))", "{{upstream}} breaker")]),
    ]),
    ("Kernel and limits", [
        ("Dropped packets by rule", "pps", [("sum by (rule) (rate(sluice_guard_rule_dropped_packets_total{%s}[$__rate_interval]))", "{{rule}}")]),
        ("Matched packets by rule", "pps", [("sum by (rule, action) (rate(sluice_guard_rule_packets_total{%s}[$__rate_interval]))", "{{rule}} {{action}}")]),
        ("Limit verdicts", "ops", [("sum by (limit, verdict) (rate(sluice_limit_verdicts_total{%s}[$__rate_interval]))", "{{limit}} {{verdict}}")]),
        ("Bans in force", "short", [("sum by (instance) (sluice_guard_bans{%s})", "{{instance}}")]),
        ("Steered connections", "cps", [("sum by (instance) (rate(sluice_steer_assigned_total{%s}[$__rate_interval]))", "{{instance}}")]),
        ("Kernel maps, share in use", "percentunit", [("sluice_kernel_map_entries{%s} / sluice_kernel_map_capacity{%s}", "{{instance}} {{map}}")]),
    ]),
    ("Policy and process", [
        ("Policy generation by layer", "short", [("sluice_policy_generation{%s}", "{{instance}} {{layer}}")]),
        ("Reloads", "ops", [("sum by (result) (rate(sluice_reloads_total{%s}[$__rate_interval]))", "{{result}}")]),
        ("Gateway restarts, accept pauses", "ops", [
            ("sum by (instance) (rate(sluice_gateway_restarts_total{%s}[$__rate_interval]))", "{{instance}} restarts"),
            ("sum by (listener) (rate(sluice_accept_pauses_total{%s}[$__rate_interval]))", "{{listener}} pauses")]),
    ]),
]
SELECT = 'job=~"$job",instance=~"$instance"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def panel(number, title, unit, queries, x, y):
    return {
        "id": number, "type": "timeseries", "title": title, "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
        "options": {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                    "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [{"refId": chr(ord("A") + i), "expr": expr.replace("%s", SELECT), "legendFormat": legend, "datasource": SOURCE}
                    for i, (expr, legend) in enumerate(queries)],
    }


def variable(name, label):
    return {"name": name, "type": "query", "datasource": SOURCE, "query": f"label_values(sluice_build_info, {label})",
            "includeAll": True, "multi": True, "refresh": 2, "current": {"text": "All", "value": "$__all"}}


def dashboard():
    panels, y, number = [], 0, 1
    for title, row in ROWS:
        panels.append({"id": number, "type": "row", "title": title, "collapsed": False,
                       "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        y, number = y + 1, number + 1
        for i, (name, unit, queries) in enumerate(row):
            panels.append(panel(number, name, unit, queries, 8 * (i % 3), y + 8 * (i // 3)))
            number += 1
        y += 8 * ((len(row) + 2) // 3)
    return {
        "uid": "sluice", "title": "Sluice", "tags": ["sluice"], "schemaVersion": 39, "editable": True, "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"}, variable("job", "job"), variable("instance", "instance")]},
        "panels": panels,
    }


if __name__ == "__main__":
    pathlib.Path(__file__).with_name("dashboard.json").write_text(json.dumps(dashboard(), indent=1) + "\n")
