"""Tokens of an identity provider: the API shows their owners exactly what the API server itself shows them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import ControlPlane
from localcluster.tools import build_tools
from modelyard.resources import meta
from support.cluster import Kube, new_namespace, wait_for
from support.oidc import Issuer, issuer
from support.statusapi import SPECS, ApiProcess, Follower, api_process, grant, make, rule

KINDS = ["models", "modelsources", "trainings"]


@pytest.fixture(scope="module")
def provider(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    """The cluster trusts it for the time of these tests."""
    path = control_plane.components.config.authentication
    before = path.read_text()
    with issuer(tmp_path_factory.mktemp("oidc")) as found:
        _put(path, json.dumps(found.configuration))
        kubectl = Kubectl(control_plane, tmp_path_factory.mktemp("kubectl"))
        probe = found.token(email="probe@example.com")
        wait_for(lambda: kubectl.run(probe, "auth", "whoami").returncode == 0, "the cluster to trust the issuer", 120)
        yield found
        _put(path, before)


class Kubectl:
    """The real one, with a token."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self._program = str(build_tools(["kubectl"])["kubectl"])
        self._content = yaml.safe_load(plane.kubeconfig.read_text())
        self._path = folder / "kubeconfig"

    def run(self, token: str, *words: str) -> subprocess.CompletedProcess[str]:
        for user in self._content["users"]:
            user["user"] = {"token": token}
        self._path.write_text(yaml.safe_dump(self._content))
        command = [self._program, "--kubeconfig", str(self._path), *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)


@pytest.fixture
def kubectl(control_plane: ControlPlane, tmp_path: Path) -> Kubectl:
    return Kubectl(control_plane, tmp_path)


@pytest.fixture(scope="module")
def places(kube: Kube, provider: Issuer) -> list[str]:
    """Three namespaces: jane's by name, her group's, and another."""
    found = [new_namespace(kube, prefix) for prefix in ("by-name", "by-group", "other")]
    for namespace in found:
        for kind in meta.ROOT_KINDS:
            make(kube, kind, namespace, "one", SPECS[kind.plural])
    jane = {"kind": "User", "name": "oidc:jane@example.com"}
    team = {"kind": "Group", "name": "oidc:ml-team"}
    view = ["get", "list", "watch"]
    grant(kube, "oidc-jane", jane, [rule(view, ["models", "trainings"])], found[0])
    grant(kube, "oidc-team", team, [rule(["list"], KINDS), rule(view, ["modelsources"])], found[1])
    return found


def test_an_oidc_token_shows_what_kubectl_shows(
    api: ApiProcess, provider: Issuer, kubectl: Kubectl, places: list[str], admin_token: str
) -> None:
    everything = api.caller(admin_token)
    wait_for(lambda: everything.json("/trainings", namespace=places)["total"] == 3, "the objects")
    for claims in (
        {"email": "jane@example.com", "groups": ["ml-team"]},
        {"email": "jane@example.com"},
        {"email": "joe@example.com", "groups": ["ml-team", "system:masters"]},
        {"email": "stranger@example.com"},
    ):
        token = provider.token(**claims)
        caller = api.caller(token)
        said = caller.json("/status")
        assert said["user"] == f"oidc:{claims['email']}"
        for namespace in places:
            for kind in KINDS:
                listed = kubectl.run(token, "get", f"{kind}.modelyard.dev", "-n", namespace, "-o", "name")
                answer = caller.get(f"/{kind}", namespace=namespace)
                assert answer.status_code == (200 if listed.returncode == 0 else 403), (claims, namespace, kind)
                got = kubectl.run(token, "get", f"{kind}.modelyard.dev", "one", "-n", namespace, "-o", "name")
                detail = caller.get(f"/namespaces/{namespace}/{kind}/one")
                assert detail.status_code == (200 if got.returncode == 0 else 403), (claims, namespace, kind)
        for kind in KINDS:
            lists = {n for n in places if _can(kubectl, token, "list", kind, n)}
            page = caller.json(f"/{kind}", facets="namespace", limit=500)
            assert {row["namespace"] for row in page["items"]} & set(places) == lists
        visible = {n for n in places for k in KINDS if _can(kubectl, token, "list", k, n)}
        assert {row["name"] for row in caller.json("/namespaces")["items"]} & set(places) == visible


def test_tokens_that_the_cluster_refuses_are_refused(api: ApiProcess, provider: Issuer, places: list[str]) -> None:
    good = provider.token(email="jane@example.com")
    assert api.caller(good).get("/status").status_code == 200
    head, body, signature = good.split(".")
    wrong = {
        "expired": provider.token(-60, email="jane@example.com"),
        "for others": provider.token(aud="somebody-else", email="jane@example.com"),
        "of another issuer": provider.token(iss="https://127.0.0.1:1", email="jane@example.com"),
        "without a name": provider.token(sub="jane"),
        "signed by nobody": f"{head}.{body}.{signature[::-1]}",
    }
    for what, token in wrong.items():
        assert api.caller(token).get("/status").status_code == 401, what


def test_a_stream_ends_with_its_token(api: ApiProcess, provider: Issuer, places: list[str]) -> None:
    token = provider.token(20, email="jane@example.com")
    follower = Follower(api.url, token, kind="trainings", namespace=places[0])
    wait_for(follower.synced.is_set, "the snapshot")
    wait_for(follower.over.is_set, "the end of the stream")
    assert follower.seen("end")[-1]["code"] == "TokenExpired"
    assert api.caller(token).get("/status").status_code == 401


def test_with_an_audience_of_its_own_the_api_takes_tokens_for_that_alone(
    api_kubeconfig: Path, provider: Issuer, places: list[str], tmp_path: Path
) -> None:
    """To the API server an OIDC token is one for itself, so an audience that only the API has shuts it out."""
    with api_process(tmp_path, api_kubeconfig, api={"audiences": ["modelyard-api"]}) as narrow:
        assert narrow.caller(provider.token(email="jane@example.com")).get("/status").status_code == 401


def _can(kubectl: Kubectl, token: str, verb: str, kind: str, namespace: str) -> bool:
    return kubectl.run(token, "auth", "can-i", verb, f"{kind}.modelyard.dev", "-n", namespace).returncode == 0


def _put(path: Path, content: Any) -> None:
    """Whole or not at all: the API server may read at any moment."""
    new = path.with_suffix(".new")
    new.write_text(content)
    new.replace(path)
