"""One cluster and one installation for all end-to-end tests; a namespace of its own for each.

The cluster is any conformant one, chosen as `make demo` chooses it. What an earlier run left is used again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy import hub as demo_hub
from deploy import images, release
from deploy.release import Cluster
from deploy.target import bring_up
from support.place import Place

HUB_NAMESPACE = "modelyard-e2e-hub"
HUB_TOKEN = f"hf_canary_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Installed:
    """A cluster that runs Modelyard from its chart, and a hub to fetch from."""

    cluster: Cluster
    trainer_image: str
    hub_url: str
    hub_token: str


@pytest.fixture(scope="session")
def installed() -> Installed:
    target = bring_up()
    cluster = target.cluster
    operator, trainer, hub_image = target.build(images.OPERATOR, images.TRAINER, images.HUB)
    release.install(cluster, operator, trainer, {})
    make_namespace(cluster, HUB_NAMESPACE)
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hub-token", "namespace": HUB_NAMESPACE},
        "stringData": {"token": HUB_TOKEN},
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(token))
    demo_hub.install(cluster, HUB_NAMESPACE, ":".join(hub_image))
    cluster.kubectl("-n", HUB_NAMESPACE, "rollout", "restart", "deployment/hub")
    cluster.kubectl("-n", HUB_NAMESPACE, "rollout", "status", "deployment/hub", "--timeout", "300s")
    return Installed(cluster, ":".join(trainer), f"http://hub.{HUB_NAMESPACE}.svc:8080", HUB_TOKEN)


def make_namespace(cluster: Cluster, name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(obj))


@pytest.fixture
def place(installed: Installed, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A fresh namespace under the `restricted` Pod Security level, with a ready ModelSource `hub`."""
    name = f"e2e-{secrets.token_hex(4)}"
    make_namespace(installed.cluster, name)
    place = Place(installed.cluster, name, installed.trainer_image, installed.hub_url)
    place.secret("hub-token", {"token": installed.hub_token})
    place.apply_source("hub", "hub-token")
    yield place
    if request.node.stash.get(FAILED, False):
        print(place.describe())
    installed.cluster.kubectl("delete", "namespace", name, "--wait=false")


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report
