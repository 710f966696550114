"""Signals that others send by habit: none of them ends what serves, and a rotation is heard of."""
import os
import re
import signal
import subprocess

import pytest

from harness import HANG, SLUICE, Nginx, Sluice, curl, eventually, free_port
from test_sets import in_namespace

MODES = {"one process": "", "keeper": "guard: { interfaces: [none], rules: [{ name: nobody, from: [192.0.2.1] }] }\n"}


@pytest.fixture(scope="module", autouse=True)
def namespace():
    in_namespace()


class Served:
    def __init__(self, scratch, more):
        self.port, self.log = free_port(), f"{scratch.path}/access.log"
        self.policy = f"""version: 1
state_dir: {scratch.path}/state
workers: 1
logs: {{ access: {{ path: {self.log} }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
upstreams: {{ origin: {{ endpoints: ["127.0.0.1:{Nginx(scratch, "origin").port}"] }} }}
routes: [{{ upstream: origin }}]
{more}"""

    def ask(self, path):
        assert curl(f"http://127.0.0.1:{self.port}{path}")[1].startswith(b"origin ")


@pytest.fixture(params=MODES)
def served(scratch, request):
    return Served(scratch, MODES[request.param])


def processes(sluice):
    """The one that was started, and the gateway where there is one."""
    return {sluice.pid, sluice.status().get("gateway", {}).get("pid", sluice.pid)}


def test_usr1_opens_the_log_again_and_reloads_nothing(scratch, served):
    sluice = Sluice(scratch, served.policy)
    before = processes(sluice)
    served.ask("/before")
    eventually(lambda: os.path.getsize(served.log), "the log is written")
    reloads = sluice.output().count("reload")
    os.rename(served.log, served.log + ".1")
    sluice.process.send_signal(signal.SIGUSR1)
    eventually(lambda: os.path.exists(served.log), "a new one is begun")
    served.ask("/after")
    eventually(lambda: "/after" in open(served.log).read(), "and written")
    assert processes(sluice) == before and sluice.output().count("reload") == reloads
    for pid in before - {sluice.pid}:
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGUSR2)
    served.ask("/later")
    assert processes(sluice) == before
    assert sluice.stop() == 0


def test_a_log_that_could_not_be_opened_is_told_and_tried_again(scratch, served):
    sluice = Sluice(scratch, served.policy)
    again = {"first": lambda: sluice.process.send_signal(signal.SIGUSR1), "second": lambda: sluice.ctl("reload"),
             "third": lambda: sluice.process.send_signal(signal.SIGHUP)}
    for name, try_again in again.items():
        directory = f"{scratch.path}/{name}"
        told = lambda: [warning for warning in sluice.status()["warnings"] if f"{directory}/access.log" in warning]
        sluice.write_policy(served.policy.replace(served.log, f"{directory}/access.log"))
        sluice.ctl("reload")
        eventually(told, "status tells of it")
        assert f"warning: access log {directory}/access.log: No such file" in sluice.ctl("status").stdout
        refused = sluice.output().count(f"kept as it was error=\"access log {directory}/access.log")
        sluice.process.send_signal(signal.SIGUSR1)
        eventually(lambda: sluice.output().count(f"kept as it was error=\"access log {directory}/access.log") > refused,
                   "the log tells of each try")
        os.mkdir(directory)
        os.chmod(directory, 0o777)
        try_again()
        eventually(lambda: os.path.exists(f"{directory}/access.log"), "it is opened")
        eventually(lambda: not told(), "and no longer told of")
        served.ask(f"/{name}")
        eventually(lambda: f"/{name}" in open(f"{directory}/access.log").read(), "and written")
    assert sluice.stop() == 0


def test_usr2_is_told_and_does_nothing(scratch, served):
    sluice = Sluice(scratch, served.policy)
    before = processes(sluice)
    sluice.process.send_signal(signal.SIGUSR2)
    eventually(lambda: "SIGUSR2 does nothing" in sluice.output(), "it is told")
    served.ask("/")
    assert processes(sluice) == before
    assert sluice.stop() == 0


def test_who_reads_the_log_may_go_away(scratch, served):
    """As in `sluice run 2>&1 | head -1`."""
    policy, admin = scratch.write("piped.yaml", served.policy), f"{scratch.path}/piped.sock"
    running = subprocess.Popen([SLUICE, "run", "--policy", policy, "--socket", admin], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while not re.search(rb"\bready\b", running.stderr.readline()):
            assert running.poll() is None
        running.stderr.close()
        for _ in range(3):
            subprocess.run([SLUICE, "reload", "--force", "--socket", admin], timeout=HANG, capture_output=True, check=True)
            running.send_signal(signal.SIGUSR2)
        served.ask("/")
        assert running.poll() is None
    finally:
        running.terminate()
        assert running.wait(HANG) == 0
