from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import ControlPlane
from support.cluster import Kube, control_plane, kube, namespace
from support.operator import OperatorProcess

__all__ = ["control_plane", "kube", "namespace"]


@pytest.fixture
def operator(control_plane: ControlPlane, kube: Kube, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """The operator of the test's own namespace; it looks at everything again every few seconds."""
    settings = {"namespace": namespace, "watchNamespaces": [namespace], "resyncSeconds": 3, "prices": {"H100": 2}}
    with OperatorProcess(control_plane.kubeconfig, tmp_path, settings) as process:
        process.wait_until_leading()
        yield process
