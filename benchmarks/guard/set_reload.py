#!/usr/bin/env python3
"""What a change in a large set costs: one line of its file, and a member at run time.

    benchmarks/guard/set_reload.py --build build/release [--prefixes 1000000] [--rounds 7] [--ipv6]

CPU time of keeper and gateway, and the time until it is in force. In namespaces of its own; needs root; a minute.
"""
import argparse
import ctypes
import ipaddress
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from flood import prefixes, run  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


def spent(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / TICK


def prefixes6(count):
    """90 % hosts, 10 % /48 to /64, in 20,000 /32s."""
    generator, out = random.Random(6), set()
    while len(out) < count:
        length = 128 if generator.randrange(10) else generator.randrange(48, 65)
        at = 0x2A00 << 112 | generator.randrange(20_000) << 96 | generator.getrandbits(96)
        out.add((at >> (128 - length) << (128 - length), length))
    return [f"{ipaddress.IPv6Address(at)}/{length}" for at, length in sorted(out)]  # sluice makes the fewest of them


class Bench:
    def __init__(self, build, items):
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000 | 0x20000) != 0:
            sys.exit("set_reload.py: needs root")
        run("mount --make-rprivate /; mount -t sysfs sysfs /sys; mount -t bpf bpf /sys/fs/bpf; ip link set lo up;"
            "ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up")
        self.sluice, self.scratch = f"{build}/sluice", tempfile.mkdtemp(prefix="sluice-sets.")
        self.items = [str(prefix) for prefix in items]
        self.others = []
        self.write()
        with open(f"{self.scratch}/policy.yaml", "w") as file:
            file.write(f"version: 1\nstate_dir: {self.scratch}/state\nsets: {{ s: {{ file: {self.scratch}/list }} }}\n"
                       "guard: { interfaces: [w0], rules: [{ name: r, from: { set: s } }] }\n")
        self.log = f"{self.scratch}/log"
        with open(self.log, "w") as out:
            self.process = subprocess.Popen([self.sluice, "run", "--policy", f"{self.scratch}/policy.yaml", "--socket",
                                             f"{self.scratch}/s"], stdout=out, stderr=out)
        while "ready" not in open(self.log).read():
            if self.process.poll() is not None:
                sys.exit(open(self.log).read())
            time.sleep(0.02)
        self.gateway = self.status()["gateway"]["pid"]

    def write(self, more=()):
        with open(f"{self.scratch}/list.new", "w") as file:
            file.writelines(f"{item}\n" for item in [*self.items, *more])
        os.rename(f"{self.scratch}/list.new", f"{self.scratch}/list")

    def shorten(self):
        """By turns 5,000 lines fewer and as many again."""
        self.items, self.others = self.others or self.items[5000:], self.items
        self.write()

    def ctl(self, *words):
        return run([self.sluice, *words, "--socket", f"{self.scratch}/s"])

    def status(self):
        return json.loads(self.ctl("status", "--output", "json"))

    def change(self, act):
        """ms until in force, CPU ms of keeper, CPU ms of gateway."""
        generation = self.status()["generation"]
        before = spent(self.process.pid), spent(self.gateway)
        begin = time.monotonic()
        act()
        while self.status()["generation"] == generation:
            time.sleep(0.01)
        took = (time.monotonic() - begin) * 1000
        time.sleep(1.2)  # what is left behind is freed at the next tick: counted too
        return took, spent(self.process.pid) - before[0], spent(self.gateway) - before[1]

    def close(self):
        self.process.terminate()
        self.process.wait()
        subprocess.run([self.sluice, "cleanup"], capture_output=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--build", default="build/release")
    options.add_argument("--prefixes", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--ipv6", action="store_true", help="a set of IPv6 prefixes")
    arguments = options.parse_args()
    bench = Bench(os.path.abspath(arguments.build), (prefixes6 if arguments.ipv6 else prefixes)(arguments.prefixes))
    line, member = ("2001:db8:1::{:x}/128", "2001:db8:2::{:x}") if arguments.ipv6 else ("203.0.113.{}", "203.0.114.{}")
    rows = {}
    try:
        for i in range(arguments.rounds):
            rows.setdefault("one line more", []).append(bench.change(lambda: bench.write([line.format(i)])))
            rows.setdefault("one member more (`sluice set add`)", []).append(
                bench.change(lambda: bench.ctl("set", "add", "s", member.format(i))))
            # More than is mended.
            rows.setdefault("5,000 lines fewer, and back: compiled whole", []).append(bench.change(bench.shorten))
    finally:
        bench.close()
    print(f"A set of {arguments.prefixes:,} {'IPv6' if arguments.ipv6 else 'IPv4'} prefixes, {arguments.rounds} rounds, medians:\n\n"
          "| change | in force after, ms | CPU of the keeper, ms | of the gateway, ms |\n|---|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{statistics.median(column):.0f}" for column in zip(*values)) + " |")


if __name__ == "__main__":
    main()
