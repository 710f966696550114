"""Runs the same work through Sluice, HAProxy, nginx and (where it is) Envoy in turn and compares CPU time per unit (or memory).

A verdict is the median of the rounds' ratios (Sluice / the better peer of that round) with its 95 % interval
(order statistics); whole-machine noise hits all alike because they take turns within each round. Envoy is shown; the better peer is HAProxy or nginx, which cost less.
"""
import argparse
import json
import shutil
import sys
import tempfile

import loads
import proxies
import report

ORIGIN, BASE = 18080, 18081
IDLE = min(10_000, proxies.DESCRIPTORS // 2 - 500)  # connections: a proxy sets two descriptors aside for each


def cpu_of(server, scale, run):
    user, system = server.cpu()
    units, p99 = run(server.port)
    user_after, system_after = server.cpu()
    return {"user": (user_after - user) * scale / units, "system": (system_after - system) * scale / units,
            "units": units, "p99_ms": p99}


def memory_of(server, bare):
    """Beyond `bare`, what the same program takes at its start when it is set up for few: some make arrays for all then."""
    idle = loads.IdleConnections(server.port, IDLE)
    try:
        return {"memory": (server.resident() - bare) / IDLE / 1024, "units": IDLE}
    finally:
        idle.close()


def requests(run):
    return "µs/request", lambda server, seconds: cpu_of(server, 1e6, lambda port: run(port, seconds))


def gigabytes(times):
    return "ms/GB", lambda server, seconds: cpu_of(server, 1e3, lambda port: loads.bulk(port, "/1g", times))


WORKS = {
    # name: (kind of proxy, (unit, what measures one round))
    "keepalive": ("http", requests(lambda port, s: loads.wrk(port, "/1k", s, 64))),
    "keepalive-64k": ("http", requests(lambda port, s: loads.wrk(port, "/64k", s, 64))),
    "fixed-rate-10k": ("http", requests(lambda port, s: loads.fixed_rate(port, s, 10_000))),
    "half-load": ("http", requests(lambda port, s: loads.fixed_rate(port, s, 5_000))),
    "connection-per-request": ("http", requests(lambda port, s: loads.wrk(port, "/1k", s, 64, close=True))),
    "tls-full": ("tls", requests(loads.full_handshakes)),
    "tls-resumed": ("tls", requests(loads.resumed_handshakes)),
    "h2-tls": ("tls", requests(loads.http2)),
    "grpc-unary": ("grpc", requests(loads.grpc_unary)),
    "body-1g": ("http-bulk", gigabytes(1)),
    "l4-bulk": ("l4", gigabytes(2)),
    # As "keepalive", with the express lane to the origin, and to the client too: all three are on this node.
    "upstream-on-this-node": ("http-express-upstream", requests(lambda port, s: loads.wrk(port, "/1k", s, 64))),
    "client-and-upstream-on-this-node": ("http-express-both", requests(lambda port, s: loads.wrk(port, "/1k", s, 64))),
    "idle-connection": ("http-idle", ("KiB/connection", memory_of)),
}


# What speaks HTTP/1.0, as `openssl s_time` does, is refused by Envoy.
WITHOUT_ENVOY = {"tls-full"}


def start_all(binary, directory, kind, log, workers, origin_port, with_envoy):
    servers = []
    try:
        servers.append(proxies.sluice(binary, directory, BASE, origin_port, kind, log, workers))
        servers.append(proxies.haproxy(directory, BASE + 1, origin_port, kind, log, workers))
        servers.append(proxies.nginx(directory, BASE + 2, origin_port, kind, log, workers))
        if with_envoy and (envoy := shutil.which("envoy")):
            servers.append(proxies.envoy(envoy, directory, BASE + 3, origin_port, kind, log, workers))
    except Exception:
        stop_all(servers)
        raise
    return servers


def stop_all(servers):
    for server in servers:
        server.stop()


def progress(text, end=""):
    print(text, end=end, file=sys.stderr, flush=True)


def bare_memory(start):
    servers = start("http-few")
    try:
        return {server.name: server.resident() for server in servers}
    finally:
        stop_all(servers)


def measure(work, options, directory, log, origins):
    kind, (unit, one) = WORKS[work]
    rows, fresh = [], kind == "http-idle"  # memory: each round begins with processes that were never used

    def start(kind=kind):
        return start_all(options.sluice, directory, kind, log, options.workers, origins[kind == "grpc"].port, work not in WITHOUT_ENVOY)

    arguments = bare_memory(start) if fresh else {}
    servers = [] if fresh else start()
    try:
        if not fresh:
            for server in servers:
                one(server, 1)  # warm-up
        for number in range(min(options.rounds, 5) if fresh else options.rounds):
            if fresh:
                servers = start()
            turn = number % len(servers)
            rows.append({server.name: one(server, arguments.get(server.name, options.seconds)) for server in servers[turn:] + servers[:turn]})
            rows[-1] = {server.name: rows[-1][server.name] for server in servers}
            progress(f"\r{work}: round {number + 1}/{options.rounds}")
            if fresh:
                stop_all(servers)
        progress("", "\n")
    finally:
        stop_all(servers)
    return report.summary(work, unit, rows)


def options_of(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"default: all of {', '.join(WORKS)}")
    parser.add_argument("--sluice", default="build/release/sluice", help="the binary")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=3, help="of load per proxy and round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", help="write the raw figures here")
    parser.add_argument("--chart", help="draw the ratios here (SVG)")
    options = parser.parse_args(arguments)
    options.works = options.works or list(WORKS)
    if unknown := set(options.works) - set(WORKS):
        parser.error(f"unknown work {', '.join(sorted(unknown))}; there is {', '.join(WORKS)}")
    return options


def main():
    options = options_of(sys.argv[1:])
    results = []
    with tempfile.TemporaryDirectory(prefix="sluice-bench.") as directory, open(f"{directory}/log", "w+") as log:
        origins = [proxies.origin(directory, ORIGIN, log)]
        try:
            if any(WORKS[work][0] == "grpc" for work in options.works):
                origins.append(proxies.grpc_origin(directory, ORIGIN - 1, log))
            for work in options.works:
                results.append(measure(work, options, directory, log, origins))
                report.table(results[-1])
        except Exception:
            log.seek(0)
            progress(log.read()[-3000:], "\n")
            raise
        finally:
            stop_all(origins)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
    if options.chart:
        report.chart(results, options.chart)


main()
