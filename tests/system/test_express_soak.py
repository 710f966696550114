"""The express lane for a while: random sizes both ways at once, slow and stopped readers, half-closes, resets, killed processes.
Every byte is compared; kernel memory stays bounded and comes back. Ten minutes with SLUICE_LONG=1, else some twenty seconds."""
import itertools
import os
import random
import select
import socket
import struct
import threading
import time

import pytest

from harness import HANG, SANITIZED, Scratch, eventually
from netns import Net, NodeSluice
from test_express import FORWARD, Page, Peer, dial, policy

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces")

LONG = os.environ.get("SLUICE_LONG") == "1"
SECONDS = 600 if LONG else 14
CLIENTS = 16
BLOCK = random.Random(5).randbytes(1 << 20)
TWICE = BLOCK + BLOCK
MOST = 64 << 20  # bytes of kernel memory that all of it may take: some 4 MiB a connection


def piece(stream, offset, length):
    """The stream's bytes: a block over and over, begun elsewhere for each stream."""
    at = (offset + stream * 7919) % len(BLOCK)
    return TWICE[at:at + length]


class Plan:
    """What becomes of one connection; both ends look it up by its number."""

    def __init__(self, number, rng):
        self.number = number
        self.sizes = [self.size(rng), self.size(rng)]  # of the client, of the origin
        self.pauses = [rng.random() < 0.2, rng.random() < 0.2]  # slow readers
        self.stops = [rng.random() < 0.1, rng.random() < 0.1]  # readers that stop for a while
        self.reset_by = rng.choice((None,) * 8 + (0, 1))
        self.seeds = [rng.random(), rng.random()]
        self.received = [0, 0]
        self.served = threading.Event()  # the origin's end has read all

    @staticmethod
    def size(rng):
        return int(2 ** rng.uniform(3, 23)) if rng.random() < 0.9 else 0

    def stream(self, end):
        return 2 * self.number + end


class Side:
    """One end: writes its stream and reads the other's, at once."""

    def __init__(self, connection, plan, end, early=b""):
        self.connection, self.plan, self.end = connection, plan, end
        self.read_so_far, self.broken, self.problem = 0, False, None
        self.rng = random.Random(plan.seeds[end])
        self.take(early)

    def run(self):
        writer = threading.Thread(target=self.write, daemon=True)
        writer.start()
        self.read()
        writer.join(4 * HANG)
        assert not writer.is_alive(), f"a writer hangs: {self.plan.__dict__}"
        if self.problem:
            raise self.problem

    def write(self):
        size, sent = self.plan.sizes[self.end], 0
        stop_at = self.rng.randrange(size + 1) if self.plan.reset_by == self.end else None
        try:
            while sent < size:
                if stop_at is not None and sent >= stop_at:
                    self.broken = True  # the reader closes: a socket that is being read stays open
                    return
                data = piece(self.plan.stream(self.end), sent, min(size - sent, self.rng.choice((1, 100, 3000, 70_000, 900_000))))
                self.connection.sendall(data)
                sent += len(data)
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self.broken = True

    def read(self):
        stopped = False
        try:
            while True:
                if self.plan.pauses[self.end]:
                    time.sleep(0.002)
                if self.plan.stops[self.end] and not stopped and self.read_so_far > 1000:
                    stopped = True
                    time.sleep(0.4)
                if self.plan.reset_by == self.end:
                    if self.broken:
                        return self.reset()
                    if not select.select([self.connection], [], [], 0.05)[0]:
                        continue
                data = self.connection.recv(self.rng.choice((100, 5000, 200_000)))
                if not data:
                    return
                self.take(data)
        except (OSError, ValueError):
            self.broken = True

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def take(self, data):
        stream, at = self.plan.stream(1 - self.end), self.read_so_far
        while data:
            wanted = piece(stream, at, min(len(data), len(BLOCK)))
            if data[:len(wanted)] != wanted:
                self.problem = AssertionError(f"other bytes at {at} of {self.plan.__dict__}, end {self.end}")
                raise self.problem
            at += len(wanted)
            data = data[len(wanted):]
        self.read_so_far = self.plan.received[self.end] = at


class Soak:
    def __init__(self, net, namespace, address):
        self.net, self.namespace, self.address = net, namespace, address
        self.plans, self.numbers = {}, itertools.count()
        self.done, self.bytes, self.problems, self.stop = 0, 0, [], threading.Event()
        self.lock = threading.Lock()

    def serve(self, connection):
        number = b""
        while len(number) < 8:
            more = connection.recv(8 - len(number))
            if not more:
                return
            number += more
        plan = self.plans.get(struct.unpack("!Q", number)[0])
        if plan is None:
            return  # its client has ended it already
        try:
            Side(connection, plan, 1).run()
        finally:
            plan.served.set()

    def client(self, seed):
        rng = random.Random(seed)
        while not self.stop.is_set():
            try:
                self.one(rng)
            except OSError:
                time.sleep(0.05)  # nobody serves for a moment
            except BaseException as problem:
                self.problems.append(problem)
                return

    def one(self, rng):
        plan = Plan(next(self.numbers), rng)
        self.plans[plan.number] = plan
        disturbances = self.disturbances()
        with dial(self.namespace, self.address) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(struct.pack("!Q", plan.number))
            side = Side(connection, plan, 0)
            side.run()
        served = plan.reset_by is not None or plan.served.wait(HANG)
        if plan.reset_by is None and disturbances == self.disturbances():
            assert served, f"the origin hangs: {plan.__dict__}"
            assert not side.broken, plan.__dict__
            assert plan.received == plan.sizes[::-1], plan.__dict__
        with self.lock:
            self.done += 1
            self.bytes += sum(plan.received)
        self.plans.pop(plan.number, None)

    def disturbances(self):
        """Differs before and after a process was killed: what was open then may break."""
        return 0

    def run(self, seconds, disturb=lambda: None):
        threads = [threading.Thread(target=self.client, args=(seed,), daemon=True) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        most, end = 0, time.monotonic() + seconds
        while time.monotonic() < end and not self.problems:
            most = max(most, kernel_memory())
            disturb()
            time.sleep(0.1)
        self.stop.set()
        for thread in threads:
            thread.join(6 * HANG)
            assert not thread.is_alive(), "a connection hangs"
        assert self.problems == []
        return most


def kernel_memory():
    """Bytes of kernel memory and of sockets, of the memory cgroup that this test runs in; of the whole machine where there is
    no such controller."""
    with open("/proc/self/cgroup") as file:
        groups = dict(line.strip().split(":", 2)[1:] for line in file)
    for path, names in (("/sys/fs/cgroup/memory" + groups.get("memory", ""), ("memory.kmem.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes")),):
        if all(os.path.exists(os.path.join(path, name)) for name in names):
            return sum(int(open(os.path.join(path, name)).read()) for name in names)
    stat = "/sys/fs/cgroup" + groups.get("", "") + "/memory.stat"
    if os.path.exists(stat):
        with open(stat) as file:
            values = dict(line.split() for line in file)
        return int(values.get("kernel", 0)) + int(values.get("sock", 0))
    with open("/proc/meminfo") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("Slab:", "PageTables:")))


@pytest.mark.parametrize("where", ["node", "pods"])
def test_random_connections(where):
    with Scratch() as scratch:
        net = Net(scratch)
        soak = Soak(net, net.node if where == "node" else net.client,
                    ("127.0.0.1", 8000) if where == "node" else ("10.72.0.2", 8080))
        Peer(net, net.node if where == "node" else net.origin, ("127.0.0.1", 8081) if where == "node" else ("10.72.0.2", 8080), soak.serve)
        NodeSluice(net, policy(net, protocol="tcp", extra=FORWARD))
        before = kernel_memory()
        most = soak.run(SECONDS / 2)
        assert soak.done > 50, soak.done
        page = Page(net)
        for peer in ("client", "upstream"):
            assert page.value("sluice_express_connections_total", peer=peer) >= soak.done / 2
            assert page.value("sluice_express_bytes_total", peer=peer, way="express") > 0
        assert most - before < 4 * MOST, f"{(most - before) >> 20} MiB of kernel memory"
        eventually(lambda: Page(net).value("sluice_express_connections") == 0, "nothing is left in the lane")
        eventually(lambda: kernel_memory() - before < MOST, "kernel memory comes back")
        print(f"{where}: {soak.done} connections, {soak.bytes >> 20} MiB, kernel memory at most {(most - before) >> 20} MiB more")


def test_both_processes_are_killed_now_and_then():
    with Scratch() as scratch:
        net = Net(scratch)
        soak = Soak(net, net.client, ("10.72.0.2", 8080))
        Peer(net, net.origin, ("10.72.0.2", 8080), soak.serve)
        kills = itertools.count(1)
        state = {"kills": 0, "over": 0, "next": time.monotonic() + 2, "sluice": NodeSluice(net, policy(net, protocol="tcp", extra=FORWARD))}
        soak.disturbances = lambda: (state["kills"], state["over"])

        def disturb():
            if time.monotonic() < state["next"]:
                return
            state["kills"] = next(kills)
            if state["kills"] % 3:
                os.kill(state["sluice"].gateway(), 9)
            else:
                state["sluice"].kill_all()
                state["sluice"] = NodeSluice(net, policy(net, protocol="tcp", extra=FORWARD), name=f"sluice-{state['kills']}")
            state["over"] = state["kills"]
            state["next"] = time.monotonic() + random.uniform(1.5, 4)
        soak.run(SECONDS / 2, disturb)
        assert state["kills"] >= 2
        assert soak.done > 20, soak.done
        eventually(lambda: Page(net).value("sluice_express_connections") == 0, "nothing is left in the lane")
