#!/usr/bin/env python3
"""What a flood costs: the gateway process while a banned source floods it, and other clients' latency meanwhile.

    benchmarks/bans/floods.py --build build/release [--rounds 5] [--seconds 3]

Four namespaces: the node, an attacker, a client, and nothing else; two minutes. Rounds are interleaved, the tables hold
medians. As root; loopback and own namespaces only. `--build` needs sluice, sluice_flood and benchmarks/guard/drop.bpf.o
(-DSLUICE_BENCHMARKS=ON).
"""
import argparse
import contextlib
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../guard"))
from flood import gro_on, run  # noqa: E402

NAMED = "198.18.0.0/15"
GUEST = "10.71.0.3"  # not the default gateway, which is protected
TICK = os.sysconf("SC_CLK_TCK")

# Connects again and again, open loop: `rate` a second, each reset at once. Prints how many were answered.
CONNECTOR = r"""
import errno, select, socket, struct, sys, time
host, source, rate, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
reset = struct.pack("ii", 1, 0)
tried, open_ones, answered = 0, [], 0
start = time.monotonic()
while (now := time.monotonic() - start) < seconds:
    while tried < now * rate:
        s = socket.socket()
        s.setblocking(False)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        s.bind((source, 0))
        s.connect_ex((host, 80))
        open_ones.append((now, s))
        tried += 1
    while open_ones and now - open_ones[0][0] > 0.02:
        _, s = open_ones.pop(0)
        error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            s.getpeername()
            answered += 1
        except OSError:
            answered += error == errno.ECONNRESET
        s.close()
    time.sleep(0.001)
print(tried, answered)
"""

# Requests on one connection that stays open, and each tenth on one of its own; latencies in ms.
CLIENT = r"""
import json, socket, sys, time
host, seconds = sys.argv[1], float(sys.argv[2])
request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
def ask(connection):
    connection.sendall(request)
    data = b""
    while b"ok\n" not in data:
        more = connection.recv(65536)
        if not more: raise OSError("closed")
        data += more
kept = socket.create_connection((host, 80), 10)
ask(kept)
print("open", flush=True)
sys.stdin.readline()
end = time.monotonic() + seconds
open_ones, new, lost, count = [], [], 0, 0
while time.monotonic() < end:
    begin = time.monotonic()
    try:
        if count % 10:
            ask(kept)
            open_ones.append(time.monotonic() - begin)
        else:
            with socket.create_connection((host, 80), 3) as fresh:
                fresh.settimeout(3)
                ask(fresh)
            new.append(time.monotonic() - begin)
    except OSError:
        lost += 1
    count += 1
print(json.dumps({"open": open_ones, "new": new, "lost": lost}))
"""

POLICY = """version: 1
state_dir: {scratch}/state
workers: 2
logs: {{ access: {{ format: none }} }}
listeners: {{ web: {{ bind: "0.0.0.0:80", access: {access} }} }}
upstreams: {{ origin: {{ endpoints: ["127.0.0.1:8000"] }} }}
routes: [{{ listener: web, upstream: origin }}]
guard: {guard}
"""


class Node:
    def __init__(self, name, net):
        self.process = subprocess.Popen(["unshare", "-n", "sleep", "36000"])
        time.sleep(0.3)
        run(f"ip link add {name} type veth peer name out netns {self.process.pid}; ip addr add {net}.1/24 dev {name};"
            f"ip link set {name} up; {' '.join(self.inside('ip'))} link set lo up")
        run(f"{' '.join(self.inside('sh'))} -ec 'ip addr add {net}.2/24 dev out; ip link set out up; ip route add default via {net}.1'")

    def inside(self, *command):
        return ["nsenter", "-t", str(self.process.pid), "-n", *command]


class Bench:
    def __init__(self, arguments):
        self.build, self.seconds = os.path.abspath(arguments.build), arguments.seconds
        self.scratch = tempfile.mkdtemp(prefix="sluice-floods.")
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000 | 0x20000) != 0:
            sys.exit("floods.py: needs root")
        run("mount --make-rprivate /; mount -t sysfs sysfs /sys; mount -t bpf bpf /sys/fs/bpf; ip link set lo up")
        self.client, self.attacker = Node("to-client", "10.70.0"), Node("to-attacker", "10.71.0")
        run("ip route replace default via 10.71.0.2")
        run(" ".join(self.attacker.inside("ip", "addr", "add", f"{GUEST}/24", "dev", "out")))
        gro_on("to-attacker")
        with open("/sys/class/net/to-attacker/address") as file:
            self.mac = file.read().strip()
        with open(f"{self.scratch}/nginx.conf", "w") as file:
            file.write(f"""{"user root;" if os.getuid() == 0 else ""} daemon off; worker_processes 1; pid {self.scratch}/nginx.pid;
events {{ worker_connections 4096; }} http {{ access_log off; keepalive_requests 100000000;
server {{ listen 127.0.0.1:8000; return 200 "ok\\n"; }} }}""")
        self.origin = subprocess.Popen(["nginx", "-c", f"{self.scratch}/nginx.conf", "-e", f"{self.scratch}/nginx.log"])

    def close(self):
        for process in (self.client.process, self.attacker.process, self.origin):
            process.terminate()

    @contextlib.contextmanager
    def sluice(self, guard, access="{}"):
        policy, log = f"{self.scratch}/policy.yaml", f"{self.scratch}/log"
        with open(policy, "w") as file:
            file.write(POLICY.format(scratch=self.scratch, access=access, guard=guard))
        with open(log, "w") as out:
            process = subprocess.Popen([f"{self.build}/sluice", "run", "--policy", policy, "--socket", f"{self.scratch}/s"],
                                       stdout=out, stderr=out)
        deadline = time.monotonic() + 60
        while "ready" not in open(log).read():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"sluice does not start:\n{open(log).read()}")
            time.sleep(0.05)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
            subprocess.run([f"{self.build}/sluice", "cleanup"], capture_output=True)

    def ctl(self, *words):
        return run([f"{self.build}/sluice", *words, "--socket", f"{self.scratch}/s"])

    @contextlib.contextmanager
    def flood(self, source):
        """SYNs as fast as one core makes them, until the block ends."""
        script = f"while :; do {self.build}/sluice_flood out {self.mac} {source} 10.71.0.1 80 200000 >/dev/null || exit; done"
        process = subprocess.Popen(self.attacker.inside("sh", "-c", script), start_new_session=True)
        time.sleep(0.2)
        try:
            yield
        finally:
            os.killpg(process.pid, 9)  # our own session's
            process.wait()

    def spent(self, pid):
        """CPU in ms, and voluntary switches: times that it was woken."""
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        woken = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as file:
                woken += int(next(line for line in file if line.startswith("voluntary_ctxt")).split()[1])
        return (int(fields[11]) + int(fields[12])) * 1000 / TICK, woken

    def connects(self, rate):
        """CPU ms a second, wake-ups a second, and the share of connects that was answered."""
        gateway = json.loads(self.ctl("status", "--output", "json"))["gateway"]["pid"]
        time.sleep(0.3)
        before = self.spent(gateway)
        if rate:
            out = run(self.attacker.inside(sys.executable, "-c", CONNECTOR, "10.71.0.1", GUEST, str(rate), str(self.seconds)))
            tried, answered = map(int, out.split())
        else:
            time.sleep(self.seconds)
            tried, answered = 1, 0
        after = self.spent(gateway)
        return [(after[0] - before[0]) / self.seconds, (after[1] - before[1]) / self.seconds, answered / tried]

    def latencies(self, source=None):
        """p99 of open connections, of new ones, and requests lost."""
        client = subprocess.Popen(self.client.inside(sys.executable, "-c", CLIENT, "10.70.0.1", str(self.seconds)),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert client.stdout.readline() == "open\n"
        with self.flood(source) if source else contextlib.nullcontext():
            out = json.loads(client.communicate("\n", timeout=120)[0])
        p99 = [1000 * sorted(out[kind])[int(len(out[kind]) * 0.99)] if out[kind] else float("nan") for kind in ("open", "new")]
        return [*p99, out["lost"], len(out["open"]) + len(out["new"])]


GUARD = '{{ interfaces: ["to-attacker"], attach: {attach}, rules: [{{ name: r, from: [{named}] }}] }}'


def gateway_rows(bench, rate):
    """Name, what the node does about the attacker, what the attacker does."""
    guard = GUARD.format(attach="tc", named="192.0.2.0/24")
    deny = f'{{ deny: ["{GUEST}"] }}'
    by_rule = GUARD.format(attach="tc", named=GUEST)
    banned = lambda: bench.ctl("ban", GUEST, "--for", "1h")  # noqa: E731
    return [("nobody comes", guard, "{}", None, 0),
            (f"{rate:,} connects/s, banned", guard, "{}", banned, rate),
            ("the same, dropped by a guard rule", by_rule, "{}", None, rate),
            ("the same, refused by the listener's access rule", guard, deny, None, rate),
            ("the same, let in", guard, "{}", None, rate)]


def show(title, head, rows, forms):
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, values in rows.items():
        columns = zip(*values)
        print(f"| {name} | " + " | ".join(form.format(statistics.median(c)) for form, c in zip(forms, columns)) + " |", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--build", default="build/release")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=3)
    options.add_argument("--rate", type=int, default=3000, help="connects a second of the first table")
    arguments = options.parse_args()
    bench = Bench(arguments)
    cost, latency = {}, {}

    def quiet():
        return GUARD.format(attach="tc", named="192.0.2.0/24")

    def bare_drop(on):
        if on:
            run(f"ip link set dev to-attacker xdpdrv obj {bench.build}/benchmarks/guard/drop.bpf.o sec xdp")
        else:
            run("ip link set dev to-attacker xdpdrv off")

    try:
        for _ in range(arguments.rounds):
            for name, guard, access, before, rate in gateway_rows(bench, arguments.rate):
                with bench.sluice(guard, access):
                    if before:
                        before()
                    cost.setdefault(name, []).append(bench.connects(rate))
            with bench.sluice(quiet()):
                latency.setdefault("no flood", []).append(bench.latencies())
                bare_drop(True)
                latency.setdefault("flood, a bare XDP drop of everything", []).append(bench.latencies(NAMED))
                bare_drop(False)
                bench.ctl("ban", NAMED, "--for", "1h")
                latency.setdefault("flood of a banned source, tcx", []).append(bench.latencies(NAMED))
            for attach in ("xdp", "tc"):
                with bench.sluice(GUARD.format(attach=attach, named=NAMED)):
                    latency.setdefault(f"flood that a rule drops, {attach}", []).append(bench.latencies(NAMED))
            with bench.sluice('{ interfaces: ["to-attacker"], per_source: { syn: 200/s } }'):
                latency.setdefault("random sources, per_source 200/s", []).append(bench.latencies("0.0.0.0/0"))
            with bench.sluice('{ interfaces: ["to-attacker"], per_service: { syn: 2000/s } }'):
                latency.setdefault("random sources, per_service 2000/s", []).append(bench.latencies("0.0.0.0/0"))
            with bench.sluice(quiet()):
                latency.setdefault("random sources, nothing but SYN cookies", []).append(bench.latencies("0.0.0.0/0"))
    finally:
        bench.close()
    show("The gateway process while one source comes again and again:",
         ["what", "gateway's CPU, ms a second", "woken, times a second", "connects answered"], cost,
         ["{:.1f}", "{:.0f}", "{:.0%}"])
    show("Other clients while an attacker floods with SYNs as fast as one core makes them:",
         ["what", "p99 of open connections, ms", "p99 of new ones, ms", "lost", "requests"], latency,
         ["{:.2f}", "{:.2f}", "{:.0f}", "{:.0f}"])
    bare = latency["flood, a bare XDP drop of everything"]
    for name in ("flood that a rule drops, xdp", "flood that a rule drops, tc", "flood of a banned source, tcx"):
        ratios = [ours[0] / theirs[0] for ours, theirs in zip(latency[name], bare)]
        print(f"\n{name}: p99 of open connections {statistics.median(ratios):.2f} × that under the bare drop "
              f"({min(ratios):.2f} to {max(ratios):.2f}); the target is at most 1.5")


if __name__ == "__main__":
    main()
