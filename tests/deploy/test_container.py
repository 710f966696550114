"""The container image: built from the Dockerfile without a daemon or a registry, and run as Kubernetes is told to run it.

buildah builds in a store of the test's own (vfs, chroot isolation) on a Debian 12 that mmdebstrap made. The binary is that of
SLUICE_BUILD, by the Dockerfile's argument BINARY; all else is what users build. Not of a sanitized tree.
"""
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest
import yaml

from debian_root import BUILD, HANG, ROOT, needs_root, run, tarball  # first: it says where the harness is
import netns
from harness import Process, Scratch
from harness import eventually as within

pytestmark = needs_root

STATED = re.compile(r"The image holds .*?about (\d+) MB", re.S)  # docs/install.md
TOLERANCE = 0.25  # of it: libraries are updated, and a nightly build is not the release's


def libraries():
    """Debian's packages that the binary loads."""
    files = {os.path.realpath(path) for path in re.findall(r"(/\S+)", run("ldd", BUILD / "sluice").stdout)}
    owners = set()
    for file in files:
        for name in (file, file.removeprefix("/usr")):
            owner = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True, check=False)
            if owner.returncode == 0:
                owners.add(owner.stdout.split(":")[0])
                break
        else:
            pytest.fail(f"{file} is of no package")
    return sorted(owners)


class Store:
    """buildah with a place of its own."""

    def __init__(self, path):
        self.options = ["--root", f"{path}/store", "--runroot", f"{path}/run", "--storage-driver", "vfs"]
        self.environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": path, "XDG_RUNTIME_DIR": path}

    def __call__(self, *words):
        return run("buildah", *self.options, *words, env=self.environment).stdout.strip()


def context(path):
    """What the Dockerfile copies of a tree, and the binary as it is installed with its bill of materials."""
    shutil.copytree(ROOT / "deploy", path / "deploy")
    shutil.copy(BUILD / "sluice.spdx.json", path)
    run("strip", "-o", path / "sluice", BUILD / "sluice")
    return path


class Image:
    """The image's file system and configuration."""

    def __init__(self, scratch):
        path = pathlib.Path(scratch.path)
        self.store = Store(scratch.path)
        base = self.store("from", "scratch")
        self.store("add", "--quiet", base, tarball(["ca-certificates", *libraries()]), "/")
        self.store("commit", "--quiet", base, "localhost/debian:bookworm-slim")
        self.store("rm", base)
        (path / "context").mkdir()
        self.store("bud", "--quiet", "--pull-never", "--layers=false", "-f", "deploy/container/Dockerfile", "--build-arg", "BASE=localhost/debian:bookworm-slim",
                   "--build-arg", "BINARY=sluice", "-t", "localhost/sluice", str(context(path / "context")))
        self.container = self.store("from", "--pull-never", "localhost/sluice")
        self.root = pathlib.Path(self.store("mount", self.container))
        self.config = json.loads(self.store("inspect", "--type", "image", "localhost/sluice"))["OCIv1"]["config"]

    def files(self):
        return [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]


@pytest.fixture(scope="module")
def image():
    with Scratch() as scratch:
        yield Image(scratch)


def test_it_holds_one_program_and_no_shell(image):
    executable = {str(path.relative_to(image.root)) for path in image.files() if path.stat().st_mode & 0o111}
    assert {name for name in executable if "ld-linux" not in name} == {"usr/bin/sluice"}, executable
    assert not [path for path in image.files() if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert image.config["Entrypoint"] == ["/usr/bin/sluice"] and image.config["Cmd"][-2:] == ["--user", "sluice"]


def test_its_size_is_what_the_documentation_says(image):
    size = sum(path.stat().st_size for path in image.files()) / 1e6
    stated = int(STATED.search((ROOT / "docs/install.md").read_text()).group(1))
    assert abs(size - stated) <= TOLERANCE * stated, f"docs/install.md says {stated} MB, and it is {size:.1f} MB"


def test_its_bill_of_materials_names_the_libraries_that_are_in_it(image):
    bill = json.loads((image.root / "usr/share/doc/sluice/sluice.spdx.json").read_text())
    names = {one["SPDXID"]: one["name"] for one in bill["packages"]}
    linked = {names[one["relatedSpdxElement"]] for one in bill["relationships"] if one["relationshipType"] == "DYNAMIC_LINK"}
    held = [path for path in image.files() if ".so" in path.name]
    owners = {}
    for path in held:
        name = "/" + str(path.relative_to(image.root))
        said = run("dpkg", "-S", name, check=False).stdout or run("dpkg", "-S", name.removeprefix("/usr"), check=False).stdout
        # A library of another patch level than this machine's has another file name, but its link's name is the same.
        owners[name] = said.split(":")[0]
    assert len(held) > 10 and set(owners.values()) <= linked, owners
    assert linked <= set(owners.values()), "what is named is there"


# --- as Kubernetes runs it ------------------------------------------------------------------------

NUMBERS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8, "NET_BIND_SERVICE": 10, "NET_ADMIN": 12,
           "NET_RAW": 13, "PERFMON": 38, "BPF": 39}
KNOWN = 41  # capabilities of Linux 5.9 and later
NET_RAW = 1 << NUMBERS["NET_RAW"]
POLICY = """version: 1
metrics: { bind: "127.0.0.1:9464" }
logs: { access: { path: stdout, format: json } }
intercept: { local: [{ to: [203.0.113.0/24], ports: [80], listener: web }] }
guard:
  interfaces: ["lan*"]
  rules: [{ name: nobody, from: [10.71.0.99], action: drop }]
listeners: { web: {}, plain: { bind: "10.71.0.1:80" } }
upstreams: { app: { endpoints: ["10.72.0.2:8080"] } }
routes: [{ listener: web, upstream: app }, { listener: plain, upstream: app }]
"""
MOUNTS = """
set -e
root=$0
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
for path in etc/sluice var/lib/sluice run/sluice run/sluice-node; do mount --bind "{volumes}/$path" "$root/$path"; done
mount -o remount,bind,ro "$root/etc/sluice"
mount -t tmpfs tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
exec "$@"
"""


def pod():
    """The container of the DaemonSet."""
    return yaml.safe_load((ROOT / "deploy/kubernetes/base/daemonset.yaml").read_text())["spec"]["template"]["spec"]["containers"][0]


class Pod(Process):
    """The image's program with the DaemonSet's arguments, mounts, capabilities and read-only root."""

    def __init__(self, image, net):
        container = pod()
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and security["capabilities"]["drop"] == ["ALL"] and not security["allowPrivilegeEscalation"]
        assert {one["mountPath"] for one in container["volumeMounts"]} == {"/etc/sluice", "/sys/fs/bpf", "/var/lib/sluice", "/run/sluice", "/run/sluice-node", "/tmp"}
        self.image, self.net = image, net
        self.added = security["capabilities"]["add"]
        volumes = pathlib.Path(net.scratch.path) / "volumes"
        for path in ("etc/sluice", "var/lib/sluice", "run/sluice", "run/sluice-node"):
            (volumes / path).mkdir(parents=True)
        (volumes / "etc/sluice/policy.yaml").write_text(POLICY)
        for path in ("proc", "sys", "run/sluice-node"):  # a runtime makes them in its own layer
            (image.root / path).mkdir(exist_ok=True)
        dropped = ",".join(str(number) for number in range(KNOWN) if number not in {NUMBERS[name] for name in self.added})
        environment = ["env", "-i", *image.config["Env"]]
        start = ["capsh", f"--chroot={image.root}", "--no-new-privs", "--noamb", "--inh=", f"--drop={dropped}",
                 f"--shell={image.config['Entrypoint'][0]}", "--", *container["args"]]
        Process.__init__(self, net.scratch, "pod", [
            "nsenter", f"--net=/run/netns/{net.node}", "unshare", "--mount", "--propagation", "private", "bash", "-c",
            MOUNTS.format(volumes=volumes), str(image.root), *environment, shutil.which("env"), f"PATH={os.environ['PATH']}", *start])
        eventually(self.ready, "the pod is ready")

    def ready(self):
        if self.process.poll() is not None:
            pytest.fail(f"it ended with {self.process.returncode}:\n{self.output()}")
        return re.search(r"\bready\b", self.output())

    def ctl(self, *words):
        """What a command says of the running program, which may be busy."""
        return eventually(lambda: json.loads(self.inside("/usr/bin/sluice", *words, "--output", "json")), f"sluice {words[0]} is answered")

    def inside(self, *words):
        return run("nsenter", f"--target={self.pid}", "--mount", "--net", f"--root=/proc/{self.pid}/root", "--wd=/", *words).stdout


def eventually(condition, what):
    return within(condition, what, HANG)


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)


@pytest.fixture
def node():
    with Scratch() as scratch:
        net = netns.Net(scratch)
        net.nginx()
        yield net


def test_it_runs_in_the_builder(image):
    done = image.store("run", "--isolation", "chroot", image.container, "/usr/bin/sluice", "--version")
    assert re.match(r"sluice \d+\.\d+\.\d+", done)


def test_it_serves_and_guards_with_what_kubernetes_gives_it(image, node):
    it = Pod(image, node)
    assert "good" in it.inside("/usr/bin/sluice", "check", "/etc/sluice")
    running = it.ctl("status")  # as the probes do
    gateway = status_of(running["gateway"]["pid"])
    assert gateway["Uid"].split() == gateway["Gid"].split() == ["65532"] * 4 and gateway["Groups"].strip() == ""
    assert int(gateway["CapEff"], 16) == int(gateway["CapBnd"], 16) == NET_RAW and gateway["NoNewPrivs"] == "1"
    keeper = status_of(it.pid)
    assert int(keeper["CapEff"], 16) & ~sum(1 << NUMBERS[name] for name in it.added) == 0

    assert "called from 10.72.0.1" in node.curl("http://203.0.113.7/")
    assert "called from 10.72.0.1" in node.curl("http://10.71.0.1/")
    node.in_client("ip", "address", "add", "10.71.0.99/24", "dev", "eth0")
    assert node.curl("http://10.71.0.1/", "--interface", "10.71.0.99", "--max-time", "1") is None
    drops = it.ctl("drops")
    assert [rule["dropped"] > 0 for rule in drops["rules"] if rule["rule"] == "nobody"] == [True]
    eventually(lambda: "203.0.113.7" in it.output(), "the access log on standard output")
    it.inside(*pod()["lifecycle"]["preStop"]["exec"]["command"])
    assert it.stop() == 0
