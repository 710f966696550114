#!/usr/bin/env python3
"""What a packet costs through a veth pair: nothing loaded, a bare XDP drop, nftables sets, and the guard.

    benchmarks/guard/flood.py --build build/release [--packets 1000000] [--rounds 5]

CPU time per packet of the sender's process, which also does the receiver's softirq: sending is part of every row
alike. Rounds are interleaved; the table has medians. In namespaces of its own; needs root and nft.
"""
import argparse
import ctypes
import fcntl
import ipaddress
import json
import os
import random
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

NAMED = "198.18.0.0/15"


def run(command, **more):
    return subprocess.run(command, shell=isinstance(command, str), check=True, capture_output=True, text=True, **more).stdout


def gro_on(interface):
    value = ctypes.create_string_buffer(struct.pack("II", 0x2C, 1))  # ETHTOOL_SGRO
    request = struct.pack("16sQ", interface.encode(), ctypes.addressof(value)).ljust(40, b"\0")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8946, request)  # SIOCETHTOOL


def addresses(count):
    generator, out = random.Random(4), set()
    while len(out) < count:
        out.add(generator.randrange(0x01000000, 0xC0000000))
    return sorted(out)


def prefixes(count):
    """90 % hosts, 7 % /24, the rest /22 to /16: without overlap, as nftables wants them."""
    generator, out = random.Random(4), []
    while len(out) < count:
        kind = generator.randrange(100)
        length = 32 if kind < 90 else 24 if kind < 97 else generator.randrange(16, 23)
        at = generator.randrange(0x01000000, 0xC0000000) >> (32 - length) << (32 - length)
        out.append(ipaddress.ip_network((at, length)))
    return list(ipaddress.collapse_addresses(out))


class Bench:
    def __init__(self, arguments):
        self.build, self.packets = arguments.build, arguments.packets
        self.scratch = tempfile.mkdtemp(prefix="sluice-flood.")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x40000000 | 0x20000) != 0:
            sys.exit("flood.py: needs root")
        run("mount --make-rprivate /; mount -t sysfs sysfs /sys; mount -t bpf bpf /sys/fs/bpf; ip link set lo up")
        self.sender = subprocess.Popen(["unshare", "-n", "sleep", "36000"])
        time.sleep(0.5)
        run(f"ip link add sink type veth peer name out netns {self.sender.pid}; ip link set sink up; ip addr add 10.71.0.1/24 dev sink;"
            f"ip route add default via 10.71.0.2; nsenter -t {self.sender.pid} -n ip link set out up")
        gro_on("sink")
        with open("/sys/class/net/sink/address") as file:
            self.mac = file.read().strip()

    def flood(self, source="0.0.0.0/0"):
        # To an address that is not the node's, and forwarding is off: the stack drops it after prerouting.
        out = run(["nsenter", "-t", str(self.sender.pid), "-n", f"{self.build}/sluice_flood", "out", self.mac, source,
                   "203.0.113.9", "80", str(self.packets)])
        return float(re.search(r"([0-9]+) ns of CPU", out)[1])

    def nft(self, count, interval):
        elements = [str(p) for p in prefixes(count)] if interval else [str(ipaddress.ip_address(a)) for a in addresses(count)]
        path = f"{self.scratch}/rules.nft"
        with open(path, "w") as file:
            file.write("table ip bench {\n set s {\n  type ipv4_addr\n  %s\n  elements = { %s }\n }\n" % (
                "flags interval" if interval else "", ", ".join(elements)))
            file.write(" chain c {\n  type filter hook prerouting priority raw\n  ip saddr @s drop\n }\n}\n")
        begin = time.monotonic()
        run(["nft", "-f", path])
        return time.monotonic() - begin

    def guard(self, text, name="guard"):
        policy = f"{self.scratch}/{name}.yaml"
        with open(policy, "w") as file:
            file.write(f"version: 1\nstate_dir: {self.scratch}/state\n{text}")
        log = open(f"{self.scratch}/{name}.log", "w")
        process = subprocess.Popen([f"{self.build}/sluice", "run", "--policy", policy, "--socket", f"{self.scratch}/s"],
                                   stderr=log, stdout=log)
        deadline = time.monotonic() + 120
        while "ready" not in open(log.name).read():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"sluice does not start:\n{open(log.name).read()}")
            time.sleep(0.05)
        return process

    def write_list(self, items):
        path = f"{self.scratch}/list"
        with open(path, "w") as file:
            file.writelines(f"{item}\n" for item in items)
        return path

    def clear(self):
        run("nft flush ruleset")
        subprocess.run([f"{self.build}/sluice", "cleanup"], capture_output=True)

    def close(self):
        self.sender.kill()


def guard_policy(bench, attach, count):
    if count == 0:
        return f"guard: {{ interfaces: [sink], attach: {attach}, rules: [{{ name: r, from: [192.0.2.0/24] }}] }}\n"
    path = bench.write_list(prefixes(count))
    return (f"sets: {{ s: {{ file: {path} }} }}\n"
            f"guard: {{ interfaces: [sink], attach: {attach}, rules: [{{ name: r, from: {{ set: s }} }}] }}\n")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--build", default="build/release")
    options.add_argument("--packets", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--sizes", default="1000,100000,1000000")
    arguments = options.parse_args()
    bench = Bench(arguments)
    rows = {}

    def measure(name, source="0.0.0.0/0"):
        rows.setdefault(name, []).append(bench.flood(source))

    def bare_drop():
        run(f"ip link set dev sink xdpdrv obj {arguments.build}/benchmarks/guard/drop.bpf.o sec xdp")

    try:
        bench.flood()
        for _ in range(arguments.rounds):
            measure("nothing loaded")
            bare_drop()
            measure("bare XDP drop")
            run("ip link set dev sink xdpdrv off")
            for attach in ("tc", "xdp"):
                running = bench.guard(guard_policy(bench, attach, 0))
                measure(f"guard {attach}: one rule, not named")
                subprocess.run([f"{arguments.build}/sluice", "ban", NAMED, "--for", "1h", "--socket", f"{bench.scratch}/s"],
                               check=True, capture_output=True)
                measure(f"guard {attach}: flood of a banned source", NAMED)
                running.terminate()
                running.wait()
                bench.clear()
        for size in (int(s) for s in arguments.sizes.split(",")):
            for interval in (False, True):
                kind = "interval set" if interval else "hash set"
                took = bench.nft(size, interval)
                rows[f"nftables {kind}, {size:,}: load"] = [took * 1e3]
                for _ in range(arguments.rounds):
                    measure(f"nftables {kind}, {size:,}: uniform")
                bench.clear()
            for attach in ("tc", "xdp"):
                policy = guard_policy(bench, attach, size)
                begin = time.monotonic()
                running = bench.guard(policy)
                rows[f"guard {attach} set, {size:,}: start of the process to ready"] = [(time.monotonic() - begin) * 1e3]
                for _ in range(arguments.rounds):
                    measure(f"guard {attach} set, {size:,}: uniform")
                running.terminate()
                running.wait()
                bench.clear()
    finally:
        bench.close()
    for name, values in rows.items():
        unit = "ms" if name.endswith(": load") or name.endswith("ready") else "ns"
        print(f"| {name} | {statistics.median(values):,.0f} {unit} | {min(values):,.0f} - {max(values):,.0f} |")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
