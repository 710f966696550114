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
        ("5xx ratio by upstream", "percentunit", [(
            'sum by (upstream) (rate(sluice_upstream_requests_total{%s,code="5xx"}[$__rate_interval]))'
            " / sum by (upstream) (rate(sluice_upstream_requests_total{%s}[$__rate_interval]))", "{{upstream}}")]),
        ("Answers that failed, by reason", "reqps", [
            ("sum by (upstream, reason) (rate(sluice_upstream_responses_failed_total{%s}[$__rate_interval]))", "{{upstream}} {{reason}}")]),
        ("Under way, and waiting for a connection", "short", [
            ("sum by (upstream) (sluice_upstream_requests_active{%s})", "{{upstream}}"),
            ("sum by (upstream) (sluice_upstream_pending_requests{%s})", "{{upstream}} waiting")]),
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
    ("Language models", [
        ("Calls by provider and model", "reqps", [
            ("sum by (provider, gen_ai_request_model) (rate(gen_ai_server_request_duration_count{%s}[$__rate_interval]))",
             "{{provider}} {{gen_ai_request_model}}")]),
        # Reasoning is a part of output: not stacked.
        ("Tokens by type", "short", [("sum by (type) (rate(sluice_ai_tokens_total{%s}[$__rate_interval]))", "{{type}}, per second")]),
        ("Time to first token", "s", [
            ("histogram_quantile(0.5, sum by (provider, gen_ai_request_model, le) (rate(gen_ai_server_time_to_first_token_bucket{%s}[$__rate_interval])))",
             "{{provider}} {{gen_ai_request_model}} p50"),
            ("histogram_quantile(0.99, sum by (provider, gen_ai_request_model, le) (rate(gen_ai_server_time_to_first_token_bucket{%s}[$__rate_interval])))",
             "{{provider}} {{gen_ai_request_model}} p99")]),
        ("Cost per hour by team", "currencyUSD", [("3600 * sum by (team) (rate(sluice_ai_cost_dollars_total{%s}[$__rate_interval]))", "{{team}}")]),
        ("Cost per hour by model", "currencyUSD", [
            ("3600 * sum by (gen_ai_request_model) (rate(sluice_ai_cost_dollars_total{%s}[$__rate_interval]))", "{{gen_ai_request_model}}")]),
        ("Spent of budgets", "currencyUSD", [("max by (budget) (sluice_ai_budget_spent_dollars{%s})", "{{budget}}")]),
        ("Errors and fallbacks", "reqps", [
            ('sum by (provider, error_type) (rate(gen_ai_server_request_duration_count{%s,error_type!=""}[$__rate_interval]))', "{{provider}} {{error_type}}"),
            ("sum by (provider) (rate(sluice_ai_fallbacks_total{%s}[$__rate_interval]))", "{{provider}} asked after others")]),
        ("Cache hits", "percentunit", [(
            'sum by (gen_ai_request_model) (rate(sluice_ai_cache_lookups_total{%s,result="hit"}[$__rate_interval]))'
            " / sum by (gen_ai_request_model) (rate(sluice_ai_cache_lookups_total{%s}[$__rate_interval]))", "{{gen_ai_request_model}}")]),
        ("Bytes to vendors around the gateway", "Bps", [("sum by (result) (rate(sluice_ai_unmetered_bytes_total{%s}[$__rate_interval]))", "{{result}}")]),
    ]),
    ("Kernel and limits", [
        ("Dropped packets by rule", "pps", [("sum by (rule) (rate(sluice_guard_rule_dropped_packets_total{%s}[$__rate_interval]))", "{{rule}}")]),
        ("Matched packets by rule", "pps", [("sum by (rule, action) (rate(sluice_guard_rule_packets_total{%s}[$__rate_interval]))", "{{rule}} {{action}}")]),
        ("Limit verdicts", "ops", [("sum by (limit, verdict) (rate(sluice_limit_verdicts_total{%s}[$__rate_interval]))", "{{limit}} {{verdict}}")]),
        ("Refused by limits", "ops", [('sum by (limit) (rate(sluice_limit_verdicts_total{%s,verdict="rejected"}[$__rate_interval]))', "{{limit}}")]),
        ("Bans by what brought them", "ops", [
            ("sum by (limit) (rate(sluice_bans_requested_total{%s}[$__rate_interval]))", "limit {{limit}}"),
            ("sum by (event) (rate(sluice_event_bans_total{%s}[$__rate_interval]))", "{{event}}"),
            ("sum by (instance) (rate(sluice_guard_bans_refused_total{%s}[$__rate_interval]))", "{{instance}} refused")]),
        ("Bans in force", "short", [("sum by (instance) (sluice_guard_bans{%s})", "{{instance}}")]),
        ("Steered connections", "cps", [("sum by (instance) (rate(sluice_steer_assigned_total{%s}[$__rate_interval]))", "{{instance}}")]),
        ("Kernel maps, share in use", "percentunit", [("sluice_kernel_map_entries{%s} / sluice_kernel_map_capacity{%s}", "{{instance}} {{map}}")]),
    ]),
    ("Policy and process", [
        ("Policy generation by layer", "short", [("sluice_policy_generation{%s}", "{{instance}} {{layer}}")]),
        ("Reloads", "short", [("sum by (result) (increase(sluice_reloads_total{%s}[$__rate_interval]))", "{{result}}")]),
        ("The newest policy is refused, or differs from the disk", "short", [
            ("1 - sluice_config_last_reload_successful{%s}", "{{instance}} refused"),
            ("sluice_policy_differs_from_disk{%s}", "{{instance}} differs")]),
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
