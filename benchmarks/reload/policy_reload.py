#!/usr/bin/env python3
"""A reload of 10,000 routes and 100,000 drop prefixes, under a steady load.

    benchmarks/reload/policy_reload.py --build build/release [--routes 10000] [--prefixes 100000] [--rounds 7] [--rate 800] [--inline]

A route and 50 prefixes more each time. Prints the time until the new policy is in force (a line in the log says so), p99 of
the requests that began meanwhile, of those while two processes that only spin run for as long (what a machine makes of any work of
that length), and of those of quiet stretches; and how many were lost. In namespaces of its own; needs root, nginx and h2load; 40 s.
"""
import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../guard"))
from flood import prefixes, run  # noqa: E402

CLIENTS = 16


class Bench:
    def __init__(self, options):
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000 | 0x20000) != 0:
            sys.exit("policy_reload.py: needs root")
        run("mount --make-rprivate /; mount -t sysfs sysfs /sys; mount -t bpf bpf /sys/fs/bpf; ip link set lo up;"
            "ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up;"
            "ip addr add 192.0.2.1/24 dev w0")  # without one h2load looks no address up
        self.options, self.scratch = options, tempfile.mkdtemp(prefix="sluice-reload.")
        self.items = [str(prefix) for prefix in prefixes(options.prefixes)]
        self.sluice, self.policy, self.log = f"{options.build}/sluice", f"{self.scratch}/policy.yaml", f"{self.scratch}/log"
        self.changes, self.started = 0, []
        self.write()
        self.put_in_place()

    def start(self):
        self.started.append(self.start_origin())
        with open(self.log, "w") as out:
            self.process = subprocess.Popen([self.sluice, "run", "--policy", self.policy, "--socket", f"{self.scratch}/s"],
                                            stdout=out, stderr=out)
        self.started.append(self.process)
        self.wait_for("ready", 0)

    def start_origin(self):
        with open(f"{self.scratch}/nginx.conf", "w") as file:
            file.write(f"daemon off; pid {self.scratch}/nginx.pid; error_log /dev/null; events {{}}\n"
                       "http { access_log off; keepalive_requests 1000000;\n"
                       "server { listen 127.0.0.1:9000; location / { return 200 hello; } } }\n")
        return subprocess.Popen(["nginx", "-c", f"{self.scratch}/nginx.conf"], stderr=subprocess.DEVNULL)

    def write(self):
        """The next policy, beside the one that is in force."""
        count = self.options.routes + self.changes
        members = self.items[50 * (self.changes + 1):]
        named, sets = "from: [" + ", ".join(members) + "]", ""
        if not self.options.inline:
            named, sets = "from: { set: listed }", f"sets: {{ listed: {{ file: {self.scratch}/list }} }}\n"
            with open(f"{self.scratch}/list.new", "w") as file:
                file.writelines(f"{member}\n" for member in members)
        with open(f"{self.policy}.new", "w") as file:
            file.write(f"version: 1\nstate_dir: {self.scratch}/state\nlisteners: {{ web: {{ bind: \"127.0.0.1:8080\" }} }}\n"
                       "upstreams: { api: { endpoints: [\"127.0.0.1:9000\"] } }\n"
                       f"{sets}guard:\n  interfaces: [w0]\n  rules:\n    - {{ name: drop-listed, action: drop, {named} }}\nroutes:\n")
            file.writelines(f"  - {{ listener: web, host: h{i % 100}.example, path: /p{i}, upstream: api }}\n" for i in range(count))
            file.write("  - { listener: web, upstream: api }\n")
        self.changes += 1

    def put_in_place(self):
        if not self.options.inline:
            os.rename(f"{self.scratch}/list.new", f"{self.scratch}/list")
        os.rename(f"{self.policy}.new", self.policy)

    def wait_for(self, words, offset):
        while True:
            with open(self.log) as log:
                log.seek(offset)
                if words in log.read():
                    return time.time()
            if self.process.poll() is not None:
                sys.exit(open(self.log).read())
            time.sleep(0.004)

    def measure(self):
        """(began, ended) of each reload and of what spins, in seconds since the epoch; every request: began, status, µs."""
        seconds = self.options.rounds * 5 + 4
        load = subprocess.Popen(["h2load", "--h1", "-c", str(CLIENTS), "-D", str(seconds), "--rps", str(self.options.rate // CLIENTS),
                                 "--log-file", f"{self.scratch}/requests", "http://127.0.0.1:8080/"], stdout=subprocess.DEVNULL)
        time.sleep(3)
        stretches, spun = [], []
        for _ in range(self.options.rounds):
            self.write()
            time.sleep(0.5)
            offset, began = os.path.getsize(self.log), time.time()
            self.put_in_place()
            stretches.append((began, self.wait_for("in force", offset)))
            time.sleep(3)
            spun.append(spin(stretches[-1][1] - began))
        load.wait()
        rows = [list(map(int, line.split()[:3])) for line in open(f"{self.scratch}/requests")]
        return stretches, spun, [(row[0] / 1e6, row[1], row[2]) for row in rows]

    def close(self):
        for process in reversed(self.started):
            process.terminate()
            process.wait()
        subprocess.run([self.sluice, "cleanup"], capture_output=True)


def spin(seconds):
    began = time.time()
    for process in [subprocess.Popen(["timeout", str(seconds), "sh", "-c", "while :; do :; done"]) for _ in range(2)]:
        process.wait()
    return began, time.time()


def within(requests, stretches):
    return [us for at, _, us in requests if any(began <= at < ended for began, ended in stretches)]


def p99(values):
    return sorted(values)[int(len(values) * 0.99)] / 1000


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--build", default="build/release")
    options.add_argument("--routes", type=int, default=10_000)
    options.add_argument("--prefixes", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--rate", type=int, default=800, help="requests a second, in all")
    options.add_argument("--inline", action="store_true", help="prefixes in the policy itself, not in a set's file")
    options = options.parse_args()
    options.build = os.path.abspath(options.build)
    bench = Bench(options)
    try:
        bench.start()
        stretches, spun, requests = bench.measure()
    finally:
        bench.close()
    took = sorted((ended - began) * 1000 for began, ended in stretches)
    during, busy = within(requests, stretches), within(requests, spun)
    quiet = within(requests, [(ended + 1.5, ended + 2.5) for _, ended in stretches])
    lost = sum(status != 200 for _, status, _ in requests)
    print(f"{options.routes:,} routes, {options.prefixes:,} prefixes, {options.rate} requests/s: in force after {statistics.median(took):.0f} ms "
          f"({took[0]:.0f} to {took[-1]:.0f}); p99 meanwhile {p99(during):.1f} ms, while two spin {p99(busy):.1f}, else {p99(quiet):.1f}; {lost} of {len(requests):,} requests lost")


if __name__ == "__main__":
    main()
