"""What a build that counts is to see executed: the benchmarks' loads, shortly, and calls of language models.

  training.py SLUICE
"""
import os
import sys
import tempfile

import loads
import proxies

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../ai"))
import gateways  # noqa: E402
import measures  # noqa: E402

ORIGIN, PORT, SECONDS = 18080, 18081, 3

WORKS = {  # by the kind of proxy
    "http": (lambda: loads.wrk(PORT, "/1k", 2 * SECONDS, 64), lambda: loads.wrk(PORT, "/64k", SECONDS, 64),
             lambda: loads.wrk(PORT, "/1k", SECONDS, 64, close=True), lambda: loads.fixed_rate(PORT, SECONDS, 2000)),
    "tls": (lambda: loads.full_handshakes(PORT, SECONDS), lambda: loads.resumed_handshakes(PORT, SECONDS),
            lambda: loads.http2(PORT, SECONDS)),
    "grpc": (lambda: loads.grpc_unary(PORT, SECONDS),),
    "http-bulk": (lambda: loads.bulk(PORT, "/1g", 1),),
    "l4": (lambda: loads.bulk(PORT, "/1g", 1),),
}


def end(server):
    """Counts are written at an orderly end alone."""
    server.stop()
    if server.process.returncode != 0:
        sys.exit(f"{server.name} ended with {server.process.returncode}")


def proxied(binary, directory, log):
    for kind, works in WORKS.items():
        origin = (proxies.grpc_origin if kind == "grpc" else proxies.origin)(directory, ORIGIN, log)
        try:
            sluice = proxies.sluice(binary, directory, PORT, ORIGIN, kind, log, 2)
            try:
                for work in works:
                    work()
            finally:
                end(sluice)
        finally:
            origin.stop()


def models(binary, directory, log):
    vendor = gateways.vendor(gateways.compiled("vendor", directory), ORIGIN, log)
    try:
        sluice = gateways.sluice(binary, directory, PORT, ORIGIN, log, 2)
        try:
            load = gateways.compiled("load", directory)
            measures.requests(load, sluice, SECONDS)
            measures.tokens(load, sluice, SECONDS)
        finally:
            end(sluice)
    finally:
        vendor.stop()


def main():
    binary = sys.argv[1]
    with tempfile.TemporaryDirectory() as directory, open(f"{directory}/log", "w") as log:
        proxied(binary, directory, log)
        models(binary, directory, log)


main()
