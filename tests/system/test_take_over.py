"""One `sluice run` follows another as a pod follows a pod: other processes and mounts, the same network and BPF file system."""
import json
import os
import socket
import subprocess
import time

import pytest

from certificates import Authority
from harness import SLUICE, Process, Scratch, eventually
from lasting_clients import Load, http1, http2, layer4, new_connections, serve_origins, websocket
from netns import Net, NodeSluice, Thread

POLICY = """
version: 1
state_dir: @STATE@
workers: 2
metrics: { bind: "127.0.0.1:9464" }
intercept:
  local: [{ to: [203.0.113.0/24], ports: [80, 8080], listener: web },
          { to: [203.0.113.0/24], ports: [7], listener: echo }]
  forward: [{ to: [10.72.0.0/24], ports: [8080], listener: web }]
listeners:
  web: { bind: "10.72.0.1:8081", protocol: http, timeouts: { drain: 5s } }
  echo: { protocol: tcp, timeouts: { drain: 5s } }
  secure: { bind: "10.72.0.1:8443", tls: { certificates: [{ cert: @CERT@, key: @KEY@ }] } }
upstreams:
  origin: { endpoints: ["10.72.0.2:8080"] }
  echo: { endpoints: ["10.72.0.2:7"] }
  chat: { endpoints: ["10.72.0.2:9"] }
routes:
  - { listener: web, upstream: origin }
  - { listener: web, path: /chat, upstream: chat }
  - { listener: web, path: /twice, upstream: origin, limits: [twice] }
  - { listener: echo, upstream: echo }
  - { listener: secure, upstream: origin }
limits: { twice: { key: [client_ip], rate: 1/h, burst: 2 } }
bans: { max: 1000 }
"""


class Pod(NodeSluice):
    """`sluice run` as process 1 of its own PID namespace, with a /run of its own."""

    def __init__(self, net, name, policy, wait=True, limits=()):
        self.net, self.scratch, self.name = net, net.scratch, name
        self.policy = net.scratch.write(f"{name}.yaml", policy)
        own = os.path.join(net.scratch.path, name)
        os.makedirs(own, exist_ok=True)
        self.socket = os.path.join(own, "sluice.sock")
        Process.__init__(self, net.scratch, name, net.command(
            net.node, *limits, "unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", SLUICE, "run", "--policy",
            self.policy, "--socket", self.socket, "--take-over", take_over_path(net)))
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self):
        eventually(self.is_ready, f"{self.name} is ready; it said:\n{self.output()}")

    def is_ready(self):
        """As the kubelet asks."""
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.output()}")
        return self.ctl("status", "--ready", check=False).returncode == 0

    def stop(self):
        """As the kubelet does: preStop, then SIGTERM, both to process 1."""
        if self.process.poll() is None:
            self.ctl("drain", check=False)
        return super().stop()

    def kill(self):
        """kill -9 of all that is in the container."""
        self.process.kill()
        self.process.wait()


def take_over_path(net):
    shared = os.path.join(net.scratch.path, "node")
    os.makedirs(shared, exist_ok=True)
    return os.path.join(shared, "take-over.sock")


@pytest.fixture
def net():
    with Scratch() as scratch:
        made = Net(scratch)
        serve_origins(made)
        made.pair = Authority(scratch.path).issue("a.example")
        yield made


def policy(net, text=POLICY):
    return text.replace("@STATE@", os.path.join(net.scratch.path, "state")).replace("@CERT@", net.pair.cert).replace("@KEY@", net.pair.key)


def to_the_bound(stopped):
    return new_connections(stopped, ("10.72.0.1", 8081))


def through_the_node(stopped):
    return new_connections(stopped, ("10.72.0.2", 8080))


PODS = 20 if os.environ.get("NIGHTLY") else 3


def test_a_pod_follows_a_pod_under_load_and_loses_nothing(net):
    pod = Pod(net, "pod-0", policy(net))
    pod.ctl("ban", "198.51.100.7", "--for", "1h")
    load = Load(net, http1, http1, new_connections, to_the_bound, through_the_node, http2, layer4, websocket, websocket)
    eventually(lambda: all(load.done.values()), "every kind of client is served")
    for number in range(1, PODS + 1):
        old, pod = pod, Pod(net, f"pod-{number}", policy(net))
        eventually(lambda: old.status()["handed_over"], "the old one knows")
        assert old.ctl("status", "--ready", check=False).returncode == 1
        assert old.ctl("status").returncode == 0, "it is alive all the same"
        before = dict(load.done)
        assert old.stop() == 0
        assert pod.is_ready()
        eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on")
    done = load.stop()
    assert sorted(load.failures) == []
    assert all(done.values()), done
    assert "198.51.100.7" in pod.ctl("bans").stdout, "bans are carried over"


def test_limits_bans_and_tickets_go_to_the_next_pod(net):
    first = Pod(net, "pod-0", policy(net))
    first.ctl("ban", "198.51.100.7", "--for", "1h")
    codes = [net.curl("http://203.0.113.7/twice", "-o", "/dev/null", "-w", "%{http_code}") for _ in range(3)]
    assert codes == ["200", "200", "429"]
    session = os.path.join(net.scratch.path, "session")
    ask_with_ticket(net, "-sess_out", session)
    second = Pod(net, "pod-1", policy(net))
    first.kill()
    assert net.curl("http://203.0.113.7/twice", "-o", "/dev/null", "-w", "%{http_code}") == "429"
    assert "198.51.100.7" in second.ctl("bans").stdout
    assert "Reused, TLS" in ask_with_ticket(net, "-sess_in", session)


def ask_with_ticket(net, *options):
    done = subprocess.run(net.command(net.client, "openssl", "s_client", "-connect", "10.72.0.1:8443", "-servername", "a.example",
                                      "-ign_eof", *options),
                          input="GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", capture_output=True, text=True, timeout=60)
    assert "origin, called from" in done.stdout, done.stdout + done.stderr
    return done.stdout


# --- the new one fails ---------------------------------------------------------------------------


def test_one_that_cannot_start_leaves_the_first_serving(net):
    first = Pod(net, "pod-0", policy(net))
    load = Load(net, http1, new_connections, to_the_bound, layer4, websocket)
    somebody = Thread(net.node, lambda: socket.create_server(("10.72.0.1", 8099))).result()
    broken = Pod(net, "pod-1", policy(net).replace("10.72.0.1:8081", "10.72.0.1:8099"), wait=False)
    eventually(lambda: broken.process.poll() is not None, "it ends")
    assert broken.process.returncode == 1 and "10.72.0.1:8099" in broken.output()
    somebody.close()
    missing = Pod(net, "pod-2", policy(net).replace(net.pair.key, "/nowhere/else.key"), wait=False)
    eventually(lambda: missing.process.poll() is not None, "it ends")
    assert missing.process.returncode == 1 and "/nowhere/else.key" in missing.output()
    goes_on(net, first, load)


def test_a_broken_policy_is_no_hindrance_where_the_last_good_one_is_kept(net):
    first = Pod(net, "pod-0", policy(net))
    second = Pod(net, "pod-1", policy(net) + "nonsense: 1\n")
    assert first.status()["handed_over"]
    assert "running the last good one instead" in second.output()
    assert not second.status()["policy"]["last_reload"]["ok"]
    assert "origin" in net.curl("http://203.0.113.7/")


def test_one_that_is_killed_before_its_gateway_serves_leaves_the_first_serving(net):
    first = Pod(net, "pod-0", policy(net))
    load = Load(net, http1, new_connections, to_the_bound, layer4, websocket)
    # No thread can have a stack as large as that: the keeper has one thread, its gateway cannot start workers.
    stuck = Pod(net, "pod-1", policy(net), wait=False, limits=["prlimit", f"--stack={1 << 47}:"])
    eventually(lambda: "a gateway ended before it served" in stuck.output(), "its gateway does not start")
    assert not stuck.is_ready()
    assert first.is_ready(), "probes ask each pod itself"
    changes_wait(first)
    stuck.kill()
    goes_on(net, first, load)


def changes_wait(pod):
    """Who is being followed changes nothing: what it opened now would not be handed over."""
    held = pod.ctl("reload", check=False)
    assert held.returncode == 1 and "another sluice is about to take over" in held.stderr
    assert "another sluice is about to take over" in pod.ctl("upgrade", check=False).stderr


class Successor:
    """The next pod's side of the socket, by hand: so that it can end at a chosen step."""

    def __init__(self, net):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(take_over_path(net))

    def say(self, word):
        self.socket.send(word.encode())
        return self.hear()

    def hear(self):
        text, descriptors, _, _ = socket.recv_fds(self.socket, 65536, 200)
        for descriptor in descriptors:
            os.close(descriptor)
        return text.decode()

    @classmethod
    def with_all(cls, net):
        """Has got what there is; the one before it may not be forgotten yet."""
        def take():
            successor = cls(net)
            answer = json.loads(successor.say("take-over"))
            assert len(answer.get("descriptors", [])) > 4, answer
            successor.hear()
            return successor
        return eventually(take, "it may take over")


STEPS = [[], ["take-over"], ["take-over", "release"], ["release"], ["take-over", "done"], ["rubbish"]]


def test_one_that_ends_at_any_step_leaves_the_first_serving(net):
    first = Pod(net, "pod-0", policy(net))
    load = Load(net, http1, new_connections, to_the_bound, layer4, websocket)
    for words in STEPS:
        ends_after(net, words)
        eventually(lambda: first.ctl("reload", check=False).returncode == 0, f"after {words} it goes on as before")
        assert first.is_ready() and not first.status()["handed_over"]
    goes_on(net, first, load)


def test_one_that_hangs_after_the_release_stops_nothing(net):
    lease = 4  # seconds
    text = POLICY.replace("ports: [8080], listener: web }]", f"ports: [8080], listener: web, on_exit: bypass, lease: {lease}s }}]")
    assert text != POLICY
    first = Pod(net, "pod-0", policy(net, text))
    caught = "origin, called from 10.72.0.1"  # by the gateway, not by the client as where it flows straight
    ask = lambda: net.curl("http://10.72.0.2:8080/").strip()
    assert ask() == caught
    load = Load(net, http1, new_connections, to_the_bound, layer4, websocket)
    hangs = Successor.with_all(net)
    assert hangs.say("release") == "released"
    end = time.monotonic() + 2 * lease + 1
    while time.monotonic() < end:
        assert ask() == caught
    load.stop()
    assert load.failures == []
    hangs.socket.close()
    eventually(lambda: first.ctl("reload", check=False).returncode == 0, "it goes on as before")
    assert ask() == caught


def ends_after(net, words):
    if words[:1] != ["take-over"]:
        successor = Successor(net)
        for word in words:
            successor.socket.send(word.encode())
    else:
        successor = Successor.with_all(net)
        if words[1:] == ["release"]:
            assert successor.say("release") == "released"
            assert Successor(net).say("take-over").startswith('{"error":"another one')
        elif words[1:]:
            successor.socket.send(words[1].encode())
    successor.socket.close()


def goes_on(net, first, load):
    """What the first one had is in force and followed, and the next one can take over."""
    before = dict(load.done)
    eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on")
    assert first.is_ready() and not first.status()["handed_over"]
    first.write_policy(policy(net, POLICY.replace("[80, 8080]", "[80, 8080, 8082]")))
    eventually(lambda: "called from" in (net.curl("http://203.0.113.7:8082/") or ""), "the policy is followed")
    next_one = Pod(net, "pod-next", policy(net))
    eventually(lambda: first.status()["handed_over"], "the first one knows")
    before = dict(load.done)
    eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on with the next one")
    load.stop()
    assert load.failures == []
    first.kill()
    assert "origin" in net.curl("http://203.0.113.7/") and next_one.is_ready()


# --- afterwards ----------------------------------------------------------------------------------


def test_who_has_handed_over_and_was_killed_does_not_take_it_back(net):
    first = Pod(net, "pod-0", policy(net))
    second = Pod(net, "pod-1", policy(net))
    eventually(lambda: first.status()["handed_over"], "the first one knows")
    first.kill()
    again = Pod(net, "pod-0", policy(net), wait=False)
    eventually(lambda: again.process.poll() is not None, "it does not serve")
    assert again.process.returncode == 1 and "does not take over from it again" in again.output()
    assert second.is_ready()
    assert "origin" in net.curl("http://203.0.113.7/")
    second.stop()
    Pod(net, "pod-0", policy(net))
    assert "origin" in net.curl("http://203.0.113.7/"), "with nobody else there it serves"


def test_who_has_handed_over_and_was_told_to_stop_may_come_back(net):
    first = Pod(net, "pod-0", policy(net))
    second = Pod(net, "pod-1", policy(net))
    assert first.stop() == 0
    Pod(net, "pod-0", policy(net))
    assert second.status()["handed_over"]
    assert "origin" in net.curl("http://203.0.113.7/")


def test_one_whose_predecessor_dies_while_it_hands_over_goes_on_with_what_it_left(net):
    first = Pod(net, "pod-0", policy(net))
    first.ctl("ban", "198.51.100.7", "--for", "1h")
    second = Pod(net, "pod-1", policy(net), wait=False)
    eventually(lambda: "another sluice is about to take over" in first.output(), "it hands over")
    first.kill()
    second.wait_until_ready()
    assert "has ended" in second.output(), "it was there to the end"
    assert "origin" in net.curl("http://203.0.113.7/")
    assert [ban["address"] for ban in json.loads(second.ctl("bans", "--output", "json").stdout)["bans"]] == ["198.51.100.7/32"]
    third = Pod(net, "pod-2", policy(net))
    assert third.is_ready() and second.status()["handed_over"]


def test_one_that_crashes_right_after_it_took_over_is_started_again(net):
    first = Pod(net, "pod-0", policy(net))
    second = Pod(net, "pod-1", policy(net))
    second.kill()
    assert not first.is_ready(), "what it gave away it does not serve"
    again = Pod(net, "pod-1", policy(net))
    for url in ("http://203.0.113.7/", "http://10.72.0.1:8081/", "http://10.72.0.2:8080/"):
        answers = {net.curl(url) for _ in range(8)}
        assert len(answers) == 1 and "origin" in answers.pop(), "no connection waits at sockets of the first one"
    assert again.is_ready() and not first.is_ready()


def test_a_third_one_waits_for_its_turn(net):
    Pod(net, "pod-0", policy(net))
    holding = Successor.with_all(net)
    third = Pod(net, "pod-2", policy(net), wait=False)
    eventually(lambda: "cannot take over yet" in third.output(), "it says so")
    assert "another one is taking over already" in third.output()
    holding.socket.close()
    third.wait_until_ready()
    assert "origin" in net.curl("http://203.0.113.7/")


def test_a_policy_without_the_kernel_goes_from_pod_to_pod(net):
    plain = """
version: 1
state_dir: @STATE@
listeners: { web: { bind: "10.72.0.1:8081", protocol: http, timeouts: { drain: 5s } } }
upstreams: { origin: { endpoints: ["10.72.0.2:8080"] } }
routes: [{ listener: web, upstream: origin }]
"""
    first = Pod(net, "pod-0", policy(net, plain))
    load = Load(net, to_the_bound, to_the_bound)
    eventually(lambda: all(load.done.values()), "served")
    Pod(net, "pod-1", policy(net, plain))
    assert first.stop() == 0
    before = dict(load.done)
    eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on")
    load.stop()
    assert load.failures == []
