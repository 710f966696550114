"""Guard rules that nobody confirms go by themselves, also when nobody is left to take them away."""
import ipaddress
import json
import os
import signal

import pytest

from harness import Scratch, eventually
from wire import SluiceInside, Wire


def policy(scratch, source):
    return json.dumps({"version": 1, "state_dir": scratch.path + "/state", "logs": {"access": {"format": "none"}},
                       "guard": {"interfaces": ["w*"], "rules": [{"name": "it", "from": [source]}]}})


def packet(source):
    return {"from": ipaddress.ip_address(source), "to": ipaddress.ip_address("10.16.0.1"), "protocol": 17,
            "from_port": 9, "to_port": 9}


@pytest.fixture
def scratch():
    with Scratch() as made:
        yield made


def arrives(wire):
    """Which of 172.16.0.1 and 172.17.0.1 gets through."""
    sent = ["172.16.0.1", "172.17.0.1"]
    return {sent[index] for index in wire.delivered([packet(source) for source in sent], packet("172.18.0.1"))}


def test_rules_on_trial_go_though_both_processes_are_dead(scratch):
    wire = Wire(scratch)
    running = SluiceInside(scratch, policy(scratch, "172.16.0.0/16"), wire.far)
    assert arrives(wire) == {"172.17.0.1"}
    candidate = scratch.write("candidate.yaml", policy(scratch, "172.17.0.0/16"))
    running.ctl("apply", "--confirm", "3s", candidate)
    gateway = running.status()["gateway"]["pid"]
    for pid in (running.pid, gateway):
        os.kill(pid, signal.SIGKILL)
    running.process.wait()
    eventually(lambda: arrives(wire) == {"172.17.0.1"}, "the rules before are back")


def test_confirmed_rules_stay_though_both_processes_are_dead(scratch):
    wire = Wire(scratch)
    running = SluiceInside(scratch, policy(scratch, "172.16.0.0/16"), wire.far)
    candidate = scratch.write("candidate.yaml", policy(scratch, "172.17.0.0/16"))
    running.ctl("apply", "--confirm", "60s", candidate)
    running.ctl("confirm")
    assert arrives(wire) == {"172.16.0.1"}
    gateway = running.status()["gateway"]["pid"]
    for pid in (running.pid, gateway):
        os.kill(pid, signal.SIGKILL)
    running.process.wait()
    assert arrives(wire) == {"172.16.0.1"}
