"""Runs the same calls of a language model through Sluice, Portkey's gateway and LiteLLM's proxy in turn, before a stand-in of
OpenAI that costs next to nothing, and compares latency, CPU time and memory. `direct` is the stand-in without a gateway, `plain`
Sluice's own HTTP proxying of the same calls. What is "added" is a gateway's time less that of `direct` in the same round; beside
`plain`, times are compared whole. A verdict is the median of the rounds' ratios with its 95 % interval.

All run in a network namespace of their own, in which there is only loopback. Portkey and LiteLLM are run where they are installed
(benchmarks/ai/install.sh); Tyk is in no package registry. Memory is measured in one round.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import gateways
import measures
from gateways import proxies

sys.path.insert(0, gateways.HERE + "/../beside")
from report import interval  # noqa: E402

VENDOR, BASE = 18070, 18071
PEERS = ("portkey", "litellm")


def progress(text, end=""):
    print(text, end=end, file=sys.stderr, flush=True)


def start_all(options, directory, log):
    started = []
    makers = (lambda: gateways.vendor(gateways.compiled("vendor", options.programs), VENDOR, log),
              lambda: gateways.sluice(options.sluice, directory, BASE, VENDOR, log, options.workers),
              lambda: gateways.plain(options.sluice, directory, BASE + 1, VENDOR, log, options.workers),
              lambda: gateways.portkey(options.peers, BASE + 2, VENDOR, log),
              lambda: gateways.litellm(options.peers, directory, BASE + 3, VENDOR, log))
    try:
        for make in makers:
            if gateway := make():
                progress(f"{gateway.name} runs\n")
                started.append(gateway)
    except Exception:
        stop_all(started)
        raise
    return started


def stop_all(started):
    for gateway in reversed(started):
        gateway.stop()


def rounds(work, options, program, started):
    measure, once, rows = measures.WORKS[work][0], work == "streams", []
    if not once:
        for gateway in started:
            measure(program, gateway, 1)  # warm-up
    amount = options.streams if once else options.seconds
    for number in range(1 if once else options.rounds):
        turn = number % len(started)
        row = {gateway.name: measure(program, gateway, amount) for gateway in started[turn:] + started[:turn]}
        rows.append({gateway.name: row[gateway.name] for gateway in started})
        progress(f"\r{work}: round {number + 1}")
    progress("", "\n")
    return rows


def value(row, name, figure, added):
    return row[name][figure] - (row["direct"][figure] if added else 0)


def ratio(rows, figure, added, others):
    """Sluice's figure by the least of the others', round by round: (median, low, high), or None. Rounds in which noise was more
    than what a gateway adds say nothing."""
    present = [name for name in others if name in rows[0]]
    ratios = []
    for row in rows if present else []:
        least = min(value(row, name, figure, added) for name in present)
        if least > 0:
            ratios.append(value(row, "sluice", figure, added) / least)
    return (statistics.median(ratios), *interval(ratios)) if ratios else None


def summary(work, rows):
    figures = []
    for figure, unit, added in measures.WORKS[work][1]:
        names = [name for name in rows[0] if not (name == "direct" and (added or figure in ("cpu", "memory")))]
        figures.append({"figure": figure, "unit": unit, "added": added,
                        "medians": {name: statistics.median(value(row, name, figure, added) for row in rows) for name in names},
                        "of_best_peer": ratio(rows, figure, added, PEERS), "of_plain": ratio(rows, figure, False, ("plain",))})
    return {"work": work, "figures": figures, "rows": rows}


def table(result):
    print(f"\n{result['work']}: {measures.WORKS[result['work']][0].__doc__} ({len(result['rows'])} rounds)")
    for figure in result["figures"]:
        print(f"  {'added ' if figure['added'] else ''}{figure['figure']}, {figure['unit']}:")
        print("    " + "  ".join(f"{name} {median:,.1f}" for name, median in figure["medians"].items()))
        for key, words in (("of_best_peer", "the better peer"), ("of_plain", "its plain proxying")):
            if figure[key] and figure["figure"] != "held":
                print("    Sluice / {}: {:.2f}  (95 %: {:.2f} to {:.2f})".format(words, *figure[key]))


def options_of(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"default: all of {', '.join(measures.WORKS)}")
    parser.add_argument("--sluice", default="build/release/sluice", help="the binary")
    parser.add_argument("--peers", default="build/ai-peers", help="where benchmarks/ai/install.sh has put the others")
    parser.add_argument("--programs", default="build/ai-bench", help="where the stand-in and the load are compiled to")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=3, help="of load per gateway and round; the work of tokens takes its own time")
    parser.add_argument("--streams", type=int, default=1000, help="that are open at a time in the work of that name")
    parser.add_argument("--workers", type=int, default=2, help="of Sluice's; Portkey and LiteLLM are one process each")
    parser.add_argument("--json", help="write the raw figures here")
    parser.add_argument("--isolated", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.works = options.works or list(measures.WORKS)
    if unknown := set(options.works) - set(measures.WORKS):
        parser.error(f"unknown work {', '.join(sorted(unknown))}; there is {', '.join(measures.WORKS)}")
    return options


def isolated(arguments):
    """The same again where there is no way out: others' code runs, and asks the network for much."""
    flags = ["-n"] if os.getuid() == 0 else ["-rn"]
    script = 'ip link set lo up && exec "$0" "$@"'
    os.execvp("unshare", ["unshare", *flags, "sh", "-c", script, sys.executable, __file__, "--isolated", *arguments])


def main():
    options = options_of(sys.argv[1:])
    if not options.isolated:
        isolated(sys.argv[1:])
    program, results = gateways.compiled("load", options.programs), []
    with tempfile.TemporaryDirectory(prefix="sluice-ai-bench.") as directory, open(f"{directory}/log", "w+") as log:
        started = []
        try:
            started = start_all(options, directory, log)
            for work in options.works:
                results.append(summary(work, rounds(work, options, program, started)))
                table(results[-1])
        except Exception:
            log.seek(0)
            progress(log.read()[-3000:], "\n")
            raise
        finally:
            stop_all(started)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


main()
