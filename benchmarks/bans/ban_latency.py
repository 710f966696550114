#!/usr/bin/env python3
"""From the first offending request to the first packet that the kernel drops, in two namespaces.

    benchmarks/bans/ban_latency.py --sluice build/release/sluice [--rounds 20]

The client asks for a path that nobody honest asks for (a ban rule on access_denied, count 1), and from then on sends a
small UDP datagram every 100 µs to a socket beside the gateway. The first datagram that never arrives was the first one
dropped: its time of sending, less that of the request's, is the latency. As root; loopback and own namespaces only.
"""
import argparse
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../tests/system"))
os.environ.setdefault("SLUICE", "build/release/sluice")

PROBE = '''
import socket, sys, time
request = socket.create_connection(("10.77.1.2", 8080))
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(("10.77.1.2", 9999))
sent, start = [], time.monotonic()
request.sendall(b"GET /bait HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
for i in range(1000):
    sent.append(time.monotonic() - start)
    probe.send(i.to_bytes(4, "big"))
    while time.monotonic() - start < (i + 1) * 1e-4:
        pass
print(*sent)
'''


POLICY = """version: 1
state_dir: {state}/state
listeners: {{ web: {{ bind: "10.77.1.2:8080" }} }}
upstreams: {{ origin: {{ endpoints: ["127.0.0.1:8000"] }} }}
routes: [{{ name: bait, path: /bait, upstream: origin, access: {{ deny: [0.0.0.0/0] }} }}]
guard: {{ interfaces: [eth0] }}
bans: {{ rules: [{{ when: {{ event: access_denied, count: 1 }}, for: 60s }}] }}
"""


def measure(gateway, star, inside):
    receiver_code = ("import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('10.77.1.2',9999))\n"
                     "s.settimeout(1)\nlast=-1\nprint('listening',flush=True)\ntry:\n  while True: last=max(last,int.from_bytes(s.recv(4),'big'))\n"
                     "except TimeoutError: print(last)")
    receiver = subprocess.Popen(inside(star.rim[0], sys.executable, "-c", receiver_code), stdout=subprocess.PIPE, text=True)
    receiver.stdout.readline()
    sent = subprocess.run(inside(star.hub, sys.executable, "-c", PROBE), capture_output=True, text=True, check=True).stdout.split()
    last = int(receiver.stdout.read().split()[0])
    receiver.wait()
    gateway.ctl("unban", "10.77.1.1")
    if last + 1 >= len(sent):
        raise SystemExit("nothing was dropped: no ban came")
    return float(sent[last + 1]) * 1000


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sluice", default="build/release/sluice")
    options.add_argument("--rounds", type=int, default=20)
    chosen = options.parse_args()
    chosen.sluice = os.path.abspath(chosen.sluice)
    os.environ["SLUICE"] = chosen.sluice
    import harness
    from namespaces import Star, inside

    class Gateway(harness.Sluice):
        def command(self, arguments):
            return inside(star.rim[0], *arguments)

    took = []
    with harness.Scratch() as scratch, Star("ban", 1) as star:
        for i in range(chosen.rounds):
            # A gateway remembers whom it has banned for as long as the ban would have lasted, over restarts too: a new
            # one each time, with a state of its own.
            gateway = Gateway(scratch, POLICY.format(state=f"{scratch.path}/{i}"), name=f"round{i}")
            took.append(measure(gateway, star, inside))
            gateway.stop()
        subprocess.run(inside(star.rim[0], chosen.sluice, "cleanup"), capture_output=True, check=False)
    took.sort()
    print(f"first offending request to first dropped packet, {len(took)} rounds: "
          f"median {statistics.median(took):.2f} ms, least {took[0]:.2f}, most {took[-1]:.2f}")


main()
