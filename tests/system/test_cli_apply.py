"""apply, confirm, history, rollback: what is in force, what lies on disk, and who may change it."""
import json
import os
import subprocess

import pytest

import harness
from harness import Nginx, Sluice, curl, eventually, free_port


class Served:
    def __init__(self, scratch):
        self.scratch = scratch
        self.origins = {name: Nginx(scratch, name) for name in ("old", "new")}
        self.port = free_port()
        self.metrics = free_port()
        self.sluice = Sluice(scratch, self.policy("old"))

    def policy(self, origin):
        return f"""version: 1
state_dir: {self.scratch.path}/state
metrics: {{ bind: "127.0.0.1:{self.metrics}" }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
upstreams: {{ {origin}: {{ endpoints: ["127.0.0.1:{self.origins[origin].port}"] }} }}
routes: [{{ listener: web, upstream: {origin} }}]
"""

    def file(self, origin):
        return self.scratch.write(f"{origin}-candidate.yaml", self.policy(origin))

    def serves(self):
        return curl(f"http://127.0.0.1:{self.port}/")[1].split()[0].decode()

    def on_disk(self):
        with open(self.sluice.policy) as file:
            return "new" if "upstream: new" in file.read() else "old"

    def state(self):
        return self.sluice.status()["policy"]

    def drift_metric(self):
        page = curl(f"http://127.0.0.1:{self.metrics}/metrics")[1].decode()
        return next(line.split()[-1] for line in page.splitlines() if line.startswith("sluice_policy_differs_from_disk "))


@pytest.fixture
def served(scratch):
    return Served(scratch)


def hidden(scratch):
    return [name for name in os.listdir(scratch.path) if name.startswith(".sluice-new")]


def test_apply_is_in_force_and_on_disk(served, scratch):
    said = served.sluice.ctl("apply", served.file("new")).stdout
    assert said.startswith("in force, generation ") and served.sluice.policy in said
    assert (served.serves(), served.on_disk()) == ("new", "new")
    assert served.state()["differs_from_disk"] is False and hidden(scratch) == []


def test_an_unconfirmed_policy_goes_by_itself(served, scratch):
    served.sluice.ctl("apply", "--confirm", "2s", served.file("new"))
    assert (served.serves(), served.on_disk()) == ("new", "old")
    state = served.state()
    assert state["differs_from_disk"] is True and 0 <= state["unconfirmed_seconds"] <= 2
    assert "UNCONFIRMED" in served.sluice.ctl("status").stdout
    eventually(lambda: served.serves() == "old", "the old policy is back")
    assert served.on_disk() == "old" and served.state()["differs_from_disk"] is False
    assert "unconfirmed_seconds" not in served.state() and hidden(scratch) == []
    assert served.sluice.ctl("confirm", check=False).returncode == 1


def test_a_confirmed_policy_stays_and_is_written(served, scratch):
    served.sluice.ctl("apply", "--confirm", "60s", served.file("new"))
    assert served.drift_metric() == "1"
    again = served.sluice.ctl("apply", served.file("old"), check=False)
    assert again.returncode == 1 and "waits for `sluice confirm`" in again.stderr
    served.sluice.ctl("confirm")
    assert (served.serves(), served.on_disk()) == ("new", "new")
    eventually(lambda: served.drift_metric() == "0", "the metric says that disk and force agree")
    assert hidden(scratch) == []


def test_rollback_takes_an_unconfirmed_policy_back_at_once(served):
    served.sluice.ctl("apply", "--confirm", "600s", served.file("new"))
    assert served.serves() == "new"
    served.sluice.ctl("rollback")
    assert (served.serves(), served.on_disk()) == ("old", "old")


def test_a_killed_sluice_comes_back_with_what_was_confirmed(served):
    served.sluice.ctl("apply", "--confirm", "600s", served.file("new"))
    served.sluice.process.kill()
    served.sluice.process.wait()
    assert served.on_disk() == "old"
    served.sluice = Sluice(served.scratch, served.policy("old"))
    eventually(lambda: curl(f"http://127.0.0.1:{served.port}/")[1].startswith(b"old"), "the confirmed one serves")


def test_history_and_rollback_by_number(served):
    served.sluice.ctl("apply", served.file("new"))
    entries = json.loads(served.sluice.ctl("history", "--output", "json").stdout)["history"]
    assert [entry["in_force"] for entry in entries] == [True, False]
    assert "in force now" in served.sluice.ctl("history").stdout
    served.sluice.ctl("rollback")
    assert (served.serves(), served.on_disk()) == ("old", "old")
    served.sluice.ctl("rollback", str(entries[0]["number"]))
    assert (served.serves(), served.on_disk()) == ("new", "new")
    wrong = served.sluice.ctl("rollback", "4711", check=False)
    assert wrong.returncode == 1 and "no policy 4711" in wrong.stderr


def test_rollback_leaves_out_what_is_damaged(served):
    served.sluice.ctl("apply", served.file("new"))
    served.scratch.write("state/history/00000099.policy", "")  # as after a power cut
    served.sluice.ctl("rollback")
    assert (served.serves(), served.on_disk()) == ("old", "old")
    wrong = served.sluice.ctl("rollback", "99", check=False)
    assert wrong.returncode == 1 and "damaged" in wrong.stderr


def test_a_broken_policy_changes_nothing(served, scratch):
    broken = scratch.write("broken.yaml", served.policy("new").replace("endpoints", "endpionts"))
    done = served.sluice.ctl("apply", broken, check=False)
    assert done.returncode == 1 and "endpionts" in done.stderr
    assert (served.serves(), served.on_disk()) == ("old", "old") and hidden(scratch) == []


def test_a_policy_that_changes_on_disk_behind_our_back_is_told(served):
    # Only what is refused stays different: a good change is reloaded.
    served.sluice.write_policy(served.policy("new").replace("endpoints", "endpionts"))
    eventually(lambda: served.state()["last_reload"]["result"] == "refused", "the change was seen")
    assert served.state()["differs_from_disk"] is True
    assert "DIFFERS" in served.sluice.ctl("status").stdout


def test_a_file_that_goes_and_comes_back_as_it_was_is_in_force_again(served):
    moved = served.sluice.policy + ".away"
    os.rename(served.sluice.policy, moved)
    eventually(lambda: served.state()["last_reload"]["result"] == "refused", "that it is gone was seen")
    os.rename(moved, served.sluice.policy)
    eventually(lambda: served.state()["last_reload"]["result"] != "refused", "that it is back was seen")
    assert served.serves() == "old"


def test_a_read_only_policy_path_is_said_before_anything_changes(scratch):
    """Root writes anywhere but to a read-only mount: in a mount namespace of its own."""
    directory = os.path.join(scratch.path, "conf.d")
    os.makedirs(directory)
    served = Served.__new__(Served)
    served.scratch, served.port, served.metrics = scratch, free_port(), free_port()
    served.origins = {name: Nginx(scratch, name) for name in ("old", "new")}
    with open(f"{directory}/a.yaml", "w") as file:
        file.write(served.policy("old"))
    socket = scratch.path + "/s"
    process = harness.Process(scratch, "sluice", [
        "unshare", "-m", "sh", "-c",
        f"mount --bind {directory} {directory} && mount -o remount,ro,bind {directory} && "
        f"exec {harness.SLUICE} run --policy {directory} --socket {socket}"])
    eventually(lambda: "ready" in process.output(), "sluice is ready")
    done = subprocess.run([harness.SLUICE, "apply", served.file("new"), "--socket", socket], capture_output=True, text=True)
    assert done.returncode == 1 and "Read-only file system; change the policy where it comes from" in done.stderr
    assert served.serves() == "old"


def test_what_a_candidate_names_is_looked_for_beside_the_policy(served, scratch):
    os.mkdir(f"{scratch.path}/elsewhere")
    scratch.write("denied.txt", "192.0.2.0/24\n")
    body = served.policy("new").replace("upstream: new }]", "upstream: new, access: { deny: [{ set: denied }] } }]")
    candidate = scratch.write("elsewhere/candidate.yaml", body + "sets: { denied: { file: denied.txt } }\n")
    for command in ("plan", "apply"):
        assert served.sluice.ctl(command, candidate).returncode == 0
    assert (served.serves(), served.on_disk()) == ("new", "new")
    # What is wrong is said of the file that was given.
    scratch.write("elsewhere/candidate.yaml", body + "sets: { denied: { file: gone.txt } }\n")
    for command in ("plan", "apply"):
        refused = served.sluice.ctl(command, candidate, check=False)
        assert refused.returncode != 0
        assert f"{candidate}:7:" in refused.stderr and "gone.txt" in refused.stderr


def mounted(served, mount, name="mounted"):
    """Whose policy file is a mount of its own, as `docker run -v policy.yaml:/etc/…` has it."""
    served.sluice.stop()
    path = os.path.join(served.scratch.path, f"{name}.yaml")
    served.sluice = Sluice(served.scratch, served.policy("old"), name=name, command=[
        "unshare", "-m", "--propagation", "private", "sh", "-c", mount.format(path) + ' && exec "$0" "$@"'])


def test_a_policy_file_that_is_a_mount_is_written_as_it_stands(served, scratch):
    mounted(served, "mount --bind {0} {0}")
    served.sluice.ctl("apply", served.file("new"))
    assert (served.serves(), served.on_disk()) == ("new", "new")
    served.sluice.ctl("apply", "--confirm", "60s", served.file("old"))
    assert (served.serves(), served.on_disk()) == ("old", "new")
    served.sluice.ctl("confirm")
    assert (served.serves(), served.on_disk()) == ("old", "old")
    with open(served.sluice.policy) as file:
        assert file.read() == served.policy("old"), "no rest of a longer one"
    assert served.state()["differs_from_disk"] is False and hidden(scratch) == []


def refuses(served, why):
    for words in ([], ["--confirm", "60s"]):
        refused = served.sluice.ctl("apply", *words, served.file("new"), check=False)
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr
        assert (served.serves(), served.on_disk()) == ("old", "old")
        assert "unconfirmed_seconds" not in served.state() and hidden(served.scratch) == []


def test_a_policy_file_that_is_a_read_only_mount_is_refused_before_anything_changes(served):
    mounted(served, "mount --bind {0} {0} && mount -o remount,ro,bind {0}")
    refuses(served, "Read-only file system; change the policy where it comes from")


def test_an_immutable_policy_file_is_refused_before_anything_changes(served):
    done = subprocess.run(["chattr", "+i", served.sluice.policy], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no such attribute here: {done.stderr}")
    try:
        refuses(served, "is immutable")
    finally:
        subprocess.run(["chattr", "-i", served.sluice.policy], check=True)
