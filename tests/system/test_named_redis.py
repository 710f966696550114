"""The Redis of `cluster` by name: the kernel spares it where the gateway found it, as it spares upstreams."""
import json
import os
import subprocess

import pytest

from harness import HANG, SLUICE

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: namespaces of its own")

POLICY = """version: 1
state_dir: {path}/state
workers: 1
logs: {{ access: {{ format: none }} }}
cluster: {{ redis: {{ url: "redis://redis.test:6379" }} }}
guard: {{ interfaces: [v0], rules: [{{ name: x, from: [192.0.2.0/24] }}] }}
listeners: {{ web: {{ bind: "127.0.0.1:8080" }} }}
upstreams: {{ o: {{ endpoints: ["127.0.0.1:8000"] }} }}
limits: {{ all: {{ key: [client_ip], scope: cluster, rate: 1000/s }} }}
routes: [{{ upstream: o, limits: [all] }}]
"""

# In network and mount namespaces that go with the shell: their own resolv.conf and BPF file system.
SCRIPT = """
cd {path}
ip link set lo up
ip link add v0 type veth peer name v1; ip address add 10.99.0.1/24 dev v0; ip link set v0 up; ip link set v1 up
echo nameserver 127.0.0.1 > resolv.conf; mount --bind resolv.conf /etc/resolv.conf
mount -t bpf bpf /sys/fs/bpf
dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --listen-address=127.0.0.1 --bind-interfaces --user=root \\
  --pid-file= --log-facility=- --host-record=redis.test,10.99.0.5 > dns.log 2>&1 &
dns=$!
{sluice} run --policy policy.yaml --socket sock > sluice.log 2>&1 &
sluice=$!
for i in $(seq {tries}); do
  {sluice} status --socket sock --output json > status.json 2> /dev/null && grep -q 10.99.0.5 status.json && break
  sleep 0.1
done
for i in $(seq {tries}); do  # the keeper asks about once a second
  {sluice} ban 10.99.0.5 --socket sock > refused 2>&1 || break
  {sluice} unban 10.99.0.5 --socket sock > /dev/null
  sleep 0.1
done
{sluice} ban 10.99.0.6 --socket sock > banned 2>&1
{sluice} bans --socket sock --output json > bans.json
kill $sluice; wait $sluice
{sluice} cleanup > /dev/null 2>&1
kill $dns; wait
"""


def test_it_cannot_be_banned(scratch):
    scratch.write("policy.yaml", POLICY.format(path=scratch.path))
    script = scratch.write("script", SCRIPT.format(path=scratch.path, sluice=SLUICE, tries=HANG * 5))
    subprocess.run(["unshare", "--net", "--mount", "sh", script], capture_output=True, timeout=HANG * 3)

    def said(name):
        with open(os.path.join(scratch.path, name)) as file:
            return file.read()
    assert json.loads(said("status.json"))["redis"] == [{"host": "redis.test", "connected": False, "address": "10.99.0.5:6379"}]
    assert "10.99.0.5 is not banned" in said("refused"), said("sluice.log")
    assert [ban["address"] for ban in json.loads(said("bans.json"))["bans"]] == ["10.99.0.6/32"], said("bans.json")
