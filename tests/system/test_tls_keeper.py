"""The keeper reads keys and the gateway does not: certificates over the death of a gateway."""
import os
import signal
import subprocess

import pytest

from certificates import Authority
from harness import HANG, SLUICE, Process, Scratch, Sluice, eventually

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: a network namespace of its own")


class Inside:
    """A network namespace and commands in it."""

    def __init__(self, scratch):
        self.name = f"sl-tls-{os.getpid()}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        scratch.closers.append(self.remove)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)

    # nsenter and not `ip netns exec`: the latter mounts a /sys without the BPF file system.
    def command(self, *words):
        return ["nsenter", f"--net=/run/netns/{self.name}", *words]

    def run(self, *words, stdin=b""):
        return subprocess.run(self.command(*words), capture_output=True, input=stdin, timeout=HANG)

    def remove(self):
        self.run(SLUICE, "cleanup")
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Kept(Sluice):
    def __init__(self, scratch, inside, policy):
        self.scratch, self.socket = scratch, f"{scratch.path}/kept.sock"
        self.policy = scratch.write("kept.yaml", policy)
        Process.__init__(self, scratch, "kept", inside.command(SLUICE, "run", "--policy", self.policy, "--socket", self.socket))
        eventually(self.ready, "sluice is ready")


def test_the_next_gateway_has_the_certificates_and_opens_the_last_ones_tickets():
    with Scratch() as scratch:
        inside, ca = Inside(scratch), Authority(scratch.path)
        pair, new = ca.issue("a.example"), ca.issue("a.example", file="new")
        os.chmod(pair.key, 0o400)
        sluice = Kept(scratch, inside, f"""version: 1
state_dir: {scratch.path}/state
workers: 1
logs: {{ access: {{ format: none }} }}
guard: {{ interfaces: [lo], rules: [{{ name: nobody, from: [192.0.2.1], action: count }}] }}
listeners: {{ web: {{ bind: "127.0.0.1:8443", tls: {{ certificates: [{{ cert: {pair.cert}, key: {pair.key} }}] }} }} }}
upstreams: {{ none: {{ endpoints: ["127.0.0.1:1"] }} }}
routes: [{{ listener: web, upstream: none }}]
""")
        request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        session = f"{scratch.path}/session"

        def ask(*more):
            return inside.run("openssl", "s_client", "-connect", "127.0.0.1:8443", "-servername", "a.example", "-ign_eof",
                              *more, stdin=request).stdout

        assert b"502 Bad Gateway" in ask("-sess_out", session)
        assert b"Reused, TLS" in ask("-sess_in", session)
        gateway = sluice.status()["gateway"]["pid"]
        os.kill(gateway, signal.SIGKILL)
        eventually(lambda: sluice.status()["gateway"]["pid"] not in (None, gateway) and sluice.status()["gateway"]["ready"],
                   "the next gateway")
        again = ask("-sess_in", session)
        assert b"Reused, TLS" in again and b"502 Bad Gateway" in again, again
        # And over an upgrade, which replaces the keeper's program and its gateway.
        sluice.ctl("upgrade", "--binary", SLUICE)
        eventually(lambda: sluice.status().get("upgrade", {}).get("state") == "done", "the upgrade")
        later = ask("-sess_in", session)
        assert b"Reused, TLS" in later and b"502 Bad Gateway" in later, later
        # Newer files reach the gateway without a reload of the policy.
        before = sluice.status()["generation"]
        shown = ask("-showcerts")
        os.replace(new.cert, pair.cert)
        os.replace(new.key, pair.key)
        eventually(lambda: ask("-showcerts").split(b"-----END")[0] != shown.split(b"-----END")[0], "the new certificate")
        assert sluice.status()["generation"] == before
