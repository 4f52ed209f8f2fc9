"""Who sees what: every user against every endpoint and namespace, compared with the cluster's own answer.

The oracle is SubjectAccessReview, asked by an administrator, and for a sample `kubectl auth can-i`.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from localcluster import ControlPlane
from localcluster.tools import build_tools
from modelyard.resources import meta
from support.cluster import Kube, new_namespace, wait_for
from support.statusapi import SPECS, ApiProcess, Caller, Follower, account, grant, make, rule, service_account

VIEW = ["get", "list", "watch"]
KINDS = ["models", "modelsources", "trainings"]
ALL = [*KINDS, "datasets", "pods"]
GROUPS = dict.fromkeys(KINDS, meta.GROUP) | {"datasets": meta.DATASET.group}
WORDS = {
    "models": "Model",
    "modelsources": "ModelSource",
    "trainings": "Training",
    "datasets": "Dataset",
    "pods": "Pod",
}
NOT_READY = {"type": "Ready", "status": "False", "reason": "X", "message": "x"}
WAITING = {"name": "trainer", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
TROUBLES: dict[str, Any] = {
    "models": {"syncedVersions": [{"name": "v1", "phase": "Failed", "reason": "NotFound"}]},
    "modelsources": {"conditions": [{**NOT_READY, "lastTransitionTime": "2026-11-21T01:31:00Z"}]},
    "trainings": {"phase": "Failed", "reason": "BadInput", "message": "x", "observedGeneration": 1},
    "datasets": {"phase": "FAILED"},
    "pods": {"containerStatuses": [{**WAITING, "state": {"waiting": {"reason": "ErrImagePull"}}}]},
}


@dataclass
class User:
    name: str
    caller: Caller
    token: str


@dataclass
class Matrix:
    """The world of these tests: four namespaces, the last without objects, and users with different rights."""

    kube: Kube
    home: str
    namespaces: list[str]
    users: dict[str, User]

    def can(self, user: str, verb: str, resource: str, namespace: str = "", name: str = "") -> bool:
        """What the cluster says."""
        plural, _, sub = resource.partition("/")
        place = {
            "verb": verb,
            "group": GROUPS.get(plural, ""),
            "resource": plural,
            "namespace": namespace,
            "name": name,
        }
        spec = {
            "user": f"system:serviceaccount:{self.home}:{user}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{self.home}", "system:authenticated"],
            "resourceAttributes": {**place, "subresource": sub},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return bool(self.kube.request("POST", path, body)["status"]["allowed"])

    def where(self, user: str, verb: str, resource: str) -> set[str]:
        """Namespaces in which the cluster says yes."""
        return {n for n in self.namespaces if self.can(user, verb, resource, n)}


@pytest.fixture(scope="module")
def matrix(kube: Kube, api: ApiProcess, admin_token: str) -> Matrix:
    home = new_namespace(kube, "home")
    a, b, c, empty = (new_namespace(kube, p) for p in ("team-a", "team-b", "team-c", "empty"))
    rights: dict[str, list[tuple[str, list[dict[str, Any]]]]] = {
        "nobody": [],
        "view-a": [(a, [rule(VIEW, ["*"])])],
        "view-a-and-empty": [(a, [rule(VIEW, KINDS)]), (empty, [rule(VIEW, KINDS)])],
        "models-of-b": [(b, [rule(["list"], ["models"])])],
        "one-training": [(b, [rule(["get"], ["trainings"], names=["one"])])],
        "lists-without-get": [("", [rule(["list"], KINDS)])],
        "watch-without-list": [(a, [rule(["watch", "get"], KINDS)])],
        "datasets-of-a": [(a, [rule(VIEW, ["datasets"], meta.DATASET.group)])],
        "pods-and-events": [(c, [rule(VIEW, ["pods", "events"], ""), rule(VIEW, ["trainings"])])],
        "logs": [(c, [rule(["get"], ["trainings"]), rule(["get"], ["pods/log"], "")])],
        "namespaces": [("", [rule(["list"], ["namespaces"], "")])],
        "everything": [("", [rule(["*"], ["*"], "*")])],
    }
    users = {}
    for name, grants in rights.items():
        token = account(kube, home, name)
        users[name] = User(name, api.caller(token), token)
        for namespace, rules in grants:
            grant(kube, f"{home}-{name}", service_account(home, name), rules, namespace)
    for namespace in (a, b, c):
        for kind in (*meta.ROOT_KINDS, meta.DATASET, meta.POD):
            labels = {meta.LABEL_MANAGED_BY: meta.MANAGED_BY}
            make(kube, kind, namespace, "one", SPECS[kind.plural], TROUBLES[kind.plural], labels=labels)
    everything = api.caller(admin_token)
    wait_for(
        lambda: (
            everything.json("/errors", namespace=[a, b, c])["total"] == 3 * len(ALL)
            and {empty} <= {n["name"] for n in everything.json("/namespaces")["items"]}
        ),
        "the API to see the objects",
    )
    return Matrix(kube, home, [a, b, c, empty], users)


USERS = [
    "nobody",
    "view-a",
    "view-a-and-empty",
    "models-of-b",
    "one-training",
    "lists-without-get",
    "watch-without-list",
    "datasets-of-a",
    "pods-and-events",
    "logs",
    "namespaces",
    "everything",
]


@pytest.mark.parametrize("name", USERS)
def test_lists_show_what_the_cluster_would(matrix: Matrix, name: str) -> None:
    user = matrix.users[name]
    for kind in ALL:
        allowed = matrix.where(name, "list", kind)
        for namespace in matrix.namespaces:
            answer = user.caller.get(f"/{kind}", namespace=namespace)
            assert answer.status_code == (200 if namespace in allowed else 403), (kind, namespace)
        page = user.caller.json(f"/{kind}", facets="namespace,phase", limit=500)
        ours = {row["namespace"] for row in page["items"]} & set(matrix.namespaces)
        assert ours == allowed & set(matrix.namespaces[:3]), kind
        assert set(page["facets"]["namespace"]) & set(matrix.namespaces) == ours
        assert page["total"] == sum(page["facets"]["namespace"].values())
        found = user.caller.json(f"/{kind}", q="one", limit=500)
        assert {row["namespace"] for row in found["items"]} & set(matrix.namespaces) == ours


@pytest.mark.parametrize("name", USERS)
def test_details_and_parts_follow_the_right_to_get(matrix: Matrix, name: str) -> None:
    user = matrix.users[name]
    for namespace in matrix.namespaces:
        for kind in ALL:
            for who in ("one", "missing"):
                allowed = matrix.can(name, "get", kind, namespace, who)
                there = who == "one" and namespace != matrix.namespaces[3]
                expected = (200 if there else 404) if allowed else 403
                path = f"/namespaces/{namespace}/{kind}/{who}"
                parts = [""] + (["/export"] if kind in KINDS else [])
                parts += ["/metrics", "/epochs", "/attempts"] if kind == "trainings" else []
                for part in parts:
                    assert user.caller.get(path + part).status_code == expected, (path, part)
                events = allowed and matrix.can(name, "list", "events", namespace)
                expected = (200 if there else 404) if events else 403
                assert user.caller.get(f"{path}/events").status_code == expected, path
        logs = matrix.can(name, "get", "trainings", namespace, "one") and matrix.can(name, "get", "pods/log", namespace)
        answer = user.caller.get(f"/namespaces/{namespace}/trainings/one/logs")
        assert answer.status_code == (404 if logs else 403), namespace


@pytest.mark.parametrize("name", USERS)
def test_totals_errors_and_namespaces_count_only_what_may_be_listed(matrix: Matrix, name: str) -> None:
    user, full = matrix.users[name], set(matrix.namespaces[:3])
    lists = {kind: matrix.where(name, "list", kind) for kind in ALL}
    found = user.caller.json("/statistics", namespace=matrix.namespaces)
    for kind, key in zip(KINDS, ("models", "modelSources", "trainings"), strict=True):
        assert (found.get(key) or {"total": 0})["total"] == len(lists[kind] & full), kind
        rows = {row["namespace"] for row in found["byNamespace"] if row.get(key)}
        assert rows == lists[kind] & full
    assert ("spending" in found) == bool(lists["trainings"])
    errors = user.caller.json("/errors", namespace=matrix.namespaces)
    shown = {(item["object"]["kind"], item["object"]["namespace"]) for item in errors["items"]}
    assert shown == {(WORDS[kind], namespace) for kind in ALL for namespace in lists[kind] & full}
    assert errors["total"] == len(shown)
    for namespace in matrix.namespaces:
        one = user.caller.json("/errors", namespace=namespace)["items"]
        assert {item["object"]["kind"] for item in one} == {kind for kind, place in shown if place == namespace}
    every = {row["name"]: row["kinds"] for row in user.caller.json("/namespaces")["items"]}
    sees_all = matrix.can(name, "list", "namespaces")
    for namespace in matrix.namespaces:
        kinds = [kind for kind in KINDS if namespace in lists[kind]]
        assert (namespace in every) == (bool(kinds) or sees_all), namespace
        assert every.get(namespace, []) == kinds
    for namespace in matrix.namespaces:
        body = {"namespace": namespace, "type": "HUGGING_FACE", "secretRef": "hub"}
        answer = user.caller.http.post("/secrets/validate", json=body)
        assert answer.status_code == (200 if namespace in lists["modelsources"] else 403)


@pytest.mark.parametrize("name", USERS)
def test_the_stream_shows_what_lists_would(matrix: Matrix, api: ApiProcess, name: str) -> None:
    user = matrix.users[name]
    both = {k: matrix.where(name, "list", k) & matrix.where(name, "watch", k) for k in ALL}
    follower = Follower(api.url, user.token, kind=ALL)
    try:
        assert follower.synced.wait(120)
        shown = {key for key in follower.state() if key[1] in matrix.namespaces}
    finally:
        follower.close()
    assert shown == {(WORDS[k], n, "one") for k in ALL for n in both[k] & set(matrix.namespaces[:3])}
    for kind in ALL:
        refused = next((n for n in matrix.namespaces if n not in both[kind]), None)
        if refused:
            answer = user.caller.get("/events", kind=kind, namespace=refused)
            assert answer.status_code == 403


def test_the_oracle_agrees_with_kubectl(matrix: Matrix, control_plane: ControlPlane) -> None:
    kubectl = str(build_tools(["kubectl"])["kubectl"])
    sample = [
        ("view-a", "list", "trainings", 0),
        ("view-a", "list", "trainings", 1),
        ("one-training", "get", "trainings/one", 1),
        ("one-training", "get", "trainings/two", 1),
        ("lists-without-get", "get", "models/one", 2),
        ("models-of-b", "list", "models", 1),
    ]
    for user, verb, resource, at in sample:
        plural, _, one = resource.partition("/")
        words = [f"{plural}.{meta.GROUP}" + (f"/{one}" if one else ""), "-n", matrix.namespaces[at]]
        who = ["--as", f"system:serviceaccount:{matrix.home}:{user}"]
        command = [kubectl, "--kubeconfig", str(control_plane.kubeconfig), "auth", "can-i", verb, *words, *who]
        said = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
        assert (said == "yes") == matrix.can(user, verb, plural, matrix.namespaces[at], one), command


def test_without_a_valid_token_there_is_nothing(api: ApiProcess) -> None:
    paths = ["/models", "/status", "/openapi.json", "/events", "/nothing", "/namespaces/x/models/y"]
    for token in (None, "nonsense", "a.b.c"):
        for path in paths:
            answer = api.caller(token).get(path)
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["Content-Type"] == "application/problem+json"
