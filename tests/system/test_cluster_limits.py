"""Limits over three gateways in three namespaces, with a real Redis between them that is killed and started again."""
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from harness import HANG, Process, Sluice, eventually
from namespaces import Star, inside

GATEWAYS = 3
RATE, BURST = 300, 300
# policy/limits_cluster.h: twice a chunk (100 ms of the rate) for each gateway.
ERROR = 2 * GATEWAYS * RATE // 10


@pytest.fixture
def star():
    if os.getuid() != 0:
        pytest.skip("needs root for network namespaces")
    with Star("lim", GATEWAYS) as made:
        yield made


class Redis(Process):
    def __init__(self, scratch, star, secret, name="redis"):
        config = scratch.write(f"{name}.conf", f"""
port 6379
bind 0.0.0.0
protected-mode no
save ""
appendonly no
dir {scratch.path}
requirepass {secret}
""")
        super().__init__(scratch, name, inside(star.hub, "redis-server", config))
        self.star, self.secret = star, secret
        eventually(lambda: "PONG" in self.cli("PING"), "redis answers")

    def cli(self, *words):
        return subprocess.run(inside(self.star.hub, "redis-cli", "--no-auth-warning", "-a", self.secret, *words),
                              capture_output=True, text=True, timeout=HANG, check=False).stdout


class Gateway(Sluice):
    def __init__(self, scratch, star, index, policy):
        self.namespace = star.rim[index]
        super().__init__(scratch, policy, name=f"gateway{index}")

    def command(self, arguments):
        return inside(self.namespace, *arguments)

    def metric(self, name):
        page = subprocess.run(inside(self.namespace, "curl", "-sS", "--max-time", "5", "http://127.0.0.1:9464/metrics"),
                              capture_output=True, text=True, check=True).stdout
        found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.M)
        return float(found.group(1)) if found else None


def policy(scratch, index, limit, on_loss="share"):
    return f"""version: 1
state_dir: {scratch.path}/state{index}
workers: 2
metrics: {{ bind: "127.0.0.1:9464" }}
listeners: {{ web: {{ bind: "10.77.{index + 1}.2:8080" }} }}
upstreams: {{ origin: {{ endpoints: ["10.77.{index + 1}.1:8000"] }} }}
cluster: {{ redis: {{ url: "redis://10.77.{index + 1}.1:6379/2", password: "file:{scratch.path}/secret", on_loss: {on_loss} }} }}
limits: {{ all: {{ key: [route], scope: cluster, {limit} }} }}
routes: [{{ name: web, upstream: origin, limits: [all] }}]
"""


def origin(scratch, star):
    config = scratch.write("origin.conf", f"""
{"user root; " if os.getuid() == 0 else ""}daemon off; worker_processes 1; pid {scratch.path}/nginx.pid;
events {{ worker_connections 512; }}
http {{ access_log off; keepalive_requests 1000000; server {{ listen 0.0.0.0:8000; return 200 "ok\\n"; }} }}
""")
    Process(scratch, "origin", inside(star.hub, "nginx", "-c", config, "-e", f"{scratch.path}/error.log"))


def start_all(scratch, star, limit, on_loss="share"):
    scratch.write("secret", "open sesame\n".replace(" ", "-"))
    redis = Redis(scratch, star, "open-sesame")
    origin(scratch, star)
    gateways = [Gateway(scratch, star, i, policy(scratch, i, limit, on_loss)) for i in range(GATEWAYS)]
    for gateway in gateways:
        eventually(lambda g=gateway: g.metric("sluice_redis_up") == 1 and g.metric("sluice_redis_gateways") == GATEWAYS,
                   "every gateway knows of the others")
    return redis, gateways


def start_load(star, rate, seconds):
    script = os.path.join(os.path.dirname(__file__), "steady_load.py")
    addresses = [f"10.77.{i + 1}.2:8080" for i in range(GATEWAYS)]
    return subprocess.Popen(inside(star.hub, sys.executable, script, str(rate), str(seconds), *addresses),
                            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)


def excess(times, rate, burst):
    """How far over burst + rate * t it ever was, in any window."""
    worst, lowest = -burst, float("inf")
    for i, when in enumerate(times):
        level = i - rate * when
        lowest = min(lowest, level)
        worst = max(worst, level - lowest + 1 - burst)
    return worst


def let_in(seen, first, last):
    return sum(1 for when, _, status in seen if status == 200 and first <= when < last)


def offered(seen, first, last):
    return sum(1 for when, _, _ in seen if first <= when < last)


def test_three_gateways_hold_one_rate_while_redis_is_killed_and_started_again(scratch, star):
    redis, gateways = start_all(scratch, star, f"rate: {RATE}/s, burst: {BURST}")
    begun = time.monotonic()
    load = start_load(star, 200, 11)
    try:
        time.sleep(4)
        redis.stop(signal.SIGKILL)
        killed = time.monotonic() - begun
        eventually(lambda: all(g.metric("sluice_redis_up") == 0 for g in gateways), "every gateway notices")
        time.sleep(3)
        Redis(scratch, star, "open-sesame", name="redis-again")
        eventually(lambda: all(g.metric("sluice_redis_up") == 1 for g in gateways), "they come back by themselves")
        back = time.monotonic() - begun
        seen = json.loads(load.communicate(timeout=HANG + 15)[0])
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()
    assert {status for _, _, status in seen} == {200, 429}
    # A status is seen after it was decided: what one write held up comes in a heap. Windows of the clients' clock
    # are therefore a little wider than the gateways' own.
    times = [when for when, _, status in seen if status == 200]
    assert excess(times, RATE, BURST) <= ERROR
    for first, last in ((2, killed), (killed + 1, back - 0.5), (back + 2, seen[-1][0])):
        if last - first < 1:
            continue
        wanted = min(RATE * (last - first), offered(seen, first, last))
        assert let_in(seen, first, last) >= 0.7 * wanted, f"too few between {first:.1f} and {last:.1f} s"


def test_a_redis_that_is_too_slow_delays_nobody_and_the_sum_still_holds(scratch, star):
    """It takes connections and answers nothing: worse than one that is gone."""
    redis, gateways = start_all(scratch, star, f"rate: {RATE}/s, burst: {BURST}")
    begun = time.monotonic()
    load = start_load(star, 200, 9)
    try:
        time.sleep(3)
        redis.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic() - begun
        eventually(lambda: all(g.metric("sluice_redis_up") == 0 for g in gateways), "every gateway notices")
        time.sleep(3)
        redis.process.send_signal(signal.SIGCONT)
        going = time.monotonic() - begun
        eventually(lambda: all(g.metric("sluice_redis_up") == 1 for g in gateways), "they come back by themselves")
        seen = json.loads(load.communicate(timeout=HANG + 15)[0])
    finally:
        redis.process.send_signal(signal.SIGCONT)
        if load.poll() is None:
            load.kill()
            load.wait()
    assert {status for _, _, status in seen} == {200, 429}
    assert excess([when for when, _, status in seen if status == 200], RATE, BURST) <= ERROR
    first, last = stopped + 1, going
    assert let_in(seen, first, last) >= 0.7 * min(RATE * (last - first), offered(seen, first, last))


def test_a_rate_too_small_to_share_is_decided_in_redis(scratch, star):
    redis, gateways = start_all(scratch, star, "rate: 2/m, burst: 4", on_loss="deny")
    load = start_load(star, 10, 2)
    seen = json.loads(load.communicate(timeout=HANG)[0])
    assert sum(1 for _, _, status in seen if status == 200) == 4
    assert sum(g.metric("sluice_limit_decisions_total") for g in gateways) >= len(seen)
    assert "sluice:limit:all:" in redis.cli("-n", "2", "KEYS", "*")
    # deny: nobody comes in while Redis is away, also not on a key that Redis has never seen.
    redis.stop(signal.SIGKILL)
    eventually(lambda: all(g.metric("sluice_redis_up") == 0 for g in gateways), "every gateway notices")
    seen = json.loads(start_load(star, 10, 1).communicate(timeout=HANG)[0])
    assert {status for _, _, status in seen} == {429}
