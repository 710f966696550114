"""`sluice upgrade` and other changes of gateway processes: nobody's connection is lost."""
import os
import shutil
import subprocess

import pytest

from harness import SLUICE, Scratch, eventually
from lasting_clients import Load, http1, http2, layer4, new_connections, serve_origins, websocket
from netns import Net, NodeSluice
from test_auth import jwks, token
from test_keeper_features import serve

POLICY = """
version: 1
state_dir: @STATE@
workers: 2
metrics: { bind: "127.0.0.1:9464" }
intercept:
  local: [{ to: [203.0.113.0/24], ports: [80, 8080], listener: web },
          { to: [203.0.113.0/24], ports: [7], listener: echo }]
listeners:
  web: { protocol: http, timeouts: { drain: 5s } }
  echo: { protocol: tcp, timeouts: { drain: 5s } }
upstreams:
  origin: { endpoints: ["10.72.0.2:8080"] }
  echo: { endpoints: ["10.72.0.2:7"] }
  chat: { endpoints: ["10.72.0.2:9"] }
routes: [{ listener: web, upstream: origin }, { listener: web, path: /chat, upstream: chat }, { listener: echo, upstream: echo }]
bans: { max: 1000, rules: [{ when: { limit: hard, count: 50, within: 10s }, for: 60s }] }
limits: { hard: { key: [client_ip], rate: 100000/s } }
"""


@pytest.fixture
def node():
    with Scratch() as scratch:
        net = Net(scratch)
        serve_origins(net)
        yield net


def policy(net, text=POLICY):
    return text.replace("@STATE@", os.path.join(net.scratch.path, "state"))


UPGRADES = 20 if os.environ.get("NIGHTLY") else 4


def test_upgrades_under_load_lose_nothing(node):
    sluice = NodeSluice(node, policy(node))
    sluice.ctl("ban", "198.51.100.7", "--for", "1h")
    keeper = sluice.pid
    gateways = {sluice.gateway()}
    load = Load(node, http1, http1, new_connections, new_connections, http2, layer4, websocket, websocket)
    eventually(lambda: all(load.done.values()), "every kind of client is served")
    for number in range(1, UPGRADES + 1):
        before = dict(load.done)
        sluice.ctl("upgrade")
        status = sluice.status()
        assert status["pid"] == keeper
        assert status["upgrade"]["state"] == "done"
        gateways.add(status["gateway"]["pid"])
        assert len(gateways) == number + 1
        eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on")
    done = load.stop()
    assert sorted(load.failures) == []
    assert all(done.values()), done
    assert "198.51.100.7" in sluice.ctl("bans").stdout, "bans are carried over"
    eventually(lambda: sluice.metric("sluice_keeper_upgrades_total") == UPGRADES, "counted")
    # The first ones have gone at their deadlines; nothing is left but the keeper and the gateway that serves.
    eventually(lambda: sluice.children() == [sluice.gateway()], "the gateways before have gone")
    assert sluice.stop() == 0


def test_a_program_that_cannot_take_over_changes_nothing(node):
    sluice = NodeSluice(node, policy(node))
    gateway = sluice.gateway()
    for program, why in (("/bin/true", "does not know how"), ("/nowhere/sluice", "No such file")):
        failed = sluice.ctl("upgrade", "--binary", program, check=False)
        assert failed.returncode == 1
        assert why in failed.stderr
    assert sluice.gateway() == gateway
    assert node.curl("http://203.0.113.7/")


def test_a_gateway_that_cannot_start_leaves_the_old_one_serving(node):
    sluice = NodeSluice(node, policy(node))
    gateway = sluice.gateway()
    load = Load(node, http1, new_connections, layer4, websocket)
    # No thread can have a stack as large as that: the keeper has one thread, a gateway cannot start its workers.
    before = subprocess.run(["prlimit", "--pid", str(sluice.pid), "--stack", "--output", "SOFT,HARD", "--noheadings"],
                            capture_output=True, text=True).stdout.split()
    subprocess.run(["prlimit", "--pid", str(sluice.pid), f"--stack={1 << 47}:"], check=True)
    failed = sluice.ctl("upgrade", check=False)
    assert failed.returncode == 1, failed.stdout
    assert sluice.gateway() == gateway
    eventually(lambda: all(load.done.values()), "everybody is served")
    if "ThreadSanitizer" in failed.stderr:  # which starts no program at all with such a stack
        assert "nothing has changed" in failed.stderr
    else:
        assert "the new gateway process ended" in failed.stderr
        assert "going back to the program before" in sluice.output()
    subprocess.run(["prlimit", "--pid", str(sluice.pid), f"--stack={before[0]}:"], check=True)
    sluice.ctl("upgrade")
    assert sluice.gateway() != gateway
    load.stop()
    assert load.failures == []


def test_another_program_takes_over_from_where_it_is_installed(node):
    program = os.path.join(node.scratch.path, "installed")
    shutil.copy(SLUICE, program)
    sluice = NodeSluice(node, policy(node), binary=program)
    # As packages do it: beside, and moved over.
    shutil.copy(SLUICE, program + ".new")
    os.rename(program + ".new", program)
    assert os.readlink(f"/proc/{sluice.pid}/exe").endswith("(deleted)")
    sluice.ctl("upgrade")
    assert os.readlink(f"/proc/{sluice.pid}/exe") == program
    assert os.readlink(f"/proc/{sluice.gateway()}/exe") == program
    assert node.curl("http://203.0.113.7/")


def test_reloads_follow_an_upgrade(node):
    sluice = NodeSluice(node, policy(node))
    sluice.ctl("upgrade")
    generation = sluice.status()["generation"]
    sluice.write_policy(policy(node, POLICY.replace("[80, 8080]", "[80, 8081]")))
    eventually(lambda: sluice.status()["generation"] > generation, "the policy is followed")
    assert node.curl("http://203.0.113.7:8081/")
    assert node.curl("http://203.0.113.7:8080/") is None


def test_keys_of_issuers_are_carried_over(node):
    """The next gateway begins while the issuer is away."""
    said = {"status": 200}
    serve(node, 9190, lambda path: (said["status"], {}, jwks().encode()))
    guarded = POLICY.replace("routes: [", "routes: [{ listener: web, path: /tokens, upstream: origin, auth: [tokens] }, ")
    sluice = NodeSluice(node, policy(node, guarded + """
auth: { tokens: { jwt: { issuer: "https://idp.example", audience: [api], jwks: { url: "http://127.0.0.1:9190/keys", refresh: 1s } } } }
"""))

    def status(*options):
        return node.in_client("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *options, "http://203.0.113.7/tokens")

    bearer = ("-H", f"Authorization: Bearer {token()}")
    eventually(lambda: status(*bearer) not in ("401", "503"), "keys are fetched")
    served = status(*bearer)
    said["status"] = 500
    before = sluice.gateway()
    sluice.ctl("upgrade")
    assert sluice.gateway() != before
    assert status(*bearer) == served
    assert status() == "401"
    assert "keys are those that were known before" in sluice.output()
    os.kill(sluice.gateway(), 9)
    eventually(lambda: status(*bearer) == served, "after a crash too")


def test_a_reload_changes_the_number_of_workers(node):
    sluice = NodeSluice(node, policy(node))
    gateway = sluice.gateway()
    load = Load(node, http1, new_connections, layer4, websocket)
    for workers in (3, 1, 2):
        before = dict(load.done)
        sluice.write_policy(policy(node, POLICY.replace("workers: 2", f"workers: {workers}")))
        sluice.ctl("reload")
        status = sluice.status()
        assert status["policy"]["last_reload"]["ok"]
        assert len(status["workers"]) == workers, status["workers"]
        eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on")
    assert sluice.gateway() != gateway
    load.stop()
    assert load.failures == []
    eventually(lambda: sluice.metric("sluice_gateway_replacements_total") == 3, "counted")


def test_the_first_intercept_rule_comes_by_reload(node):
    guard_only = """
version: 1
state_dir: @STATE@
metrics: { bind: "127.0.0.1:9464" }
guard: { rules: [{ name: all, from: [10.71.0.0/24], action: count }] }
listeners: { web: { bind: "127.0.0.1:9999" } }
upstreams: { origin: { endpoints: ["10.72.0.2:8080"] } }
routes: [{ listener: web, upstream: origin }]
"""
    sluice = NodeSluice(node, policy(node, guard_only))
    gateway = sluice.gateway()
    assert "called from 10.71.0.2" in node.curl("http://10.72.0.2:8080/")
    sluice.write_policy(policy(node, guard_only + """
intercept: { output: [{ to: [10.72.0.0/16], ports: [8080], listener: web }],
             forward: [{ to: [10.72.0.0/16], ports: [8080], listener: web }] }
default_route: { forward: origin, output: origin }
"""))
    sluice.ctl("reload")
    assert "called from 10.72.0.1" in node.curl("http://10.72.0.2:8080/"), "through the gateway, which is not caught itself"
    assert sluice.gateway() == gateway
