"""Named sets with the real binary: files in three formats, followed as they change; members at run time; a million."""
import json
import os
import random
import subprocess

import pytest

from harness import SLUICE, Scratch, Sluice, eventually, free_port

GUARD = """
version: 1
state_dir: {state}
sets:
  listed: {{ file: lists/listed.netset, format: netset }}
  watched: {{ elements: [192.0.2.0/24] }}
guard:
  interfaces: [none]
  rules: [{{ name: listed, from: {{ set: listed }} }}, {{ name: watched, from: [{{ set: watched }}], action: count }}]
"""
PLAIN = """
version: 1
state_dir: {state}
listeners: {{ web: {{ bind: "127.0.0.1:0" }} }}
sets: {{ listed: {{ file: lists/listed.netset, format: netset }} }}
"""


def in_namespace():
    """Of this process from here on: what the keeper does to the kernel is nobody else's business."""
    import ctypes
    if os.getuid() != 0:
        pytest.fail("needs root")
    assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000 | 0x20000) == 0  # NEWNET, NEWNS
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run("ip link set lo up; mount -t bpf bpf /sys/fs/bpf", shell=True, check=True)


@pytest.fixture(scope="module", autouse=True)
def namespace():
    in_namespace()


class Guarded:
    def __init__(self, scratch, text=GUARD, lists="198.51.100.0/24\n"):
        self.scratch = scratch
        os.makedirs(f"{scratch.path}/lists", exist_ok=True)
        if lists is not None:
            self.list(lists)
        self.policy = text.format(state=f"{scratch.path}/state")

    def list(self, text):
        self.scratch.write("lists/listed.netset", text)

    def start(self, name="sluice"):
        return Sluice(self.scratch, self.policy, name=name)


def sets(sluice):
    answer = json.loads(sluice.ctl("set", "list", "--output", "json").stdout)
    return {one["name"]: one for one in answer["sets"]}


def generation(sluice):
    return sluice.status()["generation"]


def kernel_prefixes(sluice):
    status = sluice.status()
    assert status["kernel_generation"] == status["generation"]
    return sets(sluice)["listed"]["prefixes"]


def test_a_changed_file_is_in_force_without_a_word():
    with Scratch() as scratch:
        guarded = Guarded(scratch)
        sluice = guarded.start()
        assert sets(sluice)["listed"]["prefixes"] == 1
        guarded.list("# more\n198.51.100.0/24\n203.0.113.5/24\n2001:db8::/32\n")
        eventually(lambda: kernel_prefixes(sluice) == 3, "the new list is in force")
        # In place, as `>` does it, too.
        with open(f"{scratch.path}/lists/listed.netset", "w") as file:
            file.write("198.51.100.0/24\n")
        eventually(lambda: kernel_prefixes(sluice) == 1, "the list in place is in force")
        # The same addresses in other words touch nothing.
        before = generation(sluice)
        guarded.list("198.51.100.0/25 # half\n198.51.100.128/25\n")
        sluice.ctl("reload")
        assert generation(sluice) == before


def test_a_broken_file_is_located_and_the_old_list_stays():
    with Scratch() as scratch:
        guarded = Guarded(scratch)
        sluice = guarded.start()
        guarded.list("198.51.100.0/24\n\n  nonsense\n")
        eventually(lambda: "listed.netset:3:3: error: `nonsense`" in sluice.output(), "the error is said")
        assert kernel_prefixes(sluice) == 1
        refused = sluice.ctl("reload", check=False)
        assert refused.returncode == 1 and "listed.netset:3:3" in refused.stdout + refused.stderr
        os.unlink(f"{scratch.path}/lists/listed.netset")
        eventually(lambda: "cannot read" in sluice.output(), "the missing file is said")
        assert kernel_prefixes(sluice) == 1
        guarded.list("198.51.100.0/24\n198.51.101.0/24\n198.51.103.0/24\n")
        eventually(lambda: kernel_prefixes(sluice) == 2, "it is followed again once it is good")


def test_check_locates_errors_in_sets():
    with Scratch() as scratch:
        guarded = Guarded(scratch, lists="10.0.0.0/8\n10.0.0.300\n")
        path = scratch.write("p.yaml", guarded.policy)
        done = subprocess.run([SLUICE, "check", path], capture_output=True, text=True)
        assert done.returncode == 1
        assert f"{scratch.path}/lists/listed.netset:2:1: error: `10.0.0.300` is not an address or prefix" in done.stderr


def test_members_are_in_force_at_once_survive_a_restart_and_end():
    with Scratch() as scratch:
        guarded = Guarded(scratch)
        sluice = guarded.start()
        assert "2 added to listed, in force" in sluice.ctl(
            "set", "add", "listed", "203.0.113.9", "2001:db8:7::/48", "--for", "1h", "--reason", "scans").stdout
        sluice.ctl("set", "add", "listed", "203.0.113.77", "--for", "2s")
        assert kernel_prefixes(sluice) == 4
        eventually(lambda: kernel_prefixes(sluice) == 3, "the short one ended by itself")
        shown = sluice.ctl("set", "list", "listed").stdout
        assert "203.0.113.9/32" in shown and "scans" in shown and "59m" in shown and "203.0.113.77" not in shown
        # A broken policy on disk is no hindrance, and does not come into force with the member.
        sluice.write_policy(guarded.policy + "nonsense: 1\n")
        eventually(lambda: "unknown key" in sluice.output(), "the policy is refused")
        sluice.ctl("set", "add", "listed", "203.0.113.10")
        assert kernel_prefixes(sluice) == 4
        sluice.write_policy(guarded.policy)
        sluice.stop()
        again = guarded.start("again")
        assert kernel_prefixes(again) == 4
        assert "1 deleted from listed" in again.ctl("set", "delete", "listed", "203.0.113.9").stdout
        assert kernel_prefixes(again) == 3
        # A last word on mistakes.
        for wrong, said in ((("set", "add", "lsited", "192.0.2.1"), "there is no set 'lsited'; known: listed, watched"),
                            (("set", "add", "listed", "0.0.0.0/0"), "every address"),
                            (("set", "add", "listed", "x"), "not an address"),
                            (("set", "nonsense"), "takes add, delete or list")):
            done = again.ctl(*wrong, check=False)
            assert done.returncode in (1, 2) and said in done.stderr, done


def test_without_a_keeper_too():
    with Scratch() as scratch:
        guarded = Guarded(scratch, PLAIN)
        guarded.policy = guarded.policy.replace("127.0.0.1:0", f"127.0.0.1:{free_port()}")
        sluice = guarded.start()
        assert sluice.status()["mode"] != "keeper"
        sluice.ctl("set", "add", "listed", "203.0.113.9")
        assert sets(sluice)["listed"]["prefixes"] == 2
        guarded.list("198.51.100.0/24\n198.51.102.0/24\n")
        eventually(lambda: sets(sluice)["listed"]["prefixes"] == 3, "the list is followed")


def test_the_last_good_policy_has_its_sets():
    with Scratch() as scratch:
        guarded = Guarded(scratch)
        guarded.start().stop()
        guarded.list("broken\n")
        again = guarded.start("again")
        assert "running the last good one" in again.output()
        assert sets(again)["listed"]["prefixes"] == 1


def test_a_million_addresses():
    with Scratch() as scratch:
        generator = random.Random(5)
        lines = {f"{a >> 24}.{a >> 16 & 255}.{a >> 8 & 255}.{a & 255}\n"
                 for a in (generator.randrange(0x01000000, 0xdf000000) for _ in range(1_000_000))}
        guarded = Guarded(scratch, lists="".join(lines))
        sluice = guarded.start()
        held = kernel_prefixes(sluice)
        assert 990_000 < held <= len(lines), "de-overlapped: neighbours became one"
        sluice.ctl("set", "add", "listed", "224.0.0.1")
        assert kernel_prefixes(sluice) == held + 1
