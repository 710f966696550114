"""Network namespaces of a test's own, and sockets in them."""
import contextlib
import ctypes
import os
import subprocess
import tempfile

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Namespace:
    """Made fresh, removed at the end; beside a copy of the same test it has another name."""

    def __init__(self, scratch, name):
        self.name = f"{name}-{os.path.basename(tempfile.mktemp())[-6:]}-{os.getpid()}"
        run("ip", "netns", "add", self.name)
        scratch.closers.append(lambda: run("ip", "netns", "del", self.name))
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments):
        return run("ip", "-n", self.name, *arguments)

    def command(self, *arguments):
        """To run something inside; keeps the mounts, so that bpffs is there."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *arguments]

    @contextlib.contextmanager
    def inside(self):
        """What is opened meanwhile by this thread belongs to the namespace."""
        with open("/proc/self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            assert LIBC.setns(there.fileno(), CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert LIBC.setns(home.fileno(), CLONE_NEWNET) == 0

    def mac(self, device):
        return bytes.fromhex(self.ip("-br", "link", "show", device).split()[2].replace(":", ""))


def link(a, name_a, b, name_b):
    """A veth pair between two namespaces, both ends up."""
    a.ip("link", "add", name_a, "type", "veth", "peer", "name", name_b, "netns", b.name)
    a.ip("link", "set", name_a, "up")
    b.ip("link", "set", name_b, "up")
