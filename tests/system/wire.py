"""Packets of any shape from one namespace to another, and which of them a sluice there lets arrive."""
import os
import select
import socket
import struct
import subprocess

from harness import HANG, SLUICE, Sluice, eventually
from wire_netns import Namespace, link

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "47": 47}
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(packet, identity, macs):
    body = struct.pack("!HH", packet["from_port"], packet["to_port"])
    if packet["protocol"] == 6:  # a bare ACK
        body += struct.pack("!IIBBHHH", 0, 0, 5 << 4, 0x10, 1024, 0, 0)
    elif packet["protocol"] == 17:
        body += struct.pack("!HH", 8 + 16 + 4, 0) + bytes(12)
    else:
        body += bytes(16)
    body += bytes(20 - len(body)) + struct.pack("!I", identity)
    if packet["from"].version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, packet["protocol"], 0)
        head += packet["from"].packed + packet["to"].packed
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return macs[1] + macs[0] + b"\x08\x00" + head + body
    head = struct.pack("!IHBB", 6 << 28, len(body), packet["protocol"], 64)
    return macs[1] + macs[0] + b"\x86\xdd" + head + packet["from"].packed + packet["to"].packed + body


class Wire:
    """Two namespaces; what the far one gets delivered is read from raw sockets."""

    def __init__(self, scratch):
        self.near, self.far = Namespace(scratch, "near"), Namespace(scratch, "far")
        link(self.near, "w0", self.far, "w1")
        self.far.ip("route", "add", "local", "10.0.0.0/8", "dev", "lo")
        self.far.ip("-6", "route", "add", "local", "2001:db8:2::/48", "dev", "lo")
        for name in ("all", "default", "w1"):
            subprocess.run(self.far.command("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter"), check=True)
        self.far.ip("addr", "add", "192.168.77.1/24", "dev", "w1")  # a way back, so that sources are no martians
        self.far.ip("route", "add", "172.16.0.0/12", "dev", "w1")
        self.macs = self.near.mac("w0"), self.far.mac("w1")
        with self.near.inside():
            self.out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.out.bind(("w0", 0))
        self.ins = []
        with self.far.inside():
            for family in (socket.AF_INET, socket.AF_INET6):
                for protocol in PROTOCOLS.values():
                    opened = socket.socket(family, socket.SOCK_RAW, protocol)
                    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
                    opened.setblocking(False)
                    self.ins.append(opened)
        for opened in [self.out, *self.ins]:
            scratch.closers.append(opened.close)

    def delivered(self, packets, mark):
        """The indices of those that arrive. `mark` comes last, and passes: then all others have."""
        for index, packet in enumerate([*packets, mark]):
            self.out.send(frame(packet, index, self.macs))
        arrived = set()
        while len(packets) not in arrived:
            readable, _, _ = select.select(self.ins, [], [], HANG)
            assert readable, "the last packet, which no rule names, did not arrive"
            for opened in readable:
                data = opened.recv(2048)
                if opened.family == socket.AF_INET:
                    data = data[20:]
                arrived.add(struct.unpack("!I", data[20:24])[0])
        # Another socket's queue may lag behind the one that the mark came by.
        for opened in self.ins:
            while True:
                try:
                    data = opened.recv(2048)
                except BlockingIOError:
                    break
                data = data[20:] if opened.family == socket.AF_INET else data
                arrived.add(struct.unpack("!I", data[20:24])[0])
        return arrived - {len(packets)}


class SluiceInside(Sluice):
    """A running sluice in a namespace; what it leaves in the kernel goes with the test."""

    def __init__(self, scratch, policy_text, namespace):
        self.namespace = namespace
        self.scratch = scratch
        self.policy = scratch.write("sluice.yaml", policy_text)
        self.socket = os.path.join(scratch.path, "sluice.sock")
        scratch.closers.append(lambda: subprocess.run(
            namespace.command(SLUICE, "cleanup", "--force", "--socket", self.socket), capture_output=True))
        super(Sluice, self).__init__(scratch, "sluice", namespace.command(
            SLUICE, "run", "--policy", self.policy, "--socket", self.socket))
        eventually(self.ready, f"sluice is ready; it said:\n{self.output()}")
