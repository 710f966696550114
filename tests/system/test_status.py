"""What `sluice status` and its probe say when not all is as one would have it: of a drain, of a policy that catches nothing."""
import json
import os
import socket
import subprocess

import pytest

from harness import HANG, SLUICE, Sluice, eventually, free_port
from test_sets import in_namespace


@pytest.fixture(scope="module", autouse=True)
def namespace():
    in_namespace()


@pytest.mark.parametrize("kernel", ["", "guard: { interfaces: [none], rules: [{ name: nobody, from: [192.0.2.1], action: drop }] }"])
def test_who_drains_is_not_ready_and_says_why(scratch, kernel):
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as origin:
        sluice = Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state
workers: 1
listeners: {{ raw: {{ bind: "127.0.0.1:{port}", protocol: tcp, timeouts: {{ drain: 30s }} }} }}
upstreams: {{ far: {{ endpoints: ["127.0.0.1:{origin.getsockname()[1]}"] }} }}
routes: [{{ listener: raw, upstream: far }}]
{kernel}
""")
        sluice.ctl("status", "--ready")
        with socket.create_connection(("127.0.0.1", port), timeout=HANG) as client:
            client.sendall(b"open\n")
            peer = origin.accept()[0]
            assert peer.recv(16) == b"open\n"
            sluice.ctl("drain", "--no-wait")
            refused = sluice.ctl("status", "--ready", check=False)
            assert refused.returncode == 1 and "sluice drains" in refused.stderr, refused.stderr
            assert "DRAINS: " in sluice.ctl("status").stdout
            peer.sendall(b"still\n")
            assert client.recv(16) == b"still\n"
            peer.close()
        eventually(lambda: sluice.process.poll() == 0, f"it ends when the last one has ended:\n{sluice.output()}")


def cgroup_mount():
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        return next(line.split()[4] for line in mounts if " - cgroup2 " in line)


@pytest.mark.parametrize("named_by", ["guard", "rule"])
def test_an_interface_that_is_missing_is_told(scratch, named_by):
    sluice = Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state
workers: 1
guard: {{ interfaces: [lo{", late0" if named_by == "guard" else ""}, "none*"], rules: [
  {{ name: nobody, from: [192.0.2.1], action: drop }},
  {{ name: there, from: [192.0.2.2], action: drop, interfaces: [{"late0" if named_by == "rule" else "lo"}, "none*"] }}] }}
listeners: {{ web: {{ bind: "127.0.0.1:{free_port()}" }} }}
upstreams: {{ far: {{ endpoints: ["127.0.0.1:9"] }} }}
routes: [{{ upstream: far }}]
""")
    missing = "there is no interface late0: the guard, which names it, guards nothing of it until there is"
    told = f"NOT AS ASKED FOR: {missing}"
    eventually(lambda: told in sluice.output(), "the log says it")
    assert f"warning: {missing}" in sluice.ctl("status").stdout

    def said_by_doctor():
        done = subprocess.run([SLUICE, "doctor", "--policy", sluice.policy, "--output", "json"], capture_output=True, text=True, timeout=HANG)
        return [f["what"] for f in json.loads(done.stdout)["findings"] if f["check"] == "guard_interfaces" and f["level"] == "warning"]

    assert said_by_doctor() == ["the guard names late0, which is not there"]
    # Of a glob nobody knows what it was to find.
    assert sluice.status()["warnings"] == [missing]
    subprocess.run(["ip", "link", "add", "late0", "type", "veth", "peer", "name", "far0"], check=True)
    eventually(lambda: f"no longer so: {missing}" in sluice.output(), "and that it is there")
    assert sluice.status()["warnings"] == [] and said_by_doctor() == []
    subprocess.run(["ip", "link", "del", "late0"], check=True)
    eventually(lambda: sluice.output().count(told) == 2, "it is gone again, which is told once")
    sluice.stop()


def test_a_cgroup_that_is_missing_is_told(scratch):
    name = f"/sluice-test-{os.getpid()}"
    sluice = Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state
workers: 1
intercept: {{ output: [{{ cgroups: [{name}], to: [203.0.113.0/24], ports: [80], listener: web }}] }}
listeners: {{ web: {{}} }}
upstreams: {{ far: {{ endpoints: ["127.0.0.1:9"] }} }}
routes: [{{ upstream: far }}]
""")
    missing = f"there is no cgroup {name}: intercept.output catches nothing of it"

    def said_by_doctor():
        done = subprocess.run([SLUICE, "doctor", "--policy", sluice.policy, "--output", "json"], capture_output=True, text=True, timeout=HANG)
        return [f["what"] for f in json.loads(done.stdout)["findings"] if f["check"] == "cgroups" and f["level"] == "warning"]

    eventually(lambda: f"NOT AS ASKED FOR: {missing}" in sluice.output(), "the log says it")
    assert f"warning: {missing}" in sluice.ctl("status").stdout
    assert said_by_doctor() == [missing]
    os.mkdir(cgroup_mount() + name)
    try:
        eventually(lambda: f"no longer so: {missing}" in sluice.output(), "and that it is there")
        assert sluice.status()["warnings"] == [] and said_by_doctor() == []
    finally:
        os.rmdir(cgroup_mount() + name)
    eventually(lambda: sluice.output().count(f"NOT AS ASKED FOR: {missing}") == 2, "it is gone again, which is told once")
    sluice.stop()
