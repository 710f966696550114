"""The Debian package: installed by dpkg in a minimal Debian 12, upgraded, run with what its unit allows, purged.

It is made of the tree SLUICE_BUILD, whose binary is there: CPack gets what `cmake --install` puts where, so that nothing is
built. Not of a sanitized tree: what is tested is what users install.
"""
import json
import os
import pathlib
import re
import socket
import stat
import subprocess
import threading

import pytest

from debian_root import BUILD, HANG, Root, needs_root, run  # first: it says where the harness is
import netns
from ai_vendors import OpenAi
from harness import Process, Scratch
from harness import eventually as within

pytestmark = needs_root

# Beside what the package asks for: what its files are for.
READERS = ("bash-completion", "fish", "man-db", "systemd", "zsh")
# systemd-analyze's estimate, times ten: 0 (nothing is possible) to 100. It is 35; most of that is what a gateway is for, the host's
# network, and root as who holds the keeper's capabilities.
EXPOSURE = 36
NEW_VERSION = "9.0.0"
# What lintian may say, and why it stays.
LINTIAN_ACCEPTED = {
    "no-changelog",  # CHANGELOG.md is there, which is not in Debian's format
}


def make_package(scratch, version=None):
    """The package as a file, made by CPack's own generator."""
    stage, out = f"{scratch.path}/stage-{version}", f"{scratch.path}/packages-{version}"
    run("cmake", "--install", BUILD, "--prefix", "/usr", "--strip", env={**os.environ, "DESTDIR": stage})
    run("cpack", "-G", "DEB", "--config", BUILD / "CPackConfig.cmake", "-B", out, "-D", "CPACK_INSTALL_CMAKE_PROJECTS=",
        "-D", f"CPACK_INSTALLED_DIRECTORIES={stage};/", *(["-D", f"CPACK_PACKAGE_VERSION={version}"] if version else []))
    return next(pathlib.Path(out).glob("sluice_*.deb"))


def field(package, name):
    return run("dpkg-deb", "-f", package, name).stdout.strip()


@pytest.fixture(scope="module", name="scratch")
def made_scratch():
    with Scratch() as scratch:
        yield scratch


@pytest.fixture(scope="module")
def package(scratch):
    return make_package(scratch)


@pytest.fixture(scope="module", name="dependencies")
def asked_for(package):
    return [alternative.split()[0] for alternative in field(package, "Depends").split(",")]


def install(root, package):
    (root.path / "tmp" / package.name).write_bytes(package.read_bytes())
    return root.run("dpkg", "-i", f"/tmp/{package.name}")


# One for all tests, in the order of a package's life: the last one takes it away.
@pytest.fixture(scope="module", name="installed")
def with_package(package, dependencies):
    root = Root([*dependencies, *READERS])
    try:
        install(root, package)
        yield root
    finally:
        root.remove()


def unit(root):
    """The service's settings: name ─► all that is said of it, in order."""
    settings = {}
    for line in (root.path / "usr/lib/systemd/system/sluice.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            settings.setdefault(name, []).append(value)
    return settings


def ids(root):
    """(uid, gid) of the gateway's user in the root."""
    return tuple(int(root.run("id", flag, "sluice").stdout) for flag in ("-u", "-g"))


def mode_and_owner(path):
    status = path.lstat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def test_what_it_depends_on_is_in_debian_and_the_binary_runs_there(installed):
    assert re.search(r"^sluice \d+\.\d+\.\d+", installed.run("sluice", "--version").stdout)
    for policy in ("/etc/sluice", "/usr/share/doc/sluice/policies/proxy.yaml"):
        assert f"{policy}: good" in installed.run("sluice", "check", policy).stdout
    bill = json.loads((installed.path / "usr/share/doc/sluice/sluice.spdx.json").read_text())
    assert {"libssl3", "libbpf1"} <= {one["name"] for one in bill["packages"]}


def test_the_manual_is_rendered(installed):
    page = installed.run("man", "--warnings", "--encoding=UTF-8", "sluice")
    assert page.stderr == "" and "--user" in page.stdout and "sluice.sock" in page.stdout


def test_each_shell_completes_without_being_told(installed):
    bash = installed.run("bash", "-c", ". /usr/share/bash-completion/bash_completion; _completion_loader sluice;"
                                       "COMP_WORDS=(sluice rel); COMP_CWORD=1; _sluice; echo ${COMPREPLY[*]}")
    assert bash.stdout.split() == ["reload"], bash.stderr
    zsh = installed.run("zsh", "-c", "autoload -Uz compinit && compinit -u -d /tmp/dump; echo $_comps[sluice]; autoload +X _sluice && echo loads")
    assert zsh.stdout.split() == ["_sluice", "loads"], zsh.stderr
    fish = installed.run("fish", "-c", "complete -C 'sluice rel'")
    assert fish.stdout.split()[0] == "reload", fish.stderr


def test_the_gateway_has_a_user_who_owns_its_logs_alone(installed):
    line = installed.run("getent", "passwd", "sluice").stdout.strip().split(":")
    assert 100 <= int(line[2]) < 1000 and line[5] == "/nonexistent" and line[6].endswith("nologin")
    assert installed.run("id", "-Gn", "sluice").stdout.split() == ["sluice"], "of no other group"
    uid, gid = ids(installed)
    assert mode_and_owner(installed.path / "var/log/sluice")[:2] == (0o750, uid)
    assert installed.run("find", "/", "-xdev", "(", "-uid", uid, "-o", "-gid", gid, ")", "-not", "-path", "/proc/*").stdout.split() == ["/var/log/sluice"]


def test_systemd_takes_the_unit_and_finds_it_closed(installed):
    verified = installed.run("systemd-analyze", "verify", "/usr/lib/systemd/system/sluice.service", check=False)
    said = [line for line in (verified.stdout + verified.stderr).splitlines() if "sluice" in line]
    assert verified.returncode == 0 and said == [], verified.stderr
    rated = installed.run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}",
                          "/usr/lib/systemd/system/sluice.service", check=False)
    assert rated.returncode == 0, rated.stdout[-400:]


def test_what_lintian_says(package):
    said = run("lintian", "--allow-root", "--no-cfg", package, check=False).stdout
    errors = {line.split()[2] for line in said.splitlines() if line.startswith("E: ")}
    assert errors <= LINTIAN_ACCEPTED, said


# --- as the unit runs it --------------------------------------------------------------------------

POLICY = """version: 1
workers: 2
metrics: { bind: "127.0.0.1:9464" }
logs: { access: { path: /var/log/sluice/access.log, format: json } }
intercept: { local: [{ to: [203.0.113.0/24], ports: [80], listener: web }] }
guard:
  interfaces: ["lan*"]
  rules: [{ name: nobody, from: [10.71.0.99], action: drop }]
listeners: { web: {}, llm: { bind: "10.71.0.1:81" } }
upstreams: { app: { endpoints: ["10.72.0.2:8080"], sticky: { key: "file:/etc/sluice/sticky.key" } } }
auth: { issuer: { jwt: { jwks: { file: /etc/sluice/jwks.json } } } }
routes:
  - { listener: llm, ai: true }
  - { listener: web, path: /tokens, auth: [issuer], upstream: app }
  - { listener: web, upstream: app }
ai:
  providers: { openai: { base_url: "http://127.0.0.1:@VENDOR@", key: "file:/etc/sluice/openai.key" } }
  prices: /etc/sluice/prices
  audit: { path: /var/log/sluice/ai.jsonl }
"""
WITHOUT_KERNEL = """version: 1
metrics: { bind: "127.0.0.1:9464" }
listeners: { web: { bind: "10.71.0.1:80" } }
upstreams: { app: { endpoints: ["10.72.0.2:8080"] } }
routes: [{ upstream: app }]
"""
# ProtectSystem=strict, PrivateTmp, and who may be written to.
READ_ONLY = """
mount --rbind "$root" "$root"
mount -o remount,bind,ro "$root"
for path in {written}; do mount --bind "$root/$path" "$root/$path" && mount -o remount,bind,rw "$root/$path"; done
mount -t tmpfs tmpfs "$root/tmp"
mount -t bpf bpf "$root/sys/fs/bpf"
umask {umask}
"""
NET_RAW = 1 << 13
NUMBERS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8, "NET_BIND_SERVICE": 10, "NET_ADMIN": 12,
           "NET_RAW": 13, "PERFMON": 38, "BPF": 39}


def eventually(condition, what):
    return within(condition, what, HANG)


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)


class Service(Process):
    """ExecStart of the unit, with its user, capabilities, directories, umask, watchdog and notification socket."""

    def __init__(self, root, net):
        self.root, self.net, settings = root, net, unit(root)
        root.run("sh", "-c", "rm -rf /var/lib/sluice /run/sluice /run/notify /var/log/sluice/*")
        self.bounding = settings["CapabilityBoundingSet"][0].split()
        for kind, where in (("StateDirectory", "var/lib"), ("RuntimeDirectory", "run")):
            directory = root.path / where / settings[kind][0]
            directory.mkdir(exist_ok=True)
            directory.chmod(int(settings[f"{kind}Mode"][0], 8))
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(root.path / "run/notify"))
        self.heard = []
        threading.Thread(target=self.listen, daemon=True).start()
        written = ["var/lib/sluice", "run", *(path.lstrip("-/") for path in settings["ReadWritePaths"][0].split() if "bpf" not in path)]
        before = READ_ONLY.format(written=" ".join(written), umask=settings["UMask"][0])
        caps = ",".join(["-all", *("+" + name.removeprefix("CAP_").lower() for name in self.bounding)])
        assert settings["NoNewPrivileges"] == ["yes"] and "User" not in settings
        words = ["setpriv", f"--bounding-set={caps}", "--inh-caps=-all", "--no-new-privs", *settings["ExecStart"][0].split()]
        environment = ["env", "-i", "PATH=/usr/bin", "NOTIFY_SOCKET=/run/notify", "WATCHDOG_USEC=400000"]
        Process.__init__(self, net.scratch, "service", root.command(*environment, *words, namespace=net.node, before=before))
        eventually(self.ready, "the service is ready")

    def ready(self):
        if self.process.poll() is not None:
            pytest.fail(f"the service ended with {self.process.returncode}:\n{self.output()}")
        return "READY=1" in self.said()

    def listen(self):
        while True:
            self.heard.append(self.notices.recv(4096).decode())

    def said(self):
        """All that the service manager was told so far."""
        return "\n".join(self.heard)

    def inside(self, *words, check=True):
        """Runs words where the service is, as root or by setpriv as somebody else."""
        return run("nsenter", f"--target={self.pid}", "--mount", "--net", f"--root=/proc/{self.pid}/root", "--wd=/", "/usr/bin/env", "-i",
                   "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *words, check=check)

    def ctl(self, *words):
        """What a command says of the running service, which may be busy."""
        return eventually(lambda: json.loads(self.inside("sluice", *words, "--output", "json").stdout), f"sluice {words[0]} is answered")

    def as_gateway(self, *words):
        return self.inside("setpriv", "--reuid=sluice", "--regid=sluice", "--clear-groups", "--bounding-set=-all", *words, check=False)

    def gateway(self):
        return self.ctl("status")["gateway"]["pid"]


@pytest.fixture
def node():
    with Scratch() as scratch:
        net = netns.Net(scratch)
        net.nginx()
        yield net


def configure(root, policy, **files):
    for name, text in {"policy.yaml": policy, **files}.items():
        path = root.path / "etc/sluice" / name
        path.write_text(text)
        path.chmod(0o600)  # root's alone: what the gateway needs of them it is given


def is_gateway_user(pid, root):
    uid, gid = ids(root)
    process = status_of(pid)
    assert process["Uid"].split() == [str(uid)] * 4 and process["Gid"].split() == [str(gid)] * 4 and process["Groups"].strip() == ""
    for held in ("CapEff", "CapPrm", "CapBnd"):
        assert int(process[held], 16) == NET_RAW, held
    assert int(process["CapInh"], 16) == int(process["CapAmb"], 16) == 0 and process["NoNewPrivs"] == "1" and process["Seccomp"] == "2"


def ask(net, key):
    body = {"model": "up", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}
    return net.curl("http://10.71.0.1:81/v1/chat/completions", "-H", "content-type: application/json", "-H", f"authorization: Bearer {key}",
                    "-d", json.dumps(body), "-o", "/dev/stderr", "-w", "%{http_code}")


def requests_used(service):
    return json.loads(service.inside("sluice", "usage", "--output", "json").stdout)["total"]["requests"]


def test_what_the_unit_allows_suffices_and_the_gateway_is_nobody(installed, node):
    vendor = netns.Thread(node.node, lambda: OpenAi(node.scratch, "openai", key="secret")).result()
    configure(installed, POLICY.replace("@VENDOR@", str(vendor.port)),
              **{"openai.key": "secret\n", "sticky.key": "0123456789abcdef\n", "jwks.json": '{"keys": []}',
                 "prices": "up: { input: 1, output: 1 }\n"})
    service = Service(installed, node)
    key = service.inside("sluice", "keys", "create", "--name", "alice").stdout.strip().splitlines()[-1]

    gateway = service.gateway()
    is_gateway_user(gateway, installed)
    keeper = status_of(service.pid)
    allowed = sum(1 << NUMBERS[name.removeprefix("CAP_")] for name in service.bounding)
    assert keeper["Uid"].split() == ["0"] * 4 and int(keeper["CapEff"], 16) & ~allowed == 0 and keeper["NoNewPrivs"] == "1"

    # Traffic that is caught, that is refused by the guard, and that is paid for.
    assert "called from 10.72.0.1" in node.curl("http://203.0.113.7/")
    assert "sluice_endpoint=" in node.in_client("curl", "-sS", "-i", "--max-time", "5", "http://203.0.113.7/")
    assert node.curl("http://203.0.113.7/tokens", "-o", "/dev/null", "-w", "%{http_code}") == "401"
    node.in_client("ip", "address", "add", "10.71.0.99/24", "dev", "eth0")
    assert node.curl("http://203.0.113.7/", "--interface", "10.71.0.99", "--max-time", "1") is None
    drops = service.ctl("drops")
    assert [rule["dropped"] > 0 for rule in drops["rules"] if rule["rule"] == "nobody"] == [True]
    eventually(lambda: ask(node, key) == "200", "the key is known and a call is answered")
    eventually(lambda: requests_used(service) >= 1, "usage is written")

    # What the gateway wrote is its own, in places of its own.
    uid, gid = ids(installed)
    state, logs = installed.path / "var/lib/sluice", installed.path / "var/log/sluice"
    assert mode_and_owner(state) == (0o711, 0, 0)
    assert mode_and_owner(state / "gateway") == (0o770, 0, gid)
    assert mode_and_owner(state / "gateway/usage.db")[:2] == (0o600, uid)
    eventually(lambda: "203.0.113.7" in (logs / "access.log").read_text(), "the access log")
    eventually(lambda: "Hi" in (logs / "ai.jsonl").read_text(), "the audit log")
    assert mode_and_owner(logs / "access.log")[1] == mode_and_owner(logs / "ai.jsonl")[1] == uid
    assert {path.name for path in state.rglob("*") if path.lstat().st_uid == uid} <= {"usage.db", "usage.db-wal", "usage.db-shm"}

    # What the keeper trusts, the gateway's user can neither read nor replace.
    assert (state / "last-good.policy").exists() and (state / "keys.json").exists()
    for words in (("touch", "/var/lib/sluice/new"), ("ls", "/var/lib/sluice"), ("cat", "/var/lib/sluice/last-good.policy"),
                  ("cat", "/var/lib/sluice/keys.json"), ("ls", "/var/lib/sluice/history"), ("rm", "-f", "/var/lib/sluice/last-good.policy"),
                  ("mv", "/var/lib/sluice/gateway", "/var/lib/sluice/other"), ("cat", "/etc/sluice/openai.key"), ("touch", "/etc/sluice/x"),
                  ("ls", "/run/sluice"), ("ls", "/sys/fs/bpf/sluice")):
        assert service.as_gateway(*words).returncode != 0, words
    assert service.as_gateway("touch", "/var/lib/sluice/gateway/room").returncode == 0

    # A reload with secrets of another content, a gateway that is killed, and an upgrade change nothing of it.
    (installed.path / "etc/sluice/openai.key").write_text("other\n")
    vendor.key = "other"
    eventually(lambda: ask(node, key) == "200", "the new key is handed over")
    os.kill(gateway, 9)
    second = eventually(lambda: (pid := service.gateway()) not in (0, None, gateway) and pid, "the next gateway serves")
    is_gateway_user(second, installed)
    service.inside("sluice", "upgrade")
    third = eventually(lambda: (pid := service.gateway()) not in (0, None, second) and pid, "the new program's gateway serves")
    is_gateway_user(third, installed)
    before = requests_used(service)
    eventually(lambda: ask(node, key) == "200", "a call is answered")
    eventually(lambda: requests_used(service) > before, "and written down")
    assert "called from 10.72.0.1" in node.curl("http://203.0.113.7/")
    eventually(lambda: "WATCHDOG=1" in service.said().split("READY=1")[-1], "the watchdog is fed after the upgrade")
    page = node.in_node("curl", "-sS", "http://127.0.0.1:9464/metrics")
    assert re.search(r"^sluice_gateway_refused_system_calls_total 0$", page, re.M) and re.search(r"^sluice_ai_usage_writable 1$", page, re.M)
    assert not [line for line in service.output().splitlines() if line.split(" ")[0] in ("warn", "error") and "not permitted" in line], service.output()
    service.stop()
    eventually(lambda: "STOPPING=1" in service.said(), "the end is announced")


def test_a_policy_that_needs_no_kernel_is_served_by_nobody_as_well(installed, node):
    configure(installed, WITHOUT_KERNEL)
    service = Service(installed, node)
    is_gateway_user(service.gateway(), installed)
    assert "called from 10.72.0.1" in node.curl("http://10.71.0.1/")
    service.stop()
    assert subprocess.run(["test", "-e", f"/proc/{service.pid}"], check=False).returncode == 1


# --- its end ---------------------------------------------------------------------------------------

def test_an_upgrade_keeps_what_was_changed_and_a_purge_leaves_nothing(installed, scratch):
    policy = installed.path / "etc/sluice/policy.yaml"
    for path in {*policy.parent.iterdir()} - {policy}:
        path.unlink()  # the operator's own, of the tests before
    mine = policy.read_text() + "workers: 3\n"
    policy.write_text(mine)
    assert "/etc/sluice/policy.yaml" in installed.run("dpkg-query", "-W", "-f", "${Conffiles}", "sluice").stdout
    newer = make_package(scratch, NEW_VERSION)
    install(installed, newer)
    assert installed.run("dpkg-query", "-W", "-f", "${Version} ${Status}", "sluice").stdout == f"{NEW_VERSION} install ok installed"
    assert policy.read_text() == mine
    (installed.path / "var/lib/sluice/gateway").mkdir(parents=True, exist_ok=True)
    (installed.path / "var/log/sluice/access.log").write_text("{}")
    installed.run("dpkg", "-r", "sluice")
    assert policy.read_text() == mine and (installed.path / "var/log/sluice/access.log").exists()
    installed.run("dpkg", "-P", "sluice")
    for path in ("etc/sluice", "var/lib/sluice", "var/log/sluice", "usr/bin/sluice"):
        assert not (installed.path / path).exists(), path
    assert installed.run("getent", "passwd", "sluice", check=False).returncode == 2
    assert installed.run("getent", "group", "sluice", check=False).returncode == 2
