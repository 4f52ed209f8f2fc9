"""One control plane and one collector for all tests here, with the rights that the chart gives it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial

import pytest

from localcluster import ControlPlane
from modelyard.resources.meta import GROUP
from support.collector_world import ACCOUNT, NAMESPACE, ROOT, SYSTEM, World, tool, until
from support.ports import free_port
from support.tls_sink import certificates


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("collector")
    (folder / "tls").mkdir()
    with ControlPlane(audit=True) as plane:
        world = World(plane, folder, certificates(folder / "tls"), free_port(), free_port())
        world.kubectl("apply", "-f", str(ROOT / "crds"))
        until("the CRD", lambda: "trainings" in world.kubectl("api-resources", "--api-group", GROUP, "-o", "name"))
        for namespace in (SYSTEM, NAMESPACE, "team-b"):
            world.kubectl("create", "namespace", namespace)
            until("the account", partial(_has_account, world, namespace))
        for account in ("modelyard-operator", "modelyard-api", ACCOUNT):
            world.kubectl("-n", SYSTEM, "create", "serviceaccount", account)
        chart = [str(tool("helm")), "template", "modelyard", str(ROOT / "charts/modelyard"), "-n", SYSTEM]
        rights = subprocess.run(
            [*chart, "--show-only", "templates/rbac-collector.yaml"], check=True, capture_output=True, text=True
        )
        world.kubectl("apply", "-f", "-", stdin=rights.stdout)
        world.start()
        yield world
        if world.process is not None and world.process.poll() is None:
            world.stop()


def _has_account(world: World, namespace: str) -> bool:
    return "default" in world.kubectl("-n", namespace, "get", "serviceaccounts")
