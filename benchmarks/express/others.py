"""What the express lane costs connections that are not in it: the kernel's own count of the time in our programs (bpf_stats), beside
what such a connection costs in all. wrk asks nginx directly, a connection per request and one kept alive, while Sluice's lane is there.

    benchmarks/express/others.py [--sluice build/release/sluice] [--seconds 5]
"""
import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../beside"))
import proxies  # noqa: E402

ORIGIN, FRONT = 18080, 18081
STATS = "/proc/sys/kernel/bpf_stats_enabled"


def run_time():
    """{name: (nanoseconds, runs)} of the lane's programs."""
    shown = subprocess.run(["bpftool", "prog", "show"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"name (sluice_express_\w*).*?run_time_ns (\d+) run_cnt (\d+)", shown)
    return {name: (int(ns), int(runs)) for name, ns, runs in found}


def wrk(seconds, close):
    """Requests, and seconds of CPU of both ends."""
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", *(["-H", "Connection: close"] if close else []), f"http://127.0.0.1:{ORIGIN}/1k"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(re.search(r"(\d+) requests in", shown).group(1)), spent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sluice", default="build/release/sluice")
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    with open(STATS) as file:
        stats = file.read()
    with tempfile.TemporaryDirectory(prefix="sluice-bench.") as directory, open(f"{directory}/log", "w+") as log:
        origin = proxies.origin(directory, ORIGIN, log)
        sluice = proxies.sluice(options.sluice, directory, FRONT, ORIGIN, "http-express-both", log, 2)
        try:
            with open(STATS, "w") as file:
                file.write("1")
            for close in (True, False):
                before, cpu_before = run_time(), origin.cpu()
                requests, spent = wrk(options.seconds, close)
                after, cpu_after = run_time(), origin.cpu()
                spent += sum(cpu_after) - sum(cpu_before)
                ns = {name: after[name][0] - before.get(name, (0, 0))[0] for name in after}
                runs = {name: after[name][1] - before.get(name, (0, 0))[1] for name in after}
                print(f"{'connection per request' if close else 'keep-alive':24}{requests:9} requests, {1e6 * spent / requests:6.1f} us of both "
                      f"ends' CPU each; the lane's programs {sum(ns.values()) / requests:5.0f} ns ({100 * sum(ns.values()) / 1e9 / spent:.2f} %), "
                      f"{sum(runs.values()) / requests:.2f} runs")
        finally:
            with open(STATS, "w") as file:
                file.write(stats)
            sluice.stop()
            origin.stop()


main()
