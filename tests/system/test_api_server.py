"""Kubernetes' own API server takes what deploy/ renders, and tells Sluice of Services and Pods under the rights that the
manifests give it. Nightly: the server is compiled from its modules (tests/system/api_server/build.sh)."""
import json
import os
import pathlib
import subprocess

import pytest

from certificates import Authority
from harness import HANG, Nginx, Sluice, curl, eventually, free_port
from real_api_server import ADMIN, ApiServer
from wire_netns import Namespace

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMESPACE, NODE = "sluice-system", "node-1"
HERE, ORIGINS = "198.51.100.1", ("198.51.100.2", "198.51.100.3")


@pytest.fixture(name="api")
def api_server(scratch):
    """In a namespace whose loopback has addresses that are not of 127.0.0.0/8: the server takes no endpoint there."""
    network = Namespace(scratch, "api")
    for address in (HERE, *ORIGINS):
        network.ip("addr", "add", f"{address}/32", "dev", "lo")
    with network.inside(), ApiServer(scratch, Authority(scratch.path)) as server:
        yield server


def apply_manifests(api):
    api.kubectl("apply", "--server-side", "--validate=strict", "-k", str(ROOT / "deploy/kubernetes/overlays/gateway-node"))


def service(name="api", namespace="shop"):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"name": "http", "port": 80}], "clusterIP": "None"}}


def endpoint_slice(addresses, port, ready=True):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "api-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "api"}},
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready}} for address in addresses]}


def token_of_sluice(api, scratch):
    """As the kubelet would put it into the pod: bound, of the manifests' ServiceAccount."""
    token = api.kubectl("create", "token", "sluice", "-n", NAMESPACE).stdout.strip()
    return scratch.write("token", token)


class Gateway:
    def __init__(self, scratch, api, token):
        self.port, self.state = free_port(), f"{scratch.path}/state"
        self.sluice = Sluice(scratch, f"""version: 1
state_dir: {self.state}
workers: 1
kubernetes: {{ server: "{api.url}", token: "file:{token}", ca: {api.authority.cert}, node: {NODE} }}
listeners: {{ web: {{ bind: "{HERE}:{self.port}" }} }}
sets: {{ batch: {{ pods: {{ namespace: shop, labels: {{ app: batch }} }} }} }}
upstreams: {{ api: {{ endpoints: [{{ kubernetes: {{ service: api, namespace: shop, port: http }} }}] }} }}
routes: [{{ upstream: api, access: {{ deny: [{{ set: batch }}] }} }}]
""")

    def endpoints(self):
        return sorted(e["address"] for e in self.sluice.status()["upstreams"][0]["endpoints"])

    def status_of_a_request(self):
        return int(curl(f"http://{HERE}:{self.port}/")[2].split()[1])


def test_the_server_takes_what_is_rendered(api):
    apply_manifests(api)
    found = json.loads(api.kubectl("get", "daemonset", "sluice", "-n", NAMESPACE, "-o", "json").stdout)
    assert found["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] == 1
    helm = [os.environ["HELM"], "template", "sluice", str(ROOT / "deploy/helm/sluice"), "-n", NAMESPACE]
    rendered = subprocess.run(helm, capture_output=True, text=True, check=True).stdout
    api.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=rendered)


def test_helm_installs_upgrades_and_takes_it_all_away(api):
    def helm(*words):
        done = subprocess.run([os.environ["HELM"], *words, "-n", NAMESPACE, f"--kube-apiserver={api.url}", f"--kube-token={ADMIN}",
                               f"--kube-ca-file={api.authority.cert}"], capture_output=True, text=True, timeout=HANG)
        assert done.returncode == 0, done.stderr
        return done.stdout

    chart = str(ROOT / "deploy/helm/sluice")
    helm("install", "sluice", chart, "--create-namespace")  # asks the server for its version
    assert api.kubectl("get", "daemonset", "-n", NAMESPACE, "-o", "name").stdout.split() == ["daemonset.apps/sluice"]
    helm("upgrade", "sluice", chart, "--reuse-values")
    assert json.loads(helm("list", "-o", "json"))[0]["revision"] == "2"
    helm("uninstall", "sluice")
    assert api.kubectl("get", "daemonset", "-n", NAMESPACE, "-o", "name").stdout == ""


def test_sluice_may_do_what_it_does_and_no_more(scratch, api):
    apply_manifests(api)
    with open(token_of_sluice(api, scratch)) as file:
        token = file.read()

    def may(*words):
        return api.kubectl("auth", "can-i", *words, token=token, check=False).stdout.strip() == "yes"

    for resource in ("pods", "endpointslices.discovery.k8s.io"):
        assert may("list", resource, "-A") and may("watch", resource, "-A")
        assert not may("delete", resource, "-A") and not may("create", resource, "-A")
    assert not may("get", "secrets", "-A") and not may("list", "configmaps", "-A") and not may("list", "nodes")


def test_requests_go_where_the_server_says_and_its_going_away_changes_nothing(scratch, api):
    apply_manifests(api)
    origin = free_port()
    first, second = (f"{address}:{origin}" for address in ORIGINS)
    for address in ORIGINS:
        Nginx(scratch, f"origin-{address}", address=address, port=origin)
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    gateway = Gateway(scratch, api, token_of_sluice(api, scratch))
    assert gateway.status_of_a_request() == 503  # nothing is there yet
    api.apply(service(), endpoint_slice(ORIGINS[:1], origin))
    eventually(lambda: gateway.endpoints() == [first], "the first endpoint has come")
    assert gateway.status_of_a_request() == 200
    api.apply(endpoint_slice(ORIGINS, origin))
    eventually(lambda: len(gateway.endpoints()) == 2, "the second has come")
    api.stop()
    assert gateway.status_of_a_request() == 200 and len(gateway.endpoints()) == 2
    api.start()
    api.apply(endpoint_slice(ORIGINS[1:], origin))
    eventually(lambda: gateway.endpoints() == [second], "the watch goes on", seconds=40)
    api.kubectl("delete", "endpointslice", "api-1", "-n", "shop")
    eventually(lambda: gateway.endpoints() == [], "none is left")


def test_a_pod_is_known_by_its_labels(scratch, api):
    apply_manifests(api)
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
              {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "shop"}})
    origin = Nginx(scratch, "origin", address=ORIGINS[0], port=free_port())
    api.apply(service(), endpoint_slice(ORIGINS[:1], origin.port))
    gateway = Gateway(scratch, api, token_of_sluice(api, scratch))
    eventually(lambda: gateway.status_of_a_request() == 200, "served: nobody is a pod yet")
    api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job", "namespace": "shop", "labels": {"app": "batch"}},
               "spec": {"nodeName": NODE, "containers": [{"name": "job", "image": "job"}]}})
    address = {"status": {"phase": "Running", "podIP": HERE, "podIPs": [{"ip": HERE}]}}
    api.kubectl("patch", "pod", "job", "-n", "shop", "--subresource=status", "--type=merge", "-p", json.dumps(address))
    eventually(lambda: gateway.status_of_a_request() == 403, "the pod has the client's address")
    api.kubectl("delete", "pod", "job", "-n", "shop", "--force", "--grace-period=0")
    eventually(lambda: gateway.status_of_a_request() == 200, "whoever has the address next inherits nothing")
