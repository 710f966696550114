"""What happens to a node happens to Sluice: crashes, other people's tools, a machine that runs out of things."""
import glob
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import tcx
from harness import HANG, SANITIZED, SLUICE, Scratch, eventually
from netns import Net, NodeSluice, run

POLICY = """
version: 1
state_dir: @STATE@
workers: 2
metrics: { bind: "127.0.0.1:9464" }
logs: { access: { path: "@STATE@/access.log" } }
intercept:
  local: [{ to: [203.0.113.0/24], ports: [80], listener: web }]
  forward: [{ from: [10.71.0.0/24], to: [10.72.0.0/16], ports: [8080], listener: web, on_exit: @EXIT@, lease: 1s }]
listeners: { web: { protocol: http, timeouts: { drain: 2s } } }
upstreams: { origin: { endpoints: ["10.72.0.2:8080"] } }
routes: [{ listener: web, upstream: origin }]
default_route: { local: origin, forward: origin }
guard:
  interfaces: ["lan*"]
  rules: [{ name: nobody, from: [10.71.0.99], action: drop }]
"""
SERVED = "called from 10.72.0.1"   # by the gateway
STRAIGHT = "called from 10.71.0.2"


@pytest.fixture
def node():
    with Scratch() as scratch:
        net = Net(scratch)
        net.nginx()
        yield net


def policy(net, on_exit="bypass"):
    return POLICY.replace("@STATE@", os.path.join(net.scratch.path, "state")).replace("@EXIT@", on_exit)


def served(net, url="http://10.72.0.2:8080/"):
    return SERVED in (net.curl(url, "--max-time", "1") or "")


def straight(net):
    return STRAIGHT in (net.curl("http://10.72.0.2:8080/", "--max-time", "1") or "")


def guarded(net):
    """The guard's rule drops 10.71.0.99, and only it."""
    net.in_client("ip", "addr", "replace", "10.71.0.99/24", "dev", "eth0")
    answers = [subprocess.run(net.command(net.client, "ping", "-c", "1", "-W", "1", "-I", f"10.71.0.{host}", "10.71.0.1"),
                              capture_output=True).returncode == 0 for host in (2, 99)]
    return answers == [True, False]


def unguarded(net):
    return subprocess.run(net.command(net.client, "ping", "-c", "1", "-W", "1", "-I", "10.71.0.99", "10.71.0.1"),
                          capture_output=True).returncode == 0


def kernel_state(net):
    """What Sluice holds in the kernel, without numbers that differ from one start to the next."""
    inode = os.stat(f"/run/netns/{net.node}").st_ino
    pins = []
    for version in os.listdir("/sys/fs/bpf/sluice"):
        directory = f"/sys/fs/bpf/sluice/{version}/{inode}"
        if os.path.isdir(directory):
            pins += [f"{version}/{name}" for name in os.listdir(directory)]
    table = net.in_node("nft", "list", "table", "inet", "sluice")
    table = re.sub(r"elements = \{ (tcp|udp) timeout [^}]*\}|tproxy to :\d+|comment \"[^\"]*\"", "", table)
    rules = net.in_node("ip", "rule", "show") + net.in_node("ip", "-6", "rule", "show")
    routes = net.in_node("ip", "route", "show", "table", "all", "proto", "173") + net.in_node("ip", "-6", "route", "show", "table", "all", "proto", "173")
    links = run("bpftool", "link", "show").count(f"netns_ino {inode} ")
    return {"pins": sorted(pins), "table": table, "rules": rules, "routes": routes, "links": links}


def kill_and_restart(node, times, seed):
    random.seed(seed)
    sluice = NodeSluice(node, policy(node), name="first")
    eventually(lambda: served(node), "served")
    before = kernel_state(node)
    for number in range(times):
        victim = random.choice(["keeper", "gateway", "both", "starting"])
        time.sleep(random.random() * 0.3)
        if victim == "gateway":
            os.kill(sluice.gateway(), signal.SIGKILL)
        elif victim == "keeper":
            os.kill(sluice.pid, signal.SIGKILL)
            sluice.process.wait()
        else:
            sluice.kill_all()
        if victim == "starting":
            # Killed again on its way up, wherever it is.
            doomed = NodeSluice(node, policy(node), name=f"doomed-{number}", wait=False)
            time.sleep(random.random() * 0.3)
            doomed.kill_all()
        if victim != "gateway":
            sluice = NodeSluice(node, policy(node), name=f"next-{number}")
        eventually(lambda: served(node), f"served again after {victim} was killed")
        after = kernel_state(node)
        for kind in before:
            assert after[kind] == before[kind], f"round {number}, seed {seed}: after {victim} was killed: {kind}"
        assert guarded(node)
    sluice.stop()
    node.in_node(SLUICE, "cleanup")
    assert node.in_node("nft", "list", "tables") == ""
    rules = node.in_node("ip", "rule", "show") + node.in_node("ip", "-6", "rule", "show")
    assert "fwmark" not in rules, rules


def test_kill_9_at_random_moments_leaves_one_set_of_everything(node):
    kill_and_restart(node, 6, int(os.environ.get("SEED", "7")))


@pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="long: tests/run.sh --nightly runs it")
def test_kill_9_a_hundred_times(node):
    kill_and_restart(node, 100, int(os.environ.get("SEED", str(int(time.time())))))


def test_without_anybody_bypass_flows_straight_and_closed_does_not(node):
    sluice = NodeSluice(node, policy(node))
    eventually(lambda: served(node), "served")
    sluice.kill_all()
    eventually(lambda: straight(node), "flows straight once the lease has run out")
    sluice = NodeSluice(node, policy(node, "closed"), name="closed")
    eventually(lambda: served(node), "served again")
    sluice.kill_all()
    assert node.curl("http://10.72.0.2:8080/", "--max-time", "1") is None


def test_a_stopped_control_thread_cuts_no_running_connection(node):
    """SIGSTOP to the keeper and the gateway's control thread's whole process for twice the lease."""
    sluice = NodeSluice(node, policy(node))
    stopped = threading.Event()

    def talk():
        answers = 0
        with socket.create_connection(("10.72.0.2", 8080), 20) as connection:
            connection.settimeout(20)
            while not stopped.is_set():
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                text = b""
                while b"called from 10.72.0.1\n" not in text:
                    data = connection.recv(65536)
                    assert data, "cut"
                    text += data
                answers += 1
        return answers

    running = node.as_client(talk)
    time.sleep(0.3)
    os.kill(sluice.pid, signal.SIGSTOP)  # renews no lease
    eventually(lambda: straight(node), "new connections bypass: the lease has run out")
    time.sleep(1)
    os.kill(sluice.pid, signal.SIGCONT)
    eventually(lambda: served(node), "intercepted again")
    gateway = sluice.gateway()
    os.kill(gateway, signal.SIGSTOP)  # the whole gateway: queued connections wait, the lease runs out
    eventually(lambda: straight(node), "new connections bypass a gateway that does not answer")
    os.kill(gateway, signal.SIGCONT)
    eventually(lambda: served(node), "intercepted again")
    assert sluice.gateway() == gateway, "nobody was ended"
    stopped.set()
    assert running.result() > 0


def test_nftables_flushed_by_another_tool_is_noticed_repaired_counted_and_said(node):
    sluice = NodeSluice(node, policy(node))
    eventually(lambda: served(node), "served")
    before = sluice.metric("sluice_interception_repairs_total")
    node.in_node("nft", "flush", "ruleset")
    eventually(lambda: served(node), "intercepted again")
    eventually(lambda: sluice.metric("sluice_interception_repairs_total") > before, "counted")
    eventually(lambda: "table inet sluice had been changed or removed by somebody else" in sluice.output(), "said")
    node.in_node("ip", "rule", "del", "pref", "5178")
    eventually(lambda: "rules and routes were gone and are back" in sluice.output(), "said")
    eventually(lambda: served(node), "intercepted again")


def test_interfaces_down_up_renamed_recreated(node):
    sluice = NodeSluice(node, policy(node))
    eventually(lambda: guarded(node) and served(node), "attached and served")
    node.in_node("ip", "link", "set", "lan0", "down")
    node.in_node("ip", "link", "set", "lan0", "up")
    node.in_node("ip", "-6", "addr", "add", "fd71::1/64", "dev", "lan0", "nodad", check=False)
    eventually(lambda: guarded(node) and served(node), "served after down and up")
    node.in_node("ip", "link", "set", "lan0", "down")
    node.in_node("ip", "link", "set", "lan0", "name", "dmz0")
    node.in_node("ip", "link", "set", "dmz0", "up")
    eventually(lambda: unguarded(node) and served(node), "`lan*` does not name dmz0")
    node.in_node("ip", "link", "set", "dmz0", "down")
    node.in_node("ip", "link", "set", "dmz0", "name", "lan1")
    node.in_node("ip", "link", "set", "lan1", "up")
    eventually(lambda: guarded(node) and served(node), "and lan1 again")
    node.in_node("ip", "link", "del", "lan1")
    node.join(node.client, "71", "lan0")
    eventually(lambda: guarded(node) and served(node), "attached to the new lan0")
    assert sluice.status()["gateway"]["restarts"] == 0
    said = sluice.output()
    assert "the guard has left interface lan1" in said and "the guard is at interface lan0" in said
    assert sluice.metric("sluice_guard_interface_changes_total") >= 4


def test_other_programs_before_and_after_ours(node):
    """Those that let a packet on change nothing, those that drop it are obeyed, and ours stays between them."""
    with tcx.program(node.node, "lan0", tcx.NEXT, tcx.BEFORE):
        sluice = NodeSluice(node, policy(node))
        eventually(lambda: guarded(node) and served(node), "attached beside one that was there, and served")
        for where in (tcx.BEFORE, tcx.AFTER):
            with tcx.program(node.node, "lan0", tcx.NEXT, where):
                assert guarded(node) and served(node)
            with tcx.program(node.node, "lan0", tcx.DROP, where):
                assert not served(node) and not unguarded(node)
            assert guarded(node) and served(node)
    assert guarded(node) and served(node)
    assert sluice.status()["gateway"]["restarts"] == 0
    with tcx.program(node.node, "lan0", tcx.DROP, tcx.AFTER):
        sluice.stop()
        assert not straight(node), "what is another's stays when we go"
    eventually(lambda: straight(node), "traffic flows straight")


def test_a_full_disk_under_the_access_log_costs_lines_not_requests(node):
    state = os.path.join(node.scratch.path, "state")
    os.makedirs(state)
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", state)
    node.scratch.closers.append(lambda: run("umount", "-l", state, check=False))
    sluice = NodeSluice(node, policy(node))
    for _ in range(5):
        try:
            with open(os.path.join(state, "filler"), "ab", buffering=0) as filler:
                filler.write(b"x" * 65536)
        except OSError:
            pass
    for _ in range(50):
        assert served(node, "http://203.0.113.7/")
    assert sluice.status()["gateway"]["restarts"] == 0
    eventually(lambda: "lines are lost: the place that they go to does not take them" in sluice.output(), "said")
    eventually(lambda: sluice.metric("sluice_access_log_dropped_total") > 0, "counted")
    run("umount", "-l", state)


def test_out_of_descriptors_accepting_pauses_and_recovers(node):
    sluice = NodeSluice(node, policy(node))
    gateway = sluice.gateway()
    used = len(os.listdir(f"/proc/{gateway}/fd"))
    subprocess.run(["prlimit", "--pid", str(gateway), f"--nofile={used}:"], check=True)

    def crowd():
        return [socket.create_connection(("203.0.113.7", 80), 5) for _ in range(30)]

    connections = node.as_client(crowd).result()
    eventually(lambda: "accepting pauses" in sluice.output(), "said")
    assert sluice.status()["gateway"]["alive"], "the control thread goes on"
    node.scratch.write("sluice.yaml", policy(node).replace("drain: 2s", "drain: 3s"))
    eventually(lambda: "the gateway is out of descriptors" in sluice.output(), "a new policy is refused, since its sockets have no room")
    time.sleep(2)  # what the keeper asks for every second
    assert (sluice.gateway(), sluice.status()["generation"]) == (gateway, 1)
    for connection in connections:
        connection.close()
    subprocess.run(["prlimit", "--pid", str(gateway), "--nofile=20000:"], check=True)
    eventually(lambda: served(node, "http://203.0.113.7/"), "serves again")
    assert sluice.metric("sluice_accept_pauses_total") > 0, "counted"
    sluice.ctl("reload")
    assert sluice.gateway() == gateway and sluice.status()["generation"] > 1


FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "libfaketime is missing")


@pytest.mark.skipif(SANITIZED, reason="libfaketime and AddressSanitizer cannot start together; the optimised build does this")
def test_a_clock_that_jumps_changes_no_lease_and_no_ban(node):
    """The wall clock of keeper and gateway jumps a day ahead, then two days back."""
    clock = node.scratch.write("clock", "+0")
    sluice = NodeSluice(node, policy(node), limits=(
        "env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"))
    sluice.ctl("ban", "198.51.100.9", "--for", "600s")
    days = set()
    for jump in ("+1d", "-1d", "+0"):
        node.scratch.write("clock", jump)
        time.sleep(1.2)  # longer than the lease
        assert SERVED in node.curl("http://10.72.0.2:8080/"), (jump, sluice.output())
        assert SERVED in node.curl("http://203.0.113.7/"), (jump, sluice.output())
        left = json.loads(sluice.ctl("bans", "--output", "json").stdout)["bans"][0]["seconds_left"]
        assert 500 < left <= 600, jump
        sluice.write_policy(policy(node).replace("name: nobody", f"name: nobody{len(days)}"))
        sluice.ctl("reload")
        days.add(re.findall(r"^(\d{4}-\d\d-\d\d)T", sluice.output(), re.MULTILINE)[-1])
    assert len(days) == 3, f"the clock did jump: {days}"
    assert sluice.output().count("the wall clock jumped") == 3
    assert sluice.metric("sluice_clock_jumps_total") == 3
    assert sluice.status()["gateway"]["restarts"] == 0


def memory_group(pid):
    """A group without a limit, and how to set one; version 2, or version 1 beside it."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        if os.path.exists(f"{root}/memory.limit_in_bytes") or os.path.exists(f"{root}/cgroup.controllers"):
            group = f"{root}/sluice-test-{pid}"
            os.makedirs(group, exist_ok=True)
            if os.path.exists(f"{group}/{limit}"):
                return group, limit
            os.rmdir(group)
    raise AssertionError("this machine has no memory controller")


def test_a_memory_limit_ends_the_gateway_and_the_next_one_serves(node):
    sluice = NodeSluice(node, policy(node))
    eventually(lambda: served(node), "served")
    victim = sluice.gateway()
    group, limit = memory_group(sluice.pid)
    node.scratch.closers.insert(0, lambda: os.rmdir(group))
    with open(f"{group}/cgroup.procs", "w") as procs:
        procs.write(str(victim))
    with open(f"{group}/{limit}", "w") as maximum:
        maximum.write("262144")  # what it has is charged elsewhere; what it asks for now is too much

    def ask():
        connections = []
        try:
            for _ in range(400):
                connection = socket.create_connection(("203.0.113.7", 80), 5)
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 4000)
                connections.append(connection)
        except OSError:
            pass
        return connections

    held = node.as_client(ask).result()
    eventually(lambda: sluice.gateway() != victim and served(node), "the next gateway serves")
    assert "by signal 9" in sluice.output(), "said"
    eventually(lambda: sluice.metric("sluice_gateway_restarts_total") >= 1, "counted")
    del held


def test_a_gateway_that_hangs_is_replaced(node):
    sluice = NodeSluice(node, policy(node))
    eventually(lambda: served(node), "served")
    victim = sluice.gateway()
    os.kill(victim, signal.SIGSTOP)
    eventually(lambda: sluice.gateway() != victim and served(node), "the next gateway serves", 60)  # after 20 s of silence
    assert "runs and does not answer" in sluice.output(), "said"
    eventually(lambda: sluice.metric("sluice_gateway_restarts_total") == 1, "counted, as soon as the port of the page is free")
    eventually(lambda: not os.path.exists(f"/proc/{victim}"), "the one that hung is ended at the deadline of a drain")


def test_a_drain_refuses_new_connections_at_once(node):
    """And finishes what is open: a request that has begun."""
    text = policy(node).replace("listeners: {", 'listeners: { door: { bind: "10.71.0.1:8081", timeouts: { drain: 20s } },').replace(
        "routes: [", "routes: [{ listener: door, upstream: origin }, ")
    sluice = NodeSluice(node, text)
    begun = node.as_client(lambda: socket.create_connection(("10.71.0.1", 8081), 5)).result()
    begun.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
    waiting = subprocess.Popen(node.command(node.node, SLUICE, "drain", "--socket", sluice.socket), stdout=subprocess.DEVNULL)

    def refused():
        try:
            socket.create_connection(("10.71.0.1", 8081), 5).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(lambda: node.as_client(refused).result(), "nobody listens any more")
    assert waiting.poll() is None, "it waits for what is open"
    begun.sendall(b"\r\n")
    begun.settimeout(HANG)
    assert begun.recv(100).startswith(b"HTTP/1.1 200")
    begun.close()
    assert waiting.wait(HANG) == 0
    assert "accept failed" not in sluice.output()


def test_bpffs_not_mounted_is_mounted_or_said(node):
    """In a mount namespace of its own without /sys/fs/bpf."""
    script = f"umount -l /sys/fs/bpf; exec {SLUICE} run --policy {node.scratch.write('p.yaml', policy(node))} --socket {node.scratch.path}/p.sock"
    child = subprocess.Popen(["unshare", "-m", "--propagation", "private", *node.command(node.node, "sh", "-c", script)],
                             stderr=subprocess.PIPE, text=True)
    node.scratch.closers.append(lambda: (child.kill(), child.wait()))
    line, said = "", ""
    while "ready" not in line:
        line = child.stderr.readline()
        said += line
        assert line, "it ended"
    assert served(node)
    assert "no BPF file system was mounted; mounted one" in said
    assert "sluice_keeper_mounted_bpffs 1" in node.in_node("curl", "-sS", "http://127.0.0.1:9464/metrics")
    child.send_signal(signal.SIGTERM)
    child.wait()


def test_what_each_process_may(node):
    sluice = NodeSluice(node, policy(node), options=("--user", "65534"))
    eventually(lambda: served(node), "served")

    def of(pid):
        with open(f"/proc/{pid}/status") as status:
            return dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)

    gateway = of(sluice.gateway())
    assert int(gateway["CapEff"], 16) == int(gateway["CapPrm"], 16) == 1 << 13, "CAP_NET_RAW"
    assert int(gateway["CapBnd"], 16) == 1 << 13
    assert gateway["Seccomp"] == "2" and gateway["NoNewPrivs"] == "1"
    assert gateway["Uid"].split() == ["65534"] * 4 and gateway["Groups"].strip() == ""
    keeper = of(sluice.pid)
    allowed = {1 << bit for bit in (2, 5, 6, 7, 8, 10, 12, 13, 38, 39)}
    held = int(keeper["CapEff"], 16)
    assert all((1 << bit) in allowed for bit in range(64) if held >> bit & 1), hex(held)
    for pid in (sluice.pid, sluice.gateway()):
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0, "not dumpable: its memory is root's"
        with open(f"/proc/{pid}/limits") as limits:
            assert re.search(r"Max core file size\s+0\s+0", limits.read())
    assert sluice.metric("sluice_gateway_refused_system_calls_total") == 0, sluice.output()
    assert "seccomp refused" not in sluice.output()
