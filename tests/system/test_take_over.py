"""One `sluice run` follows another as a pod follows a pod: other processes and mounts, the same network and BPF file system."""
import os
import signal
import subprocess
import threading

import pytest

from harness import SLUICE, Process, Scratch, eventually
from netns import Net, NodeSluice

POLICY = """
version: 1
state_dir: @STATE@
workers: 2
metrics: { bind: "127.0.0.1:9464" }
intercept: { local: [{ to: [203.0.113.0/24], ports: [80], listener: web }] }
listeners: { web: { bind: "10.72.0.1:8081", protocol: http, timeouts: { drain: 5s } } }
upstreams: { origin: { endpoints: ["10.72.0.2:8080"] } }
routes: [{ listener: web, upstream: origin }]
"""


class Pod(NodeSluice):
    """`sluice run` as process 1 of its own PID namespace, with a /run of its own."""

    def __init__(self, net, name, policy, wait=True):
        self.net, self.scratch = net, net.scratch
        self.policy = net.scratch.write(f"{name}.yaml", policy)
        own = os.path.join(net.scratch.path, name)
        os.makedirs(own, exist_ok=True)
        shared = os.path.join(net.scratch.path, "node")
        os.makedirs(shared, exist_ok=True)
        self.socket = os.path.join(own, "sluice.sock")
        Process.__init__(self, net.scratch, name, net.command(
            net.node, "unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", SLUICE, "run", "--policy",
            self.policy, "--socket", self.socket, "--take-over", os.path.join(shared, "take-over.sock")))
        if wait:
            eventually(self.ready, f"{name} is ready; it said:\n{self.output()}")

    def stop(self):
        """As the kubelet does: preStop, then SIGTERM to process 1."""
        self.ctl("drain")


class Load(threading.Thread):
    """New connections and kept ones, until told to stop."""

    def __init__(self, net, url):
        super().__init__(daemon=True)
        self.net, self.url, self.going, self.done, self.failed = net, url, True, 0, []
        self.start()

    def run(self):
        while self.going:
            got = subprocess.run(self.net.command(self.net.client, "curl", "-sS", "--max-time", "10", *[self.url] * 3),
                                 capture_output=True, text=True)
            if got.returncode == 0 and got.stdout.count("origin, called from") == 3:
                self.done += 3
            else:
                self.failed.append(got.stderr + got.stdout)

    def finish(self):
        self.going = False
        self.join(60)
        return self.failed


@pytest.fixture
def net():
    with Scratch() as scratch:
        made = Net(scratch)
        made.nginx()
        yield made


def policy(net):
    return POLICY.replace("@STATE@", os.path.join(net.scratch.path, "state"))


@pytest.mark.parametrize("url", ["http://203.0.113.7/", "http://10.72.0.1:8081/"])
def test_a_pod_follows_a_pod_without_a_failed_request(net, url):
    pods = [Pod(net, "pod-0", policy(net))]
    loads = [Load(net, url) for _ in range(4)]
    for number in (1, 2, 3):
        before = sum(load.done for load in loads)
        pods.append(Pod(net, f"pod-{number}", policy(net)))
        old, new = pods[-2:]
        eventually(lambda: old.status()["handed_over"], "the old one knows")
        assert not new.status()["handed_over"] and new.status()["gateway"]["alive"]
        old.stop()
        eventually(lambda: old.process.poll() is not None, "the old one ends when told to")
        eventually(lambda: sum(load.done for load in loads) > before, "requests go on")
    failed = [problem for load in loads for problem in load.finish()]
    assert failed == [], failed[:3]


def test_a_successor_that_dies_leaves_the_first_serving(net):
    first = Pod(net, "pod-0", policy(net))
    broken = Pod(net, "pod-1", policy(net).replace("10.72.0.1:8081", "192.0.2.77:8081"), wait=False)
    eventually(lambda: broken.process.poll() is not None, "it ends")
    assert "192.0.2.77" in broken.output()
    assert not first.status()["handed_over"]
    assert "origin" in net.curl("http://203.0.113.7/")
    Pod(net, "pod-2", policy(net))
    assert "origin" in net.curl("http://203.0.113.7/")


def test_who_has_handed_over_does_not_take_it_back(net):
    first = Pod(net, "pod-0", policy(net))
    second = Pod(net, "pod-1", policy(net))
    eventually(lambda: first.status()["handed_over"], "handed over")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    again = Pod(net, "pod-0", policy(net), wait=False)
    eventually(lambda: again.process.poll() is not None, "it does not serve")
    assert "does not take over from it again" in again.output()
    assert not second.status()["handed_over"]
    assert "origin" in net.curl("http://203.0.113.7/")
