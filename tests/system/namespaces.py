"""Network namespaces of a test's own: one in the middle, and others around it, each on a link of its own.

    with Star("lim", 3) as star:  # star.hub and star.rim[0..2]; 10.77.N.1 in the hub, 10.77.N.2 in rim[N - 1]
"""
import os
import subprocess


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


class Star:
    def __init__(self, name, rim):
        tag = f"{name}{os.getpid()}"
        self.hub = f"{tag}-hub"
        self.rim = [f"{tag}-{i + 1}" for i in range(rim)]

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def build(self):
        for name in [self.hub, *self.rim]:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for i, name in enumerate(self.rim, 1):
            run("ip", "-n", self.hub, "link", "add", f"rim{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "-n", self.hub, "address", "add", f"10.77.{i}.1/24", "dev", f"rim{i}")
            run("ip", "-n", self.hub, "link", "set", f"rim{i}", "up")
            run("ip", "-n", name, "address", "add", f"10.77.{i}.2/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")

    def __exit__(self, *_):
        for name in [self.hub, *self.rim]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def inside(namespace, *command):
    """The command line that runs `command` in a namespace, without another mount namespace's /sys."""
    return ["nsenter", f"--net=/run/netns/{namespace}", *command]
