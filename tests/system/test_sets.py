"""Named sets with the real binary: files in three formats, followed as they change; members at run time; a million."""
import json
import os
import random
import subprocess

import pytest

from harness import SLUICE, Scratch, Sluice, eventually, free_port
from scripted import Proxy

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


LISTS = """
sets:
  listed: { file: lists/listed.netset, format: netset }
  other: { file: lists/other.netset, format: netset }
"""
GUARDED = "guard: { interfaces: [lo], rules: [{ name: listed, from: { set: listed } }, { name: other, from: { set: other } }] }\n"
KEPT = "sets.listed keeps what it had: "


def stale(proxy):
    return {labels["set"]: value for name, labels, value in proxy.metrics().samples if name == "sluice_set_stale"}


@pytest.mark.parametrize("kernel", ["", GUARDED], ids=["one process", "keeper"])
def test_a_bad_file_keeps_its_set_as_it_was_and_holds_up_nothing_else(scratch, kernel):
    os.makedirs(f"{scratch.path}/lists")
    scratch.write("lists/listed.netset", "198.51.100.0/24\n")
    scratch.write("lists/other.netset", "203.0.113.1\n")
    proxy = Proxy(scratch, [9], extra=LISTS + kernel)
    limited = proxy.policy_text(route="limits: [few]", extra=LISTS + kernel + "limits: { few: { rate: 5/s } }\n")

    def prefixes():
        return {name: one["prefixes"] for name, one in sets(proxy).items()}

    def is_limited():
        return any(labels.get("limit") == "few" for _, labels, _ in proxy.metrics().samples)

    assert prefixes() == {"listed": 1, "other": 1} and not is_limited()
    eventually(lambda: stale(proxy) == {"listed": 0, "other": 0}, "all files are good")

    # By itself.
    scratch.write("lists/listed.netset", "192.0.2.1\n192.0.2.3\n\n  nonsense\nmore\n")
    place = f"{scratch.path}/lists/listed.netset:4:3: "
    eventually(lambda: f"{place}warning: {KEPT}`nonsense` is not an address or prefix, and 1 more (" in proxy.output(), "the log says it")
    eventually(lambda: stale(proxy) == {"listed": 1, "other": 0}, "the gauge says it")
    assert prefixes() == {"listed": 1, "other": 1}
    # What else changes is in force: another list, a member, the policy.
    scratch.write("lists/other.netset", "203.0.113.1\n203.0.113.3\n")
    eventually(lambda: prefixes() == {"listed": 1, "other": 2}, "the other list is in force")
    proxy.ctl("set", "add", "listed", "198.51.101.1")
    proxy.write_policy(limited)
    again = proxy.ctl("reload")
    assert f"{place}warning: {KEPT}`nonsense`" in again.stderr and "generation" in again.stdout
    eventually(is_limited, "the policy is in force")
    assert prefixes() == {"listed": 2, "other": 2} and stale(proxy) == {"listed": 1, "other": 0}
    status = proxy.status()
    assert status["policy"]["last_reload"]["ok"] and status["policy"]["last_reload"]["diagnostics"][0]["line"] == 4
    assert [one for one in status["warnings"] if one.startswith(f"{place}{KEPT}")], status["warnings"]
    assert f"warning: {place}{KEPT}" in proxy.ctl("status").stdout
    assert "what it had stays" in proxy.ctl("set", "list").stdout and place in proxy.ctl("set", "list", "listed").stdout
    if kernel:  # the next program has what runs, and looks at the disk itself
        said = proxy.output().count(f"{place}warning: {KEPT}")
        proxy.ctl("upgrade")
        eventually(lambda: proxy.output().count(f"{place}warning: {KEPT}") > said, "it is told anew")
        eventually(lambda: stale(proxy) == {"listed": 1, "other": 0}, "the gauge says it still")
        assert prefixes() == {"listed": 2, "other": 2} and is_limited()
    # Operators are told of errors as before, and what they bring is not put in force; but to go back is in a hurry.
    for command in ("plan", "apply"):
        refused = proxy.ctl(command, proxy.policy, check=False)
        assert refused.returncode == 1 and f"{place}error: `nonsense`" in refused.stdout + refused.stderr, refused
    assert f"{place}warning: {KEPT}" in proxy.ctl("rollback").stderr
    eventually(lambda: not is_limited(), "the policy before is in force")
    # A policy that is wrong itself is refused, with all that is wrong.
    proxy.write_policy(limited.replace("rate: 5/s", "rate: nonsense"))
    refused = proxy.ctl("reload", check=False)
    assert refused.returncode == 1 and "proxy.yaml:" in refused.stderr and place in refused.stderr, refused
    proxy.write_policy(proxy.policy_text())

    os.unlink(f"{scratch.path}/lists/listed.netset")
    eventually(lambda: f"warning: {KEPT}cannot read {scratch.path}/lists/listed.netset: No such file" in proxy.output(), "that it is gone is said")
    assert prefixes() == {"listed": 2, "other": 2} and stale(proxy) == {"listed": 1, "other": 0}
    scratch.write("lists/listed.netset", "192.0.2.1\n192.0.2.3\n192.0.2.5\n")
    eventually(lambda: prefixes() == {"listed": 4, "other": 2}, "it is followed again once it is good")
    assert "the file of a set is good again" in proxy.output()
    eventually(lambda: stale(proxy) == {"listed": 0, "other": 0}, "the gauge says so")
    assert not [one for one in proxy.status()["warnings"] if KEPT in one]
    assert proxy.ctl("reload").stderr == ""


def test_a_set_whose_file_is_bad_when_a_policy_names_it_first_is_an_error():
    with Scratch() as scratch:
        guarded = Guarded(scratch)
        sluice = guarded.start()
        scratch.write("lists/new.netset", "nonsense\n")
        sluice.write_policy(guarded.policy.replace("sets:", "sets:\n  new: { file: lists/new.netset }"))
        eventually(lambda: "lists/new.netset:1:1: error: `nonsense`" in sluice.output(), "it never had anything to keep")
        assert list(sets(sluice)) == ["listed", "watched"]
        scratch.write("lists/new.netset", "192.0.2.9\n")
        eventually(lambda: list(sets(sluice)) == ["new", "listed", "watched"], "and is followed all the same")


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
        # From there on as at any reload: what else lies on disk counts.
        again.write_policy(guarded.policy.replace("192.0.2.0/24", "192.0.2.0/24, 203.0.113.0/24"))
        eventually(lambda: sets(again)["watched"]["prefixes"] == 2, "the policy on disk is in force")
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
