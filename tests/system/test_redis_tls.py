"""`rediss://`: limits of scope cluster over a real Redis under TLS; who it is, and who we are."""
import subprocess

import pytest

from certificates import Authority
from harness import HANG, SLUICE, Nginx, Process, curl, eventually, free_port
from test_tls import Front


class Redis(Process):
    def __init__(self, scratch, ca, pair, clients="no", name="redis"):
        self.port, self.ca, self.pair = free_port(), ca, pair
        config = scratch.write(f"{name}.conf", f"""
port 0
tls-port {self.port}
bind 127.0.0.1
tls-cert-file {pair.cert}
tls-key-file {pair.key}
tls-ca-cert-file {ca.cert}
tls-auth-clients {clients}
save ""
appendonly no
dir {scratch.path}
requirepass open-sesame
""")
        super().__init__(scratch, name, ["redis-server", config])
        eventually(lambda: "PONG" in self.cli("PING"), "redis answers")

    def cli(self, *words):
        return subprocess.run(["redis-cli", "-p", str(self.port), "--tls", "--cacert", self.ca.cert, "--cert", self.pair.cert,
                               "--key", self.pair.key, "--no-auth-warning", "-a", "open-sesame", *words],
                              capture_output=True, text=True, timeout=HANG, check=False).stdout


def front(scratch, url, tls):
    origin = Nginx(scratch)
    text = (f'cluster: {{ redis: {{ url: "{url}", password: open-sesame, tls: {{ {tls} }} }} }}\n'
            "limits: { all: { key: [route], scope: cluster, rate: 6/m, burst: 3 } }\n")
    return Front(scratch, "protocol: http", f'endpoints: ["127.0.0.1:{origin.port}"]', extra=text,
                 routes="[{ upstream: origin, limits: [all] }]")


def is_up(at):
    return [line for line in at.page().splitlines() if line.startswith("sluice_redis_up ")] == ["sluice_redis_up 1"]


def test_a_limit_is_counted_over_tls(scratch, ca):
    redis = Redis(scratch, ca, ca.issue("127.0.0.1"))
    at = front(scratch, f"rediss://127.0.0.1:{redis.port}/3", f"ca: {ca.cert}")
    eventually(lambda: is_up(at), "Redis is asked")
    statuses = [int(curl(f"http://127.0.0.1:{at.port}/")[2].split()[1]) for _ in range(6)]
    assert statuses == [200] * 3 + [429] * 3
    assert "sluice" in redis.cli("-n", "3", "KEYS", "*")
    # It comes back, and so do we.
    redis.stop()
    eventually(lambda: not is_up(at), "it is gone")
    port = redis.port
    again = Process(scratch, "redis-again", ["redis-server", f"{scratch.path}/redis.conf"])
    eventually(lambda: is_up(at), f"found again at {port}; it says {again.output()[-300:]}")


def test_by_name_and_with_a_certificate_of_our_own(scratch, ca):
    redis = Redis(scratch, ca, ca.issue("localhost", "127.0.0.1"), clients="yes")
    shown = ca.issue(cn="gateway")
    at = front(scratch, f"rediss://localhost:{redis.port}", f"ca: {ca.cert}, cert: {shown.cert}, key: {shown.key}")
    eventually(lambda: is_up(at), "Redis is asked")


@pytest.mark.parametrize("names, more, said", [
    (["other.example"], "", "mismatch"), (["127.0.0.1"], "sni: other.example", "mismatch"), (["127.0.0.1"], "ca: OTHER", "certificate")])
def test_anybody_else_is_not_believed(scratch, ca, names, more, said):
    stranger = Authority(scratch.path, "strangers")
    redis = Redis(scratch, ca, ca.issue(*names))
    tls = more.replace("OTHER", stranger.cert) if "ca:" in more else f"ca: {ca.cert}" + (", " + more if more else "")
    at = front(scratch, f"rediss://127.0.0.1:{redis.port}", tls)
    eventually(lambda: said in at.sluice.output(), "the log says why")
    assert not is_up(at)
    assert "open-sesame" not in at.sluice.output()


def test_tls_that_is_not_meant_is_an_error(scratch):
    path = scratch.write("bad.yaml", """version: 1
listeners: { web: {} }
cluster: { redis: { url: "redis://127.0.0.1:6379", tls: { verify: false } } }
""")
    done = subprocess.run([SLUICE, "check", "--policy", path], capture_output=True, text=True, timeout=HANG)
    assert done.returncode != 0 and "its URL is not under TLS" in done.stdout + done.stderr, done
