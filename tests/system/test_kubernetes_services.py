"""Upstreams by EndpointSlices, from an API server (a strict stand-in) that is slow, forgetful, away, or refuses."""
import time

import pytest

from certificates import Authority
from harness import Nginx, Sluice, curl, eventually, free_port
from kubernetes_api import KubernetesApi, slice_of

PORT = free_port()


class Gateway:
    """Sluice before a Service, known to the API server by a token in a file."""

    def __init__(self, scratch, api, authority, port="http", more="", token="token-1"):
        self.scratch, self.api, self.port, self.metrics_port = scratch, api, free_port(), free_port()
        self.token_file, self.more, self.authority = f"{scratch.path}/token", more, authority
        self.rotate(token)
        self.sluice = Sluice(scratch, self.policy(port))

    def rotate(self, token):
        self.scratch.write("token", token + "\n")

    def policy(self, port="http", service="api"):
        port = f", port: {port}" if port else ""
        return f"""version: 1
state_dir: {self.scratch.path}/state
workers: 1
metrics: {{ bind: "127.0.0.1:{self.metrics_port}" }}
kubernetes: {{ server: "{self.api.url}", token: "file:{self.token_file}", ca: {self.authority.cert if self.authority else "x"} }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}" }} }}
upstreams: {{ api: {{ endpoints: [{{ kubernetes: {{ service: {service}, namespace: shop{port} }} }}] {self.more} }} }}
routes: [{{ upstream: api }}]
"""

    def endpoints(self):
        return sorted(e["address"] for e in self.sluice.status()["upstreams"][0]["endpoints"])

    def has(self, *addresses, port=80):
        wanted = sorted(a if isinstance(a, str) and a.count(":") else f"{a}:{port}" for a in addresses)
        eventually(lambda: self.endpoints() == wanted, f"the endpoints are {wanted}")

    def get(self):
        code, body, head = curl(f"http://127.0.0.1:{self.port}/")
        assert code == 0, head
        return int(head.split()[1]), (body.split() or [b""])[0].decode()

    def metric(self, start):
        _, page, _ = curl(f"http://127.0.0.1:{self.metrics_port}/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.decode().splitlines() if line.startswith(start))

    def log(self):
        return self.sluice.output()


@pytest.fixture
def authority(scratch):
    return Authority(scratch.path)


@pytest.fixture
def api(scratch, authority):
    api = KubernetesApi(scratch, authority)
    yield api
    assert not api.mistakes, api.mistakes


@pytest.fixture
def gateway(scratch, api, authority):
    return Gateway(scratch, api, authority)


def test_requests_go_where_the_slices_say(scratch, api, gateway):
    for i in (2, 3):
        Nginx(scratch, f"origin-{i}", address=f"127.0.0.{i}", port=PORT)
    assert gateway.get()[0] == 503  # nothing is there yet
    api.put("endpointslices", slice_of("api-a", "api", ["127.0.0.2"], PORT))
    api.put("endpointslices", slice_of("other-a", "other", ["127.0.0.9"], PORT))  # of another Service
    gateway.has("127.0.0.2", port=PORT)
    assert gateway.get() == (200, "origin-2")
    api.put("endpointslices", slice_of("api-b", "api", ["127.0.0.3"], PORT))
    gateway.has("127.0.0.2", "127.0.0.3", port=PORT)
    assert {gateway.get()[1] for _ in range(4)} == {"origin-2", "origin-3"}
    api.delete("endpointslices", "shop", "api-a")
    gateway.has("127.0.0.3", port=PORT)
    assert [gateway.get() for _ in range(3)] == [(200, "origin-3")] * 3
    assert len(api.asked(resourceVersion="0")) == 1, "listed once, then watched"
    assert api.asked(watch="1")[0]["query"]["labelSelector"] == "kubernetes.io/service-name=api"
    assert gateway.metric("sluice_kubernetes_watch_up") == 1


def test_conditions(api, gateway):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    api.put("endpointslices", slice_of("b", "api", ["10.0.0.2"], ready=False, serving=False, terminating=False))
    api.put("endpointslices", slice_of("c", "api", ["10.0.0.3"], ready=False, serving=True, terminating=True))
    api.put("endpointslices", slice_of("d", "api", ["10.0.0.4"], ready=None))  # unknown: ready
    gateway.has("10.0.0.1", "10.0.0.4")
    # While nobody is ready, those that end and serve still.
    api.delete("endpointslices", "shop", "a")
    api.put("endpointslices", slice_of("d", "api", ["10.0.0.4"], ready=False))
    gateway.has("10.0.0.3")
    api.put("endpointslices", slice_of("c", "api", ["10.0.0.3"], ready=False, serving=False, terminating=True))
    gateway.has()
    assert gateway.get()[0] == 503


def test_ports_and_families(scratch, api, authority):
    two = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "admin", "port": 9090}, {"name": "dns", "port": 53, "protocol": "UDP"},
           {"name": "any", "protocol": "TCP"}]
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"], two))
    api.put("endpointslices", slice_of("b", "api", ["2001:db8::1"], two))
    gateway = Gateway(scratch, api, authority, port="admin")
    gateway.has("10.0.0.1:9090", "[2001:db8::1]:9090")
    for port, expected in (("http", 8080), ("8080", 8080)):
        gateway.sluice.write_policy(gateway.policy(port))
        gateway.has(f"10.0.0.1:{expected}", f"[2001:db8::1]:{expected}")
    gateway.sluice.write_policy(gateway.policy("dns"))
    gateway.has()  # UDP's
    gateway.sluice.write_policy(gateway.policy(""))
    time.sleep(0.2)
    gateway.has()  # two could be meant
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"], [{"port": 8081}]))
    gateway.has("10.0.0.1:8081")


def test_the_api_server_goes_away_and_comes_back(api, gateway):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    gateway.has("10.0.0.1")
    api.down()
    eventually(lambda: gateway.metric("sluice_kubernetes_failures_total") >= 2, "it is tried again")
    assert gateway.endpoints() == ["10.0.0.1:80"] and gateway.metric("sluice_kubernetes_watch_up") == 0
    assert "what it said last holds" in gateway.log()
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1", "10.0.0.2"]))
    api.up()
    gateway.has("10.0.0.1", "10.0.0.2")
    eventually(lambda: "answers again" in gateway.log(), "it is said")
    assert len([r for r in api.requests if "watch" not in r["query"]]) == 1, "the watch went on where it was: nothing was listed"


def test_a_start_without_the_api_server(scratch, api, authority):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    api.down()
    gateway = Gateway(scratch, api, authority)
    eventually(lambda: "cannot be asked" in gateway.log(), "it is said")
    api.up()
    gateway.has("10.0.0.1")


def test_an_event_that_is_cut_off_comes_again(api, gateway):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    gateway.has("10.0.0.1")
    api.cut_off()
    item = api.put("endpointslices", slice_of("a", "api", ["10.0.0.2"]))
    gateway.has("10.0.0.2")
    before = str(int(item["metadata"]["resourceVersion"]) - 1)
    assert any(r["query"]["resourceVersion"] == before for r in api.asked(watch="1")[1:]), "from the last whole event"
    assert len([r for r in api.requests if "watch" not in r["query"]]) == 1


@pytest.mark.parametrize("in_stream", [True, False])
def test_a_version_that_is_forgotten(api, gateway, in_stream):
    api.gone_in_stream = in_stream
    for number in range(5):
        api.put("endpointslices", slice_of(f"s{number}", "api", [f"10.0.0.{number}"]))
    gateway.has(*(f"10.0.0.{n}" for n in range(5)))
    api.down()
    api.delete("endpointslices", "shop", "s0")
    api.put("endpointslices", slice_of("s9", "api", ["10.0.0.9"]))
    api.forget()
    api.page_size = 2
    api.up()
    gateway.has(*(f"10.0.0.{n}" for n in (1, 2, 3, 4, 9)))  # what went meanwhile is gone, too
    lists = [r["query"] for r in api.requests if "watch" not in r["query"]]
    assert "resourceVersion" not in lists[1] and len([q for q in lists if "continue" in q]) == 2, "the latest, in pages"


def test_bookmarks_keep_a_watch_young(api, gateway):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    gateway.has("10.0.0.1")
    version = api.bookmark()
    time.sleep(0.3)
    api.forget()  # all but the bookmark's version
    api.down()
    api.up()
    eventually(lambda: api.asked(watch="1", resourceVersion=str(version)), "the watch goes on from the bookmark")
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.2"]))
    gateway.has("10.0.0.2")
    assert len([r for r in api.requests if "watch" not in r["query"]]) == 1


def test_tokens_are_rotated(api, gateway):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    gateway.has("10.0.0.1")
    api.tokens = {"token-2"}
    api.down()
    api.up()
    eventually(lambda: "401" in gateway.log(), "the old one is refused")
    assert gateway.endpoints() == ["10.0.0.1:80"]
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.2"]))
    gateway.rotate("token-2")
    gateway.has("10.0.0.2")
    assert "token-1" not in gateway.log() and "token-2" not in gateway.log()


def test_what_rbac_refuses_is_said(api, gateway):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    gateway.has("10.0.0.1")
    api.allowed = {"pods"}
    api.forget()
    api.down()
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.2"]))
    api.forget()
    api.up()
    eventually(lambda: "cannot list resource" in gateway.log(), "the server's words are said")
    assert gateway.endpoints() == ["10.0.0.1:80"]
    api.allowed = {"endpointslices"}
    gateway.has("10.0.0.2")


def test_a_server_in_trouble_is_not_pressed(api, gateway):
    gateway.has()
    eventually(lambda: api.watches == 1, "it is watched")
    api.fail_with, api.retry_after = (429, "TooManyRequests"), 1
    api.down()
    api.up()
    eventually(lambda: "429" in gateway.log() or "status 429" in gateway.log(), "it is refused", 30)
    begin, asked = time.monotonic(), len(api.requests)
    time.sleep(2.5)
    assert len(api.requests) - asked <= 3, "once a second, as it asks for"
    assert time.monotonic() - begin >= 2.5
    api.fail_with = api.retry_after = None
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.2"]))
    gateway.has("10.0.0.2")


def test_nobody_else_is_believed(scratch, api, authority):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    gateway = Gateway(scratch, api, Authority(scratch.path, "stranger"))
    eventually(lambda: "TLS" in gateway.log(), "the certificate is refused")
    assert gateway.endpoints() == [] and not api.requests


def test_reload_keeps_what_is_known(api, gateway):
    api.put("endpointslices", slice_of("a", "api", ["10.0.0.1"]))
    gateway.has("10.0.0.1")
    asked = len(api.requests)
    gateway.more = ", lb_policy: random"
    gateway.sluice.write_policy(gateway.policy())
    gateway.sluice.ctl("reload")
    assert gateway.endpoints() == ["10.0.0.1:80"]
    gateway.sluice.write_policy(gateway.policy(service="other"))
    gateway.sluice.ctl("reload")
    gateway.has()
    eventually(lambda: api.watches == 1, "the watch of the first is given up")
    assert len(api.requests) > asked


def test_in_a_pod_nothing_need_be_said(scratch, api, authority):
    """As Kubernetes says it: by environment and mount; here without the mount, which is an error that names it."""
    policy = f"""version: 1
state_dir: {scratch.path}/state
listeners: {{ web: {{ bind: "127.0.0.1:{free_port()}" }} }}
upstreams: {{ api: {{ endpoints: [{{ kubernetes: {{ service: api, namespace: shop }} }}] }} }}
routes: [{{ upstream: api }}]
"""
    sluice = Sluice(scratch, policy, wait=False)
    eventually(lambda: sluice.process.poll() is not None, "it does not start")
    assert "sluice.yaml:4" in sluice.output() and "/var/run/secrets/kubernetes.io/serviceaccount/" in sluice.output()
