"""Guard rules that nobody confirms go by themselves, also when nobody is left to take them away; and those that would
cut the operator off do not come unless forced."""
import ipaddress
import json
import os
import signal
import socket
import subprocess
import time

from harness import HANG, SLUICE, eventually
from wire import SluiceInside, Wire


def policy(scratch, source):
    return json.dumps({"version": 1, "state_dir": scratch.path + "/state", "logs": {"access": {"format": "none"}},
                       "guard": {"interfaces": ["w*"], "rules": [{"name": "it", "from": [source]}]}})


def packet(source):
    return {"from": ipaddress.ip_address(source), "to": ipaddress.ip_address("10.16.0.1"), "protocol": 17,
            "from_port": 9, "to_port": 9}


def arrives(wire):
    """Which of 172.16.0.1 and 172.17.0.1 gets through."""
    sent = ["172.16.0.1", "172.17.0.1"]
    # An operator's own packets are seen too.
    arrived = wire.delivered([packet(source) for source in sent], packet("172.18.0.1"))
    return {source for index, source in enumerate(sent) if index in arrived}


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


def test_rules_that_took_long_to_put_in_force_have_their_whole_trial(scratch):
    """The gateway takes longer than the trial lasts: what is confirmed afterwards is in force, and stays so."""
    wire = Wire(scratch)
    running = SluiceInside(scratch, policy(scratch, "172.16.0.0/16"), wire.far)
    candidate = scratch.write("candidate.yaml", policy(scratch, "172.17.0.0/16"))
    gateway = running.status()["gateway"]["pid"]
    os.kill(gateway, signal.SIGSTOP)
    applied = subprocess.Popen([SLUICE, "apply", "--confirm", "8s", "--socket", running.socket, candidate],
                               stdout=subprocess.DEVNULL)
    time.sleep(11)  # the kernel gives this process two seconds more
    os.kill(gateway, signal.SIGCONT)
    assert applied.wait(HANG) == 0
    running.ctl("confirm")
    assert arrives(wire) == {"172.16.0.1"}


def test_a_trial_holds_whatever_else_would_be_put_in_force(scratch):
    """What would need the slot that comes back is refused and waits; then the old rules come back by themselves."""
    wire = Wire(scratch)
    listed = scratch.write("listed.netset", "192.0.2.1\n")
    with_set = json.loads(policy(scratch, "172.16.0.0/16"))
    with_set["sets"] = {"listed": {"file": listed, "format": "netset"}}
    with_set["guard"]["rules"].append({"name": "listed", "from": [{"set": "listed"}]})
    running = SluiceInside(scratch, json.dumps(with_set), wire.far)
    with_set["guard"]["rules"][0]["from"] = ["172.17.0.0/16"]
    running.ctl("apply", "--confirm", "4s", scratch.write("candidate.yaml", json.dumps(with_set)))
    for words in (["reload"], ["set", "add", "listed", "172.18.0.0/16"], ["upgrade"], ["apply", running.policy]):
        refused = running.ctl(*words, check=False)
        assert refused.returncode == 1 and "waits for `sluice confirm`" in refused.stderr, words
    scratch.write("listed.netset", "172.19.0.1\n")
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: "not reloaded" in running.output(), "SIGHUP is answered")
    assert arrives(wire) == {"172.16.0.1"}
    eventually(lambda: arrives(wire) == {"172.17.0.1"}, "the rules before are back")

    def sets_arrive():
        return wire.delivered([packet("172.18.0.1"), packet("172.19.0.1")], packet("172.20.0.1"))
    eventually(lambda: sets_arrive() == set(), "what waited is in force: the member, and the set's file")


def test_killed_while_going_back_the_rules_before_stay(scratch):
    wire = Wire(scratch)
    running = SluiceInside(scratch, policy(scratch, "172.16.0.0/16"), wire.far)
    candidate = scratch.write("candidate.yaml", policy(scratch, "172.17.0.0/16"))
    running.ctl("apply", "--confirm", "600s", candidate)
    gateway = running.status()["gateway"]["pid"]
    os.kill(gateway, signal.SIGSTOP)  # it cannot take the policy before: going back hangs halfway
    asked = subprocess.Popen([SLUICE, "rollback", "--socket", running.socket], stderr=subprocess.DEVNULL)
    eventually(lambda: arrives(wire) == {"172.17.0.1"}, "the kernel is back already")
    for pid in (running.pid, gateway):
        os.kill(pid, signal.SIGKILL)
    running.process.wait()
    asked.wait()
    assert arrives(wire) == {"172.17.0.1"}


class Operator:
    """A connection to port 22 of the far end, as ssh has one."""

    def __init__(self, scratch, wire, port=22):
        wire.near.ip("addr", "add", "192.168.77.2/24", "dev", "w0")
        with wire.far.inside():
            listener = socket.create_server(("192.168.77.1", port))
        with wire.near.inside():
            self.connection = socket.create_connection(("192.168.77.1", port), HANG)
        self.accepted = listener.accept()[0]
        scratch.closers.extend([listener.close, self.connection.close, self.accepted.close])
        self.ssh = " ".join(map(str, [*self.connection.getsockname(), *self.connection.getpeername()]))

    def works(self):
        self.connection.sendall(b"x")
        self.accepted.settimeout(HANG)
        return self.accepted.recv(1) == b"x"


def locking_out(scratch, source):
    found = json.loads(policy(scratch, source))
    found["protect"] = {"host_ports": []}
    return json.dumps(found)


def refused_reloads(running):
    return [line for line in running.output().splitlines() if "would cut the connection" in line]


def test_a_reload_that_would_cut_the_operator_off_is_refused_unless_forced(scratch):
    wire = Wire(scratch)
    operator = Operator(scratch, wire)
    running = SluiceInside(scratch, locking_out(scratch, "172.16.0.0/16"), wire.far)
    generation = running.status()["generation"]
    running.write_policy(locking_out(scratch, "192.168.77.0/24"))
    eventually(lambda: refused_reloads(running), "the changed file is refused")
    assert len(refused_reloads(running)) == 1
    line = refused_reloads(running)[0]
    assert f"{running.policy}:1:" in line and "dropped by rule `it`" in line and "sluice reload --force" in line
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: len(refused_reloads(running)) == 2, "SIGHUP is refused")
    asked = running.ctl("reload", check=False)
    assert asked.returncode == 1 and "would cut the connection" in asked.stderr
    assert operator.works() and running.status()["generation"] == generation and arrives(wire) == {"172.17.0.1"}
    running.ctl("reload", "--force")
    assert arrives(wire) == {"172.16.0.1", "172.17.0.1"}
    assert 0 not in wire.delivered([packet("192.168.77.2")], packet("172.18.0.1"))


def test_members_of_a_set_that_were_added_at_run_time_count_for_plan_and_apply(scratch):
    """The rule names a set of which the operator is a member, added since."""
    wire = Wire(scratch)
    operator = Operator(scratch, wire)
    named = json.loads(locking_out(scratch, "172.16.0.0/16"))
    named["sets"] = {"who": {"elements": ["203.0.113.0/24"]}}
    running = SluiceInside(scratch, json.dumps(named), wire.far)
    running.ctl("set", "add", "who", "192.168.77.0/24", "--for", "1h", "--force")
    same = running.ctl("plan", scratch.write("same.yaml", json.dumps(named)))
    assert "other settings" not in same.stdout
    named["guard"]["rules"][0]["from"] = {"set": "who"}
    wrong = scratch.write("wrong.yaml", json.dumps(named))
    assert running.ctl("plan", wrong, check=False).returncode == 3
    applied = running.ctl("apply", wrong, check=False)
    assert applied.returncode == 1 and "would cut the connection" in applied.stderr
    assert operator.works()


def test_an_operator_on_another_port_is_known_by_his_commands(scratch):
    wire = Wire(scratch)
    operator = Operator(scratch, wire, 2222)
    running = SluiceInside(scratch, locking_out(scratch, "172.16.0.0/16"), wire.far)
    subprocess.run([SLUICE, "reload", "--socket", running.socket], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "SSH_CONNECTION": operator.ssh})
    running.write_policy(locking_out(scratch, "192.168.77.0/24"))
    eventually(lambda: refused_reloads(running), "the changed file is refused")
    assert operator.works()
    operator.connection.close()
    operator.accepted.close()
    running.ctl("reload")  # nobody is left to be cut off


def test_a_set_whose_file_changes_does_not_cut_the_operator_off(scratch):
    wire = Wire(scratch)
    operator = Operator(scratch, wire)
    listed = scratch.write("listed.netset", "172.16.0.0/16\n")
    found = json.loads(locking_out(scratch, "172.31.0.0/16"))
    found["sets"] = {"listed": {"file": listed, "format": "netset"}}
    found["guard"]["rules"].append({"name": "listed", "from": [{"set": "listed"}]})
    running = SluiceInside(scratch, json.dumps(found), wire.far)
    scratch.write("listed.netset", "172.17.0.0/16\n192.168.0.0/16\n")
    eventually(lambda: refused_reloads(running), "the changed set is refused")
    assert operator.works() and arrives(wire) == {"172.17.0.1"}
    refused = running.ctl("set", "add", "listed", "192.168.77.0/24", check=False)
    assert refused.returncode == 1 and "would cut the connection" in refused.stderr
    assert operator.works()
    running.ctl("set", "add", "listed", "192.168.77.0/24", "--force")
    assert 0 not in wire.delivered([packet("192.168.77.2")], packet("172.18.0.1"))


def judged(scratch, running, rule):
    """What apply says of this rule."""
    found = json.loads(locking_out(scratch, "172.16.0.0/16"))
    found["guard"]["rules"].append({"name": "new", "from": ["192.168.77.0/24"], **rule})
    return running.ctl("apply", scratch.write("judged.yaml", json.dumps(found)), check=False)


def test_a_limit_that_leaves_no_shell_cuts_the_operator_off(scratch):
    wire = Wire(scratch)
    operator = Operator(scratch, wire)
    running = SluiceInside(scratch, locking_out(scratch, "172.16.0.0/16"), wire.far)
    refused = judged(scratch, running, {"action": "limit", "rate": "1/d", "burst": 1})
    assert refused.returncode == 1 and "would cut the connection" in refused.stderr, refused.stderr
    assert "limited by rule `new` to 1 packets in " in refused.stderr and "a shell needs ten a second" in refused.stderr
    assert judged(scratch, running, {"action": "limit", "rate": "1/d", "burst": 1, "mode": "audit"}).returncode == 0
    assert judged(scratch, running, {"action": "limit", "rate": "1000/s"}).returncode == 0
    assert operator.works()


def test_a_rule_for_another_interface_does_not_cut_the_operator_off(scratch):
    wire = Wire(scratch)
    operator = Operator(scratch, wire)
    running = SluiceInside(scratch, locking_out(scratch, "172.16.0.0/16"), wire.far)
    refused = judged(scratch, running, {"interfaces": ["w*"]})
    assert refused.returncode == 1 and "would cut the connection" in refused.stderr
    applied = judged(scratch, running, {"interfaces": ["wan0"]})  # what comes from there with our addresses is forged
    assert applied.returncode == 0, applied.stderr
    assert operator.works()


def test_a_ban_that_would_cut_an_open_ssh_connection_is_refused_unless_forced(scratch, monkeypatch):
    monkeypatch.delenv("SSH_CONNECTION", raising=False)  # as sudo does
    wire = Wire(scratch)
    operator = Operator(scratch, wire)
    running = SluiceInside(scratch, locking_out(scratch, "172.16.0.0/16"), wire.far)
    refused = running.ctl("ban", "192.168.77.0/24", check=False)
    assert refused.returncode == 1 and "an open connection of an operator comes from 192.168.77.2:" in refused.stderr
    running.ctl("ban", "192.168.78.0/24")
    assert operator.works()
    running.ctl("ban", "192.168.77.0/24", "--force")
    assert 0 not in wire.delivered([packet("192.168.77.2")], packet("172.18.0.1"))


def test_a_ban_that_protect_keeps_from_the_operator_is_taken(scratch):
    wire = Wire(scratch)
    operator = Operator(scratch, wire)
    running = SluiceInside(scratch, policy(scratch, "172.16.0.0/16"), wire.far)  # port 22 is the host's
    running.ctl("ban", "192.168.77.0/24")
    assert operator.works()


def test_plan_says_what_apply_refuses_of_the_hosts_ports(scratch):
    wire = Wire(scratch)
    Operator(scratch, wire, 7080)
    running = SluiceInside(scratch, policy(scratch, "172.16.0.0/16"), wire.far)
    found = json.loads(policy(scratch, "172.16.0.0/16"))
    entry = {"to": ["192.168.77.1"], "ports": [7080], "listener": "web"}
    found.update({"listeners": {"web": {}}, "upstreams": {"far": {"endpoints": ["127.0.0.1:9"]}},
                  "routes": [{"upstream": "far"}], "intercept": {"local": [entry]}})
    candidate = scratch.write("candidate.yaml", json.dumps(found))
    refused = running.ctl("apply", candidate, check=False)
    assert refused.returncode == 1 and "intercept.local would take port 7080 of 192.168.77.1" in refused.stderr
    planned = running.ctl("plan", candidate, check=False)
    assert planned.returncode == 3 and "intercept.local would take port 7080 of 192.168.77.1" in planned.stdout
    entry["take_over"] = True
    assert running.ctl("plan", scratch.write("candidate.yaml", json.dumps(found))).returncode == 0
