"""What the chart installs for the status API: rights that are needed and no others, objects that a cluster takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard.settings import load_settings
from support.chart import render
from support.cluster import Kube

NAME = "modelyard-api"
READ = {"get", "list", "watch"}
SHOWN = {("modelyard.dev", kind): READ for kind in ("modelsources", "models", "trainings")} | {
    ("dataset.baizeai.io", "datasets"): READ,
    ("", "pods"): READ,
    ("", "events"): {"list"},
}
REVIEWS = {
    ("authentication.k8s.io", "tokenreviews"): {"create"},
    ("authorization.k8s.io", "subjectaccessreviews"): {"create"},
}
NAMESPACES = {("", "namespaces"): READ}
PLURALS = {
    "ServiceAccount": "serviceaccounts",
    "Service": "services",
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "NetworkPolicy": "networkpolicies",
    "Ingress": "ingresses",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
}
INGRESS = {"enabled": True, "host": "m.example.com", "className": "nginx", "tlsSecretName": "tls"}
ROUTE = {"enabled": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["m.example.com"]}
EVERYTHING: dict[str, Any] = {
    "replicas": 2,
    "audiences": ["modelyard"],
    "allowedOrigins": ["https://ui.example.com"],
    "logs": True,
    "tls": {"secretName": "api-tls"},
    "ingress": INGRESS,
    "route": ROUTE,
    "networkPolicy": {"from": [{"namespaceSelector": {"matchLabels": {"team": "ui"}}}]},
}


def of_the_api(**values: Any) -> list[dict[str, Any]]:
    return [obj for obj in render(**values) if obj["metadata"]["name"].startswith(NAME)]


def one(kind: str, **values: Any) -> dict[str, Any]:
    (found,) = [obj for obj in of_the_api(**values) if obj["kind"] == kind]
    return found


def rights(*kinds: str, **values: Any) -> dict[tuple[str, str], set[str]]:
    """Verbs by group and resource, of all roles of these kinds."""
    found: dict[tuple[str, str], set[str]] = {}
    for role in (obj for obj in of_the_api(**values) if obj["kind"] in kinds):
        for rule in role["rules"]:
            assert set(rule) == {"apiGroups", "resources", "verbs"}
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def test_it_may_read_what_it_shows_and_nothing_else() -> None:
    assert rights("ClusterRole", "Role") == SHOWN | REVIEWS | NAMESPACES
    logs = {("", "pods/log"): {"get"}}
    assert rights("ClusterRole", "Role", api={"logs": True}) == SHOWN | REVIEWS | NAMESPACES | logs
    some = {"watchNamespaces": ["team-a", "team-b"]}
    assert rights("ClusterRole", **some) == REVIEWS
    assert rights("Role", **some) == SHOWN
    roles = [obj for obj in of_the_api(**some) if obj["kind"] in ("Role", "RoleBinding")]
    assert sorted((obj["kind"], obj["metadata"]["namespace"]) for obj in roles) == [
        (kind, place) for kind in ("Role", "RoleBinding") for place in ("team-a", "team-b")
    ]
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": "modelyard-system"}
    for values in ({}, some):
        bindings = [obj for obj in of_the_api(**values) if obj["kind"].endswith("Binding")]
        assert all(binding["subjects"] == [account] for binding in bindings)


def test_its_pod_is_restricted_and_ready_only_when_it_says_so() -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert "memory" in container["resources"]["limits"]
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_it_is_reached_by_ingress_or_route_only_where_asked_for() -> None:
    kinds = {obj["kind"] for obj in of_the_api()}
    assert {"Deployment", "Service", "ServiceAccount", "ConfigMap", "NetworkPolicy"} <= kinds
    assert not kinds & {"Ingress", "HTTPRoute"}
    assert of_the_api(api={"enabled": False}) == []
    service = one("Service")
    assert service["spec"]["type"] == "ClusterIP"
    assert [port["name"] for port in service["spec"]["ports"]] == ["http", "metrics"]
    assert one("Service", api={"tls": {"secretName": "x"}})["spec"]["ports"][0]["name"] == "https"
    ingress = one("Ingress", api={"ingress": INGRESS})["spec"]
    backend = {"service": {"name": NAME, "port": {"number": 80}}}
    path = {"path": "/api", "pathType": "Prefix", "backend": backend}
    assert ingress["rules"] == [{"host": "m.example.com", "http": {"paths": [path]}}]
    assert (ingress["ingressClassName"], ingress["tls"]) == (
        "nginx",
        [{"hosts": ["m.example.com"], "secretName": "tls"}],
    )
    route = one("HTTPRoute", api={"route": ROUTE})["spec"]
    assert (route["parentRefs"], route["hostnames"]) == ([{"name": "gateway"}], ["m.example.com"])
    (rule,) = route["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/api"}}]
    assert rule["backendRefs"] == [{"name": NAME, "port": 80}]
    assert rule["timeouts"] == {"request": "0s"}, "a stream has no end"


def test_its_network_is_what_it_needs() -> None:
    policy = one("NetworkPolicy", api={"networkPolicy": EVERYTHING["networkPolicy"]})["spec"]
    assert policy["podSelector"]["matchLabels"] == one("Deployment")["spec"]["selector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in policy["ingress"]] == [["api"], ["metrics"]]
    assert policy["ingress"][0]["from"] == EVERYTHING["networkPolicy"]["from"]
    assert [[port["port"] for port in rule["ports"]] for rule in policy["egress"]] == [[53, 53], [443, 6443], ["https"]]
    (collector,) = policy["egress"][2]["to"]
    assert collector["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "collector"
    assert "NetworkPolicy" not in {obj["kind"] for obj in of_the_api(api={"networkPolicy": {"enabled": False}})}


def test_its_settings_are_its_own(tmp_path: Path) -> None:
    own = {"settings": {"api": {"limits": {"streams": 7}}, "prices": {"H100": "2.99"}}}
    content = one("ConfigMap", api=EVERYTHING, watchNamespaces=["team-a"], **own)["data"]["settings.yaml"]
    (tmp_path / "settings.yaml").write_text(content)
    found = load_settings(tmp_path / "settings.yaml")
    assert (found.api.audiences, found.api.allowed_origins) == (("modelyard",), ("https://ui.example.com",))
    assert (found.api.logs, str(found.api.tls_dir)) == (True, "/etc/modelyard-api-tls")
    assert (found.api.limits.streams, found.watch_namespaces) == (7, ("team-a",))
    assert found.api.authentication == "token"
    assert "prices" not in yaml.safe_load(content), "it would start anew for what it has no use for"


@pytest.mark.parametrize("values", [{}, {"api": EVERYTHING}, {"api": EVERYTHING, "watchNamespaces": ["default"]}])
def test_a_cluster_takes_all_of_it(kube: Kube, system: str, values: dict[str, Any]) -> None:
    for obj in of_the_api(namespace=system, **values):
        if obj["kind"] == "HTTPRoute":
            continue  # no part of Kubernetes itself
        root = "api" if obj["apiVersion"] == "v1" else "apis"
        place = f"/namespaces/{obj['metadata']['namespace']}" if "namespace" in obj["metadata"] else ""
        path = f"/{root}/{obj['apiVersion']}{place}/{PLURALS[obj['kind']]}/{obj['metadata']['name']}"
        query = "?fieldManager=test&force=true&dryRun=All&fieldValidation=Strict"
        kube.request("PATCH", path + query, obj, "application/apply-patch+yaml")
