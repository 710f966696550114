"""kustomize and helm render to the same objects, and the API's schemas take them.

DEPLOY_TOOLS names the directory that setup.sh filled.
"""
import os
import pathlib
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(os.environ["DEPLOY_TOOLS"])
NAMESPACE = "sluice-system"


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kustomize(path):
    return run(TOOLS / "bin/kubectl", "kustomize", ROOT / "deploy/kubernetes" / path)


def helm(*values):
    sets = [word for value in values for word in ("--set", value)]
    return run(TOOLS / "bin/helm", "template", "sluice", ROOT / "deploy/helm/sluice", "-n", NAMESPACE, *sets)


def objects(text):
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text) if item}


def validate(tmp_path, text):
    file = tmp_path / "rendered.yaml"
    file.write_text(text)
    return subprocess.run(["node", "validate.mjs", str(file)], cwd=TOOLS, capture_output=True, text=True, check=False)


RENDERED = {
    "base": lambda: kustomize("base"),
    "monitoring": lambda: kustomize("overlays/monitoring"),
    "gateway-node": lambda: kustomize("overlays/gateway-node"),
    "helm": helm,
    "helm-monitoring": lambda: helm("monitoring.enabled=true"),
    "helm-without-rbac": lambda: helm("rbac.enabled=false"),
    "helm-secret": lambda: helm("existingSecret=mine"),
}


@pytest.mark.parametrize("name", RENDERED)
def test_the_api_takes_it(name, tmp_path):
    done = validate(tmp_path, RENDERED[name]())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DaemonSet/sluice" in done.stdout


def test_a_misspelt_field_would_be_seen(tmp_path):
    text = kustomize("base").replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")
    assert validate(tmp_path, text).returncode == 1


@pytest.mark.parametrize("overlay, values", [("base", []), ("overlays/monitoring", ["monitoring.enabled=true"])])
def test_kustomize_and_helm_render_the_same(overlay, values):
    expected = objects(kustomize(overlay))
    del expected["Namespace", NAMESPACE]  # helm's --create-namespace
    assert objects(helm(*values)) == expected


def test_the_rules_are_the_same_file():
    source = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    wrapped = objects(kustomize("overlays/monitoring"))["PrometheusRule", "sluice"]
    assert wrapped["spec"] == source


def daemonset():
    return objects(kustomize("base"))["DaemonSet", "sluice"]["spec"]["template"]["spec"]


def test_no_container_port_becomes_a_host_port():
    assert all("ports" not in container for container in daemonset()["containers"])


def test_capabilities_are_listed_one_by_one():
    context = daemonset()["containers"][0]["securityContext"]
    assert context["privileged"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"]["drop"] == ["ALL"]
    assert not {"SYS_ADMIN", "ALL", "SYS_MODULE"} & set(context["capabilities"]["add"])


def test_the_gateway_process_is_another_user():
    container = daemonset()["containers"][0]
    at = container["args"].index("--user")
    assert container["args"][at + 1] == "sluice"
    assert {"SETUID", "SETGID"} <= set(container["securityContext"]["capabilities"]["add"]), "by which it becomes that user"
    assert "sluice:x:65532:65532" in (ROOT / "deploy/container/collect.sh").read_text(), "whom the image knows"


def test_probes_ask_this_pod_and_not_a_port():
    container = daemonset()["containers"][0]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["exec"]["command"][0] == "/usr/bin/sluice"


def test_the_least_is_asked_of_the_api_server():
    rendered = objects(kustomize("base"))
    role = rendered["ClusterRole", "sluice"]
    assert {(group, resource, verb) for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
            for verb in rule["verbs"]} == {(group, resource, verb) for group, resource in (("", "pods"), ("discovery.k8s.io", "endpointslices"))
                                           for verb in ("list", "watch")}
    assert rendered["ClusterRoleBinding", "sluice"]["subjects"] == [{"kind": "ServiceAccount", "name": "sluice", "namespace": NAMESPACE}]
    assert {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}} in daemonset()["containers"][0]["env"]


def test_who_asks_nothing_has_no_token():
    rendered = objects(helm("rbac.enabled=false"))
    assert rendered["DaemonSet", "sluice"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert not [kind for kind, _ in rendered if kind.startswith("ClusterRole")]


SHIPPED = [path for path in sorted((ROOT / "deploy").glob("**/policy.yaml")) if not {"helm", "quickstart"} & set(path.parts)]


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_policy_that_is_shipped_is_valid(path, tmp_path):
    document = yaml.safe_load(path.read_text())
    if document.get("kind") == "ConfigMap":
        for name, text in document["data"].items():
            (tmp_path / name).write_text(text)
        path = tmp_path
    run(os.environ["SLUICE"], "check", path)


@pytest.mark.parametrize("overlay", ["base", "overlays/monitoring", "overlays/gateway-node"])
def test_who_follows_the_service_finds_metrics(overlay):
    rendered = objects(kustomize(overlay))
    metrics = yaml.safe_load(rendered["ConfigMap", "sluice-policy"]["data"]["policy.yaml"])["metrics"]
    port = rendered["Service", "sluice-metrics"]["spec"]["ports"][0]["targetPort"]
    assert metrics["bind"] == f"0.0.0.0:{port}" and metrics["allow"]


def test_the_charts_policy_is_valid(tmp_path):
    (tmp_path / "policy.yaml").write_text(objects(helm())["ConfigMap", "sluice-policy"]["data"]["policy.yaml"])
    run(os.environ["SLUICE"], "check", tmp_path)
