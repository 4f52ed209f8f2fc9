from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import ControlPlane
from support.cluster import Kube, control_plane, kube, namespace
from support.kueue import Kueue
from support.operator import OperatorProcess, own_operator

__all__ = ["control_plane", "kube", "namespace"]


@pytest.fixture(scope="package")
def kueue(control_plane: ControlPlane, kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kueue]:
    """Kueue, for all tests of the session."""
    with Kueue(control_plane, kube, tmp_path_factory.mktemp("kueue")) as running:
        yield running


@pytest.fixture
def operator(control_plane: ControlPlane, kueue: Kueue, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator of the test's own namespace."""
    with own_operator(control_plane.kubeconfig, tmp_path, namespace) as process:
        yield process
