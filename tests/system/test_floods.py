"""SYN floods as fast as this machine can make them, bounded in number, in namespaces of the test's own."""
import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import time

import pytest

from harness import SLUICE, Nginx, Scratch, Sluice, eventually

FLOOD = os.path.join(os.path.dirname(SLUICE), "sluice_flood")
PACKETS = 300_000
SPOOFED = "198.18.0.0/15"

# Each on a connection of its own, and as many on one that stays open.
CLIENT = r"""
import json, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
name = "[%s]" % host if ":" in host else host
request = b"GET / HTTP/1.1\r\nHost: " + name.encode() + b"\r\n\r\n"
def answer(connection):
    data = b""
    while not data.endswith(b"\n") or b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more: raise OSError("closed: %r" % data)
        data += more
    if not data.startswith(b"HTTP/1.1 200"): raise OSError(data[:60])
kept = socket.create_connection((host, port), 30)
kept.sendall(request); answer(kept)
print("open", flush=True)
sys.stdin.readline()
new = open_ones = 0
why = []
for i in range(count):
    try:
        kept.sendall(request); answer(kept); open_ones += 1
    except OSError as error: why.append("open: %s" % error)
    try:
        with socket.create_connection((host, port), 30) as fresh:
            fresh.settimeout(30); fresh.sendall(request); answer(fresh); new += 1
    except OSError as error: why.append("new: %s" % error)
print(json.dumps({"open": open_ones, "new": new, "why": why[:5]}))
"""


class Node:
    """A network namespace, for as long as its process lives."""

    def __init__(self, stack):
        self.process = stack.enter_context(subprocess.Popen(["unshare", "-n", "sleep", "600"]))
        stack.callback(self.process.terminate)
        here = os.readlink("/proc/self/ns/net")
        eventually(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != here, "a namespace")
        self.run("ip link set lo up")

    def command(self, *words):
        return ["nsenter", "-t", str(self.process.pid), "-n", *words]

    def run(self, script):
        subprocess.run(self.command("sh", "-ec", script), check=True)


def gro_on(interface):
    """Gives a veth the NAPI that frames redirected to its peer need (ethtool -K INTERFACE gro on)."""
    value = ctypes.create_string_buffer(struct.pack("II", 0x2C, 1))  # ETHTOOL_SGRO
    request = struct.pack("16sQ", interface.encode(), ctypes.addressof(value)).ljust(40, b"\0")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8946, request)  # SIOCETHTOOL


class World:
    """client 10.70.0.2 - 10.70.0.1 gateway (here) 10.71.0.1 - 10.71.0.2 attacker, who is the default route."""

    def __init__(self, stack):
        self.client, self.attacker = Node(stack), Node(stack)
        for node, here, there, net in ((self.client, "to-client", "out", "10.70.0"),
                                       (self.attacker, "to-attacker", "out", "10.71.0")):
            subprocess.run(f"ip link add {here} type veth peer name {there} netns {node.process.pid};"
                           f"ip addr add {net}.1/24 dev {here}; ip link set {here} up", shell=True, check=True)
            node.run(f"ip addr add {net}.2/24 dev {there}; ip link set {there} up; ip route add default via {net}.1")
        subprocess.run("ip route replace default via 10.71.0.2", shell=True, check=True)
        gro_on("to-attacker")
        with open("/sys/class/net/to-attacker/address") as file:
            self.mac = file.read().strip()

    def flood(self, to, port):
        return subprocess.Popen(self.attacker.command(FLOOD, "out", self.mac, SPOOFED, to, str(port), str(PACKETS)))

    def requests_under_flood(self, host, port, count=25, flooded=None, flooded_port=None):
        client = subprocess.Popen(self.client.command("python3", "-c", CLIENT, host, str(port), str(count)),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert client.stdout.readline() == "open\n"
        flood = self.flood(flooded or host, flooded_port or port)
        out, _ = client.communicate("\n", timeout=240)
        assert flood.wait(240) == 0
        return json.loads(out)


@pytest.fixture(scope="module", autouse=True)
def namespace():
    if os.getuid() != 0:
        pytest.fail("needs root")
    assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000 | 0x20000) == 0  # NEWNET, NEWNS
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
    subprocess.run("ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward", shell=True, check=True)


@pytest.fixture
def world():
    with contextlib.ExitStack() as stack:
        made = World(stack)
        yield made
        subprocess.run("ip link del to-client; ip link del to-attacker", shell=True, check=False)


POLICY = """
version: 1
state_dir: {state}
listeners: {{ web: {{ bind: "10.70.0.1:80" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{origin}"] }} }}
routes: [{{ listener: web, upstream: api }}]
guard: {guard}
"""


def drops(sluice):
    return {rule["rule"]: rule for rule in json.loads(sluice.ctl("drops", "--output", "json").stdout)["rules"]}


@pytest.mark.parametrize("attach", ["tc", "xdp"])
def test_a_dropped_prefix_costs_other_clients_nothing(world, attach):
    with Scratch() as scratch:
        origin = Nginx(scratch)
        sluice = Sluice(scratch, POLICY.format(
            state=scratch.path, origin=origin.port,
            guard=f'{{ interfaces: ["to-*"], attach: {attach}, rules: [{{ name: flood-{attach}, from: [{SPOOFED}] }}] }}'))
        done = world.requests_under_flood("10.70.0.1", 80)
        assert (done["open"], done["new"]) == (25, 25), done
        assert drops(sluice)[f"flood-{attach}"]["dropped"] == PACKETS


def dropped_for(reason):
    """What the guard has dropped, as the keeper last told the gateway."""
    page = subprocess.run(["curl", "-sS", "--max-time", "10", "http://127.0.0.1:9464/metrics"], capture_output=True, text=True, check=True).stdout
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
               if line.startswith("sluice_guard_packets_total{") and f'reason="{reason}"' in line)


@pytest.mark.parametrize("attach", ["tc", "xdp"])
def test_a_service_that_is_flooded_is_shed_and_its_neighbour_is_not(world, attach):
    rate = 500
    subprocess.run([SLUICE, "cleanup"], check=True, capture_output=True)  # counters begin anew
    with Scratch() as scratch:
        origin = Nginx(scratch)
        policy = POLICY.format(state=scratch.path, origin=origin.port,
                               guard=f'{{ interfaces: ["to-*"], attach: {attach}, per_service: {{ syn: {rate}/s }} }}')
        policy = policy.replace("listeners: {", 'metrics: { bind: "127.0.0.1:9464" }\nlisteners: { other: { bind: "10.70.0.1:81" },')
        Sluice(scratch, policy.replace("routes: [", "routes: [{ listener: other, upstream: api }, "))
        begun = time.monotonic()
        done = world.requests_under_flood("10.70.0.1", 81, flooded_port=80)
        assert (done["open"], done["new"]) == (25, 25), done
        # A burst is a second's worth. All else was dropped, and nothing but the flood.
        let_in = rate * (time.monotonic() - begun + 1)
        assert let_in < PACKETS, "too slow a flood to tell"
        eventually(lambda: PACKETS - let_in <= dropped_for("service_syn"), "the flood was dropped")
        assert dropped_for("service_syn") <= PACKETS


def test_spoofed_syns_leave_open_connections_and_new_ones_alone(world):
    with Scratch() as scratch:
        origin = Nginx(scratch)
        bare = Nginx(scratch, name="bare", extra="listen 10.70.0.1:81;")
        sluice = Sluice(scratch, POLICY.format(
            state=scratch.path, origin=origin.port,
            guard='{ interfaces: ["to-*"], per_source: { syn: 100/s }, monitor: [service] }'))
        of_kernel = world.requests_under_flood("10.70.0.1", 81)
        of_sluice = world.requests_under_flood("10.70.0.1", 80)
        assert of_sluice["open"] == 25, of_sluice
        assert of_sluice["new"] >= of_kernel["new"], (of_sluice, of_kernel)

        def seen():
            flood = world.flood("10.70.0.1", 80)
            top = json.loads(sluice.ctl("top", "--once", "--output", "json").stdout)
            assert flood.wait(240) == 0
            return [row for row in top["rows"] if row["name"] == "10.70.0.1:80" and row["connections"] > 0]
        assert eventually(seen, "the monitor shows the flood")[0]["listener"] == "web"
        client = subprocess.Popen(world.client.command("python3", "-c", CLIENT, "10.70.0.1", "80", "100000"),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        client.stdout.readline()
        client.stdin.write("\n")
        client.stdin.flush()

        def busy():
            rows = json.loads(sluice.ctl("top", "--once", "--output", "json").stdout)["rows"]
            return rows and rows[0]["requests_estimate"] > 0 and rows[0]["connections"] > 0
        eventually(busy, "the monitor shows requests and connections")
        client.kill()
        client.wait()
        assert "SERVICE" in sluice.ctl("top", "--once").stdout
        refused = sluice.ctl("top", "--by", "source", "--once", check=False)
        assert refused.returncode == 1 and "monitor: [source]" in refused.stderr


FORWARDED = """
version: 1
state_dir: {state}
listeners: {{ web: {{}} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{origin}"] }} }}
routes: [{{ listener: web, upstream: api }}]
intercept: {{ forward: [{{ to: [192.0.2.0/24], ports: [80], listener: web }}] }}
guard: {{ interfaces: ["to-*"], per_source: {{ syn: 100/s }} }}
"""


def netstat(counter):
    with open("/proc/net/netstat") as file:
        names, values = [line.split() for line in file][:2]
    return int(values[names.index(counter)])


@contextlib.contextmanager
def cookies_always():
    def set_to(value):
        with open("/proc/sys/net/ipv4/tcp_syncookies", "w") as file:
            file.write(value)
    set_to("2")
    try:
        yield
    finally:
        set_to("1")


def client_requests(world, host, port, count=10):
    client = subprocess.Popen(world.client.command("python3", "-c", CLIENT, host, str(port), str(count)),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return json.loads(client.communicate("\n", timeout=120)[0].split("\n", 1)[1])


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8:7::7"])
def test_cookies_open_forwarded_connections(world, host):
    """Nothing remembers the SYN: the ACK that answers the cookie has to find the listener all the same."""
    version = "-6" if ":" in host else "-4"
    if version == "-6":
        subprocess.run("ip addr add fd70::1/64 dev to-client nodad; ip addr add fd71::1/64 dev to-attacker nodad;"
                       "ip -6 route replace default via fd71::2; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
                       shell=True, check=True)
        world.client.run("ip addr add fd70::2/64 dev out nodad; ip -6 route add default via fd70::1")
        world.attacker.run("ip addr add fd71::2/64 dev out nodad; ip -6 route add default via fd71::1")
    world.attacker.run(f"ip {version} addr add {host} dev lo")
    with Scratch() as scratch, cookies_always():
        origin = Nginx(scratch)
        # A connection that was open before flows past, and its ACKs are nobody's answer to a cookie.
        server = subprocess.Popen(world.attacker.command("python3", "-c", f"""
import socket
listening = socket.create_server(("{host}", 80), family=socket.AF_INET{'6' if version == '-6' else ''})
print("listens", flush=True)
connection = listening.accept()[0]
while data := connection.recv(100): connection.sendall(data)
"""), stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "listens\n"
        past = subprocess.Popen(world.client.command("python3", "-c", f"""
import socket, sys
connection = socket.create_connection(("{host}", 80), 20)
for line in sys.stdin:
    connection.sendall(line.encode())
    print(connection.recv(100).decode().strip(), flush=True)
"""), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def echo(word):
            past.stdin.write(word + "\n")
            past.stdin.flush()
            return past.stdout.readline().strip()
        try:
            assert echo("before") == "before"
            policy = FORWARDED.replace("192.0.2.0/24", "192.0.2.0/24, '2001:db8:7::/64'")
            Sluice(scratch, policy.format(state=scratch.path, origin=origin.port))
            sent, received = netstat("SyncookiesSent"), netstat("SyncookiesRecv")
            done = client_requests(world, host, 80)
            assert (done["open"], done["new"]) == (10, 10), done
            assert netstat("SyncookiesSent") - sent >= 11 and netstat("SyncookiesRecv") - received >= 11
            assert echo("after") == "after"
        finally:
            for process in (past, server):
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe:
                        pipe.close()


def test_spoofed_syns_on_forwarded_traffic(world):
    with Scratch() as scratch:
        origin = Nginx(scratch)
        Sluice(scratch, FORWARDED.format(state=scratch.path, origin=origin.port))
        done = world.requests_under_flood("192.0.2.7", 80)
        assert (done["open"], done["new"]) == (25, 25), done
