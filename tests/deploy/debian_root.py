"""What tests of an installation share: the build that they install, and a minimal Debian 12 in a directory of a test's own, made
once by mmdebstrap, kept below /var/tmp, unpacked for each test.

Every command runs in a mount namespace of its own, so that nothing stays mounted whatever happens.
"""
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SLUICE_BUILD", str(ROOT / "build/release"))).resolve()
os.environ["SLUICE"] = str(BUILD / "sluice")  # the system tests' harness, imported after this, runs it
sys.path.insert(0, str(ROOT / "tests/system"))

HANG = 120  # seconds: other tests build and soak meanwhile
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root: mounts and network namespaces")

KEPT = pathlib.Path(os.environ.get("SLUICE_KEPT_ROOTS", "/var/tmp/sluice-roots"))
MONTH = 30 * 24 * 3600  # then Debian may have fixed something


def run(*command, check=True, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def tarball(packages):
    """The file system of a minimal Debian with these packages, whose dependencies apt has resolved from bookworm."""
    wanted = sorted(set(packages))
    file = KEPT / f"bookworm-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:16]}.tar"
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(file.with_suffix(".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists() or time.time() - file.stat().st_mtime > MONTH:
            fresh = file.with_suffix(".new.tar")
            run("mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=APT::Sandbox::User \"root\"", f"--include={','.join(wanted)}", "bookworm", fresh)
            fresh.rename(file)
    return file


# What Debian's root of a container or a service has; the binary of a service asks for no more.
MOUNTS = """
set -e
root=$0
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
"""


class Root:
    def __init__(self, packages):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="sluice-root."))
        try:
            run("tar", "-C", self.path, "-xf", tarball(packages))
        except BaseException:
            self.remove()
            raise

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)

    def command(self, *words, namespace=None, before=""):
        """The command line that runs words in the root, and in a network namespace; `before` is shell that may mount."""
        inside = ["unshare", "--mount", "--propagation", "private", "bash", "-c", MOUNTS + before + '\nexec chroot "$root" "$@"', str(self.path)]
        net = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
        return [*net, *inside, *map(str, words)]

    def run(self, *words, check=True, **more):
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "TERM": "dumb", "HOME": "/root"}
        return run(*self.command(*words), check=check, env=clean, **more)
