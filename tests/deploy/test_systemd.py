"""The Debian package's unit under a systemd that has booted: start, reload, watchdog, crash, upgrade of the package, stop."""
import json
import signal
import time

import pytest

from debian_root import HANG, Root, needs_root  # first: it says where the harness is
import netns
from booted import Booted
from harness import Scratch
from harness import eventually as within
from lasting_clients import Load, http1, new_connections, serve_origins
from test_package import NEW_VERSION, asked_for, made_scratch, make_package, package  # noqa: F401, fixtures

pytestmark = needs_root

UNIT = "sluice.service"
POLICY = """version: 1
workers: 2
logs: { access: { path: /var/log/sluice/access.log, format: json } }
intercept: { local: [{ to: [203.0.113.0/24], ports: [80, 8080], listener: web }] }
guard:
  interfaces: ["lan*"]
  rules: [{ name: nobody, from: [10.71.0.99], action: drop }]
listeners: { web: { timeouts: { drain: 5s } } }
upstreams: { app: { endpoints: ["10.72.0.2:8080"] } }
routes: [{ listener: web, upstream: app }]
"""


def eventually(condition, what):
    return within(condition, what, HANG)


class Machine:
    """The node's network and a Debian on it, with the package as `apt install` leaves it."""

    def __init__(self, scratch, package, root):  # noqa: F811
        self.net, self.root = netns.Net(scratch), root
        serve_origins(self.net)
        (root.path / "root" / package.name).write_bytes(package.read_bytes())
        self.systemd = Booted(scratch, root, self.net.node)
        self.run, self.show = self.systemd.run, self.systemd.show
        self.run("dpkg", "-i", f"/root/{package.name}")
        self.write(POLICY)

    def write(self, policy):
        (self.root.path / "etc/sluice/policy.yaml").write_text(policy)

    def start(self):
        started = self.run("systemctl", "start", UNIT, check=False)
        assert started.returncode == 0, self.systemd.journal(UNIT)

    def serves(self):
        return "called from" in (self.net.curl("http://203.0.113.7/") or "")

    def keeper(self):
        return int(self.show(UNIT, "MainPID"))

    def gateway(self):
        return json.loads(self.run("sluice", "status", "--output", "json").stdout)["gateway"]["pid"]

    def kill(self, sig):
        self.run("systemctl", "kill", "--kill-whom=main", f"--signal={sig.name}", UNIT)


@pytest.fixture(name="machine")
def booted(scratch, package, dependencies):  # noqa: F811
    root = Root([*dependencies, "systemd"])
    try:
        with Scratch() as own:
            yield Machine(own, package, root)
    finally:
        root.remove()


def test_it_starts_serves_reloads_and_stops_as_systemd_is_told(machine):
    assert machine.show(UNIT, "UnitFileState") == "disabled", "a gateway is begun on purpose"
    machine.start()
    assert machine.serves(), "started means that it serves"
    assert machine.show(UNIT, "ActiveState") == "active" and machine.show(UNIT, "StatusText") != ""
    machine.net.in_client("ip", "address", "add", "10.71.0.99/24", "dev", "eth0")
    ask = ("http://203.0.113.7/", "--interface", "10.71.0.99", "--max-time", "1")
    assert machine.net.curl(*ask) is None, "the guard drops it"

    machine.write(POLICY.replace("10.71.0.99", "10.71.0.98"))
    machine.run("systemctl", "reload", UNIT)
    assert machine.net.curl(*ask) is not None, "reloaded means that it is in force"
    machine.write(POLICY.replace("upstream: app", "upstream: nobody"))
    refused = machine.run("systemctl", "reload", UNIT, check=False)
    assert refused.returncode != 0 and "there is no upstream `nobody`" in machine.systemd.journal(UNIT)
    assert machine.show(UNIT, "ActiveState") == "active" and machine.serves(), "what runs is not lost"

    machine.run("systemctl", "stop", UNIT)
    assert machine.show(UNIT, "Result") == "success"
    assert not machine.serves()

    machine.start()
    assert machine.serves(), "the policy is broken still: the last good one is in force"


def test_the_sandbox_holds_what_it_says(machine):
    machine.start()
    keeper = machine.run("sh", "-c", f"nsenter --target=$(systemctl show --value -p MainPID {UNIT}) --mount sh -c '"
                         "touch /etc/x; touch /usr/x; touch /var/lib/sluice/x && rm /var/lib/sluice/x && echo state; find /root /home -mindepth 1; ls /dev/kmsg'", check=False)
    assert keeper.stdout.split() == ["state"], keeper.stdout + keeper.stderr
    assert keeper.stderr.count("Read-only file system") == 2
    limits = machine.run("sh", "-c", f"cat /proc/$(systemctl show --value -p MainPID {UNIT})/limits").stdout
    assert [line.split()[-3:] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0", "bytes"]]


def test_who_crashes_or_hangs_is_started_again(machine):
    drop_in = machine.root.path / "etc/systemd/system/sluice.service.d/watchdog.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=2s\n")
    machine.run("systemctl", "daemon-reload")
    machine.start()
    restarts = 0
    for sig in (signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT):
        before = machine.keeper()
        machine.kill(sig)
        restarts += 1
        eventually(lambda: machine.show(UNIT, "NRestarts") == str(restarts), f"{sig.name} is noticed")  # noqa: B023
        eventually(lambda: machine.show(UNIT, "ActiveState") == "active" and machine.serves(), "and it serves again")
        assert machine.keeper() not in (0, before)
    assert "Watchdog timeout" in machine.systemd.journal(UNIT)
    # Programs that follow each other faster than the watchdog asks.
    keeper = machine.keeper()
    for _ in range(6):
        machine.run("sluice", "upgrade")
        time.sleep(0.7)
    assert (machine.keeper(), machine.show(UNIT, "NRestarts")) == (keeper, str(restarts))
    machine.run("sluice", "drain")
    eventually(lambda: machine.show(UNIT, "ActiveState") == "inactive", "who is told to end, ends")
    machine.run("sluice", "cleanup")  # which a service that had come back would refuse


def test_a_new_package_takes_over_in_place_and_an_old_one_again(machine, scratch, package):  # noqa: F811
    machine.start()
    keeper = machine.keeper()
    load = Load(machine.net, http1, new_connections)
    newer = make_package(scratch, NEW_VERSION)
    (machine.root.path / "root" / newer.name).write_bytes(newer.read_bytes())
    for file in (newer, package):
        gateway = machine.gateway()
        done = machine.run("dpkg", "-i", "--force-downgrade", f"/root/{file.name}")
        assert "serves on" not in done.stderr, done.stderr
        assert machine.keeper() == keeper and machine.show(UNIT, "NRestarts") == "0"
        assert machine.gateway() != gateway, "it is the new program's"
        before = dict(load.done)
        eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on")  # noqa: B023
    load.stop()
    assert load.failures == []

    machine.run("dpkg", "--purge", "sluice")
    assert machine.show(UNIT, "ActiveState") in ("inactive", "") and not machine.serves()
    assert "inet sluice" not in machine.net.in_node("nft", "list", "tables")
