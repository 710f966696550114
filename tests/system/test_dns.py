"""Upstreams by name, with a real DNS server (dnsmasq) that is killed, restarted and changed."""
import threading
import time

import pytest

from harness import HANG, Nginx, Process, curl, eventually, free_port
from scripted import Origin, serving
from test_upstreams import Proxy


class Dns:
    """dnsmasq on a port of its own, which knows just these records. local-ttl: of SRV."""

    def __init__(self, scratch):
        self.scratch, self.port, self.count, self.process = scratch, free_port(), 0, None

    def start(self, *records):
        self.stop()
        self.count += 1
        self.process = Process(self.scratch, f"dnsmasq-{self.count}", [
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--port={self.port}", "--no-resolv", "--no-hosts",
            "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file=", "--local-ttl=1", "--log-facility=-",
            "--log-queries", "--local=/test/", *records])
        eventually(lambda: "started" in self.process.output(), "dnsmasq runs")
        return self

    def stop(self):
        if self.process:
            self.process.stop()
        self.process = None

    def questions(self):
        return self.process.output().count("query[")


def host(*addresses, ttl=1, name="api.test"):
    return f"--host-record={name},{','.join(addresses)},{ttl}"


def by_name(dns, more=""):
    return f', dns: {{ resolvers: ["127.0.0.1:{dns.port}"], min_ttl: 200ms, timeout: 200ms }} {more}'


@pytest.fixture
def dns(scratch):
    return Dns(scratch)


@pytest.fixture
def origins(scratch):
    """Two on one port, at addresses of their own."""
    port = free_port()
    return [Nginx(scratch, f"origin-{i}", port=port, address=f"127.0.0.{i}") for i in (2, 3)]


def name(origins):
    return [f'{{ dns: "api.test:{origins[0].port}" }}']


def test_addresses_follow_the_records(scratch, dns, origins):
    """apache/apisix#10422, #13141, #13282: no request and no probe for what is no longer there."""
    dns.start(host("127.0.0.2"))
    check = "health_check: { http: /, interval: 100ms, timeout: 100ms }"
    proxy = Proxy(scratch, name(origins), by_name(dns, f", {check}"))
    assert {proxy.get()[1] for _ in range(5)} == {"origin-2"}
    dns.start(host("127.0.0.3"))
    eventually(lambda: proxy.get()[1] == "origin-3", "the new record is used")
    assert {proxy.get()[1] for _ in range(10)} == {"origin-3"}
    assert list(proxy.endpoints()) == [f"127.0.0.3:{origins[0].port}"]
    eventually(lambda: f"127.0.0.2:{origins[0].port}" not in proxy.page(), "series of the old address have gone")
    assert proxy.metric("sluice_upstream_endpoints") == 1


def test_the_last_good_answer_holds_and_recovery_is_by_itself(scratch, dns, origins):
    """apache/apisix#12973, #10093; Kong/kong#10003, #7473."""
    dns.start(host("127.0.0.2"))
    proxy = Proxy(scratch, name(origins), by_name(dns))
    assert proxy.get()[1] == "origin-2"
    dns.stop()
    eventually(lambda: proxy.metric('sluice_dns_lookups_total{name="api.test",type="A",result="failed"}') >= 2, "DNS is missed")
    assert [proxy.get()[:2] for _ in range(5)] == [(200, "origin-2")] * 5
    proxy.sluice.write_policy(proxy.policy(name(origins), by_name(dns, ", slow_start: 1s")))
    proxy.sluice.ctl("reload")  # a reload during the outage forgets nothing
    assert [proxy.get()[:2] for _ in range(5)] == [(200, "origin-2")] * 5
    dns.start(host("127.0.0.3"))
    eventually(lambda: proxy.get()[1] == "origin-3", "DNS is back")
    assert "answers again" in proxy.sluice.output()


def test_a_reload_that_changes_whom_to_ask_forgets_nothing(scratch, dns, origins):
    """What an operator does while DNS is away: more patience, another server."""
    dns.start(host("127.0.0.2"))
    proxy = Proxy(scratch, name(origins), by_name(dns, ", queue_timeout: 0s"))
    eventually(lambda: all(proxy.metric(f'sluice_dns_lookups_total{{name="api.test",type="{kind}",result="answered"}}') for kind in ("A", "AAAA")),
               "the name is resolved")
    assert proxy.get()[1] == "origin-2"
    dns.stop()
    other = by_name(dns, ", queue_timeout: 0s").replace("resolvers: [", f'resolvers: ["127.0.0.1:{free_port()}", ').replace("timeout: 200ms", "timeout: 250ms")
    for _ in range(2):
        for upstream in (other, by_name(dns, ", queue_timeout: 0s")):
            proxy.reload(name(origins), upstream)
            assert [proxy.get()[:2] for _ in range(3)] == [(200, "origin-2")] * 3
    dns.start(host("127.0.0.3"))
    eventually(lambda: proxy.get()[1] == "origin-3", "DNS is back")


def test_a_start_without_dns_recovers(scratch, dns, origins):
    proxy = Proxy(scratch, name(origins), by_name(dns, ", queue_timeout: 200ms"))
    status, _, _ = proxy.get()
    assert status == 503
    dns.start(host("127.0.0.2"))
    eventually(lambda: proxy.get()[:2] == (200, "origin-2"), "the name is resolved")


def test_requests_wait_for_the_first_answer(scratch, dns, origins):
    proxy = Proxy(scratch, name(origins), by_name(dns, ", queue_timeout: 15s"))
    answers = []
    client = threading.Thread(target=lambda: answers.append(proxy.get()[:2]))
    client.start()
    eventually(lambda: proxy.metric("sluice_upstream_pending_requests") == 1, "it waits")
    dns.start(host("127.0.0.2"))
    client.join(HANG)
    assert answers == [(200, "origin-2")]


@pytest.mark.parametrize("records, more, served", [([], "", 0), ([host("127.0.0.2")], ", circuit_breakers: { requests: 1 }", 1)],
                         ids=["no such name", "over the bound"])
def test_who_waited_and_is_refused_waits_no_more(scratch, dns, records, more, served):
    release = threading.Event()
    scratch.closers.append(release.set)
    port = free_port()
    origin = Origin(scratch, lambda peer, _: peer.head() and release.wait(HANG) and peer.answer(b"late "), port, "127.0.0.2")
    proxy = Proxy(scratch, [f'{{ dns: "api.test:{port}" }}'], by_name(dns, f", queue_timeout: 4s{more}"), workers=1)
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(proxy.get()[0])) for _ in range(3)]
    for client in clients:
        client.start()
    eventually(lambda: proxy.metric("sluice_upstream_pending_requests") == 3, "they wait")
    dns.start(*records)
    eventually(lambda: len(answers) == 3 - served, "the others are refused")
    assert proxy.metric("sluice_upstream_pending_requests") == 0
    time.sleep(4)  # nothing of them is left that could time out
    release.set()
    for client in clients:
        client.join(HANG)
    assert sorted(answers) == [200] * served + [503] * (3 - served)
    assert origin.accepted == served and proxy.get()[0] == (200 if served else 503)


def test_no_such_name_must_be_said_more_than_once(scratch, dns, origins):
    dns.start(host("127.0.0.2"))
    proxy = Proxy(scratch, name(origins), by_name(dns, ", queue_timeout: 0s"))
    assert proxy.get()[1] == "origin-2"
    dns.start()  # authoritative: there is no such name
    eventually(lambda: proxy.metric("sluice_upstream_endpoints") == 0, "the endpoints go in the end")
    assert dns.questions() >= 3
    assert proxy.get()[0] == 503
    dns.start(host("127.0.0.3"))
    eventually(lambda: proxy.get()[:2] == (200, "origin-3"), "and come back")


def test_both_families_and_one(scratch, dns):
    port = free_port()
    Nginx(scratch, "four", port=port, address="127.0.0.2")
    dns.start(host("127.0.0.2", "::1"))
    proxy = Proxy(scratch, [f'{{ dns: "api.test:{port}" }}'], by_name(dns))
    eventually(lambda: set(proxy.endpoints()) == {f"127.0.0.2:{port}", f"[::1]:{port}"}, "A and AAAA")
    proxy.reload([f'{{ dns: "api.test:{port}", family: ipv4 }}'], by_name(dns))
    eventually(lambda: set(proxy.endpoints()) == {f"127.0.0.2:{port}"}, "A alone")


def test_a_check_asks_for_the_name_with_its_port(scratch, dns):
    origin = Origin(scratch, serving(), address="127.0.0.2")
    dns.start(host("127.0.0.2"))
    Proxy(scratch, [f'{{ dns: "api.test:{origin.port}", family: ipv4 }}'], by_name(dns, ", health_check: { http: /up, interval: 100ms, timeout: 100ms }"))
    eventually(lambda: origin.requests, "it is checked")
    assert f"Host: api.test:{origin.port}".encode() in origin.requests[0].split(b"\r\n")


def test_services_with_priorities_and_weights(scratch, dns):
    ports = [free_port() for _ in range(3)]
    origins = [Nginx(scratch, f"origin-{i}", port=port, address="127.0.0.2") for i, port in enumerate(ports)]
    records = [host("127.0.0.2", name="node.test"),
               f"--srv-host=_http._tcp.api.test,node.test,{ports[0]},10,1",
               f"--srv-host=_http._tcp.api.test,node.test,{ports[1]},10,3",
               f"--srv-host=_http._tcp.api.test,node.test,{ports[2]},20,1"]
    dns.start(*records)
    proxy = Proxy(scratch, ["{ srv: _http._tcp.api.test }"], by_name(dns), workers=1)
    answers = [proxy.get()[1] for _ in range(40)]
    assert (answers.count("origin-0"), answers.count("origin-1")) == (10, 30)
    for origin in origins[:2]:
        origin.stop()
    assert {proxy.get()[1] for _ in range(5)} == {"origin-2"}
    dns.start(records[0], records[1].replace(str(ports[0]), str(ports[2])))
    eventually(lambda: set(proxy.endpoints()) == {f"127.0.0.2:{ports[2]}"}, "the service's new record is used")


def test_the_ttl_is_honoured(scratch, dns, origins):
    dns.start(host("127.0.0.2", ttl=3600))
    proxy = Proxy(scratch, name(origins), by_name(dns, ", queue_timeout: 15s"))
    assert proxy.get()[1] == "origin-2"
    eventually(lambda: dns.questions() >= 2, "A and AAAA were asked for")
    asked = sum("query[A] " in line for line in dns.process.output().splitlines())
    time.sleep(1)  # five times the floor
    assert asked == 1 and "query[A] " not in dns.process.output().split("query[A] ", 1)[1]


def test_a_short_ttl_counts_as_the_floor(scratch, dns, origins):
    dns.start(host("127.0.0.2", ttl=0))
    proxy = Proxy(scratch, name(origins), by_name(dns).replace("200ms, timeout", "1h, timeout"))
    assert proxy.get()[1] == "origin-2"
    time.sleep(1)
    assert dns.questions() == 2
