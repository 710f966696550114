"""systemd as process 1: a minimal Debian that is booted in namespaces of its own, without a container engine.

It has cgroups of its own and the network namespace that it is given; all of it ends with its process.
"""
import os
import pathlib

from debian_root import run
from harness import Process, eventually

# The hierarchies that systemd needs, as they are mounted here: one of version 2 alone, or beside it version 1's by the name systemd.
BOOT = """
set -e
root=$0
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
for place in run tmp dev; do mount -t tmpfs tmpfs "$root/$place"; done
for device in null zero full random urandom tty; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s /proc/self/fd "$root/dev/fd"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
{cgroups}
cd "$root"
pivot_root . mnt
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c 'umount -l /mnt; exec /lib/systemd/systemd --log-target=journal --show-status=0'
"""
V2_ALONE = 'mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"'
V2_BESIDE_V1 = """
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
"""


def hierarchies():
    """Where version 2 and version 1's hierarchy `systemd` (or None) are mounted."""
    v2, v1 = None, None
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        for line in mounts:
            place, (kind, _, options) = line.split()[4], line.split(" - ")[1].split()[:3]
            if kind == "cgroup2":
                v2 = v2 or place
            elif kind == "cgroup" and "name=systemd" in options:
                v1 = place
    assert v2, "no cgroup2 is mounted"
    return v2, v1


class Booted(Process):
    def __init__(self, scratch, root, namespace):
        self.root = root
        self.cgroups = [pathlib.Path(place) / f"sluice-test-{os.getpid()}" for place in hierarchies() if place]
        for cgroup in self.cgroups:
            cgroup.mkdir()
        scratch.closers.append(self.remove_cgroups)
        joins = "".join(f"echo $$ > {cgroup}/cgroup.procs; " for cgroup in self.cgroups)
        boot = BOOT.format(cgroups=V2_ALONE if len(self.cgroups) == 1 else V2_BESIDE_V1)
        super().__init__(scratch, "systemd", [
            "nsenter", f"--net=/run/netns/{namespace}", "bash", "-c", joins + 'exec "$@"', "bash",
            "unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--propagation", "private",
            "bash", "-c", boot, str(root.path)])
        eventually(self.is_running, "systemd has booted", 60)

    def init(self):
        """Process 1, as it is called outside."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        assert children, f"nothing is started yet:\n{self.output()}"
        return int(children[0])

    def is_running(self):
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def run(self, *words, check=True):
        target = self.init()
        return run("nsenter", f"--target={target}", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net", f"--root=/proc/{target}/root",
                   "--wd=/", "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb", *words, check=check)

    def show(self, unit, name):
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def journal(self, unit):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def remove_cgroups(self):
        for cgroup in self.cgroups:
            for path, _, _ in os.walk(cgroup, topdown=False):
                eventually(lambda path=path: os.rmdir(path) or True, f"{path} is empty")
