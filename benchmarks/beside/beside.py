"""Runs the same work through Sluice, HAProxy and nginx in turn and compares CPU time per unit.

A verdict is the median of the rounds' ratios (Sluice / the better peer of that round) with its 95 % interval
(order statistics); whole-machine noise hits all three alike because they take turns within each round.
"""
import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile

import proxies

ORIGIN, BASE = 18080, 18081


def wrk(port, path, seconds, connections, close=False, scheme="http"):
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    if close:
        command += ["-H", "Connection: close"]
    out = subprocess.run(command + [f"{scheme}://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    errors = re.search(r"Socket errors: (.*)", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if bad or (errors and not close):
        raise RuntimeError(f"errors under load: {bad.group(0) if bad else errors.group(0)}")
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    return requests, float(p99.group(1)) * {"us": 1e-3, "ms": 1, "s": 1e3}[p99.group(2)]


def full_handshakes(port, seconds):
    """wrk keeps no sessions: each connection begins with a full handshake of TLS 1.3."""
    return wrk(port, "/1k", seconds, 16, close=True, scheme="https")


def resumed_handshakes(port, seconds):
    out = subprocess.run(["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-www", "/1k", "-reuse", "-time", str(seconds)],
                         capture_output=True, text=True, check=True).stdout
    # After the first, all are resumed; it prints both rows, the second one is ours.
    return int(re.findall(r"(\d+) connections in \d+ real seconds", out)[-1]), None


def h2load(port, seconds):
    out = subprocess.run(["h2load", "-c", "8", "-m", "100", "-D", str(seconds), f"https://127.0.0.1:{port}/1k"],
                         capture_output=True, text=True, check=True).stdout
    total, failed = re.search(r"requests: .* (\d+) succeeded, (\d+) failed", out).groups()
    if int(failed):
        raise RuntimeError(f"{failed} requests failed")
    return int(total), None


def bulk(port, path, times):
    for _ in range(times):
        subprocess.run(["curl", "-sS", "-o", "/dev/null", f"http://127.0.0.1:{port}{path}"], check=True)
    return times * (1 << 30) / 1e9, None


WORKS = {
    # name: (kind, unit, scale, what runs)
    "keepalive": ("http", "µs/request", 1e6, lambda port, s: wrk(port, "/1k", s, 64)),
    "keepalive-64k": ("http", "µs/request", 1e6, lambda port, s: wrk(port, "/64k", s, 64)),
    "connection-per-request": ("http", "µs/request", 1e6, lambda port, s: wrk(port, "/1k", s, 64, close=True)),
    "tls-full": ("tls", "µs/connection", 1e6, full_handshakes),
    "tls-resumed": ("tls", "µs/connection", 1e6, resumed_handshakes),
    "h2-tls": ("tls", "µs/request", 1e6, h2load),
    "body-1g": ("http-bulk", "ms/GB", 1e3, lambda port, s: bulk(port, "/1g", 1)),
    "l4-bulk": ("l4", "ms/GB", 1e3, lambda port, s: bulk(port, "/1g", 2)),
}


def one_round(servers, work, seconds):
    _, _, scale, run = WORKS[work]
    row = {}
    for server in servers:
        user, system = server.cpu()
        units, p99 = run(server.port, seconds)
        user_after, system_after = server.cpu()
        row[server.name] = {"user": (user_after - user) * scale / units, "system": (system_after - system) * scale / units,
                            "units": units, "p99_ms": p99}
    return row


def interval(values):
    """95 % interval of the median by order statistics."""
    ordered, n = sorted(values), len(values)
    k = max(0, int(math.floor(n / 2 - 1.96 * math.sqrt(n) / 2)))
    return ordered[k], ordered[n - 1 - k]


def cpu(cell):
    return cell["user"] + cell["system"]


def report(work, rows):
    unit = WORKS[work][1]
    print(f"\n{work} ({unit}, median of {len(rows)} rounds)")
    print(f"  {'':10}{'CPU':>9}{'user':>9}{'system':>9}{'p99 ms':>9}{'units':>10}")
    for name in rows[0]:
        cells = [row[name] for row in rows]
        p99s = [c["p99_ms"] for c in cells if c["p99_ms"] is not None]
        print(f"  {name:10}{statistics.median(map(cpu, cells)):9.2f}{statistics.median(c['user'] for c in cells):9.2f}"
              f"{statistics.median(c['system'] for c in cells):9.2f}"
              f"{(statistics.median(p99s) if p99s else float('nan')):9.2f}{statistics.median(c['units'] for c in cells):10.0f}")
    ratios = [cpu(row["sluice"]) / min(cpu(cell) for name, cell in row.items() if name != "sluice") for row in rows]
    low, high = interval(ratios)
    print(f"  Sluice / better peer: {statistics.median(ratios):.2f}  (95 %: {low:.2f} to {high:.2f})")
    return {"work": work, "unit": unit, "ratio": statistics.median(ratios), "low": low, "high": high, "rows": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"default: all of {', '.join(WORKS)}")
    parser.add_argument("--sluice", default="build/release/sluice", help="the binary")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=3, help="of load per proxy and round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", help="write the raw figures here")
    options = parser.parse_args()
    options.works = options.works or list(WORKS)
    if unknown := set(options.works) - set(WORKS):
        parser.error(f"unknown work {', '.join(sorted(unknown))}; there is {', '.join(WORKS)}")
    results = []
    with tempfile.TemporaryDirectory(prefix="sluice-bench.") as directory, open(f"{directory}/log", "w+") as log:
        origin = proxies.origin(directory, ORIGIN, log)
        try:
            for work in options.works:
                kind = WORKS[work][0]
                servers = []
                try:
                    servers.append(proxies.sluice(options.sluice, directory, BASE, ORIGIN, kind, log, options.workers))
                    servers.append(proxies.haproxy(directory, BASE + 1, ORIGIN, kind, log, options.workers))
                    servers.append(proxies.nginx(directory, BASE + 2, ORIGIN, kind, log, options.workers))
                    one_round(servers, work, 1)  # warm-up
                    rows = []
                    for number in range(options.rounds):
                        rows.append(one_round(servers[number % 3:] + servers[:number % 3], work, options.seconds))
                        print(f"\r{work}: round {number + 1}/{options.rounds}", end="", file=sys.stderr, flush=True)
                    print(file=sys.stderr)
                    results.append(report(work, rows))
                finally:
                    for server in servers:
                        server.stop()
        except Exception:
            log.seek(0)
            print(log.read()[-3000:], file=sys.stderr)
            raise
        finally:
            origin.stop()
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


main()
