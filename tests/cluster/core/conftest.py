from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from localcluster import ControlPlane
from support.cluster import Kube, control_plane, kube, namespace, new_namespace
from support.operator import OperatorProcess

__all__ = ["control_plane", "kube", "namespace"]

StartCopier = Callable[..., OperatorProcess]


@pytest.fixture
def copier(control_plane: ControlPlane, kube: Kube, namespace: str, tmp_path: Path) -> Iterator[StartCopier]:
    """Starts the operator with the test's small controller, in and for the test's own namespace."""
    with ExitStack() as stack:

        def start(name: str = "copier", **settings: Any) -> OperatorProcess:
            command = ("-m", "support.copier")
            own = {"namespace": namespace, "watchNamespaces": [namespace], **settings}
            process = OperatorProcess(control_plane.kubeconfig, tmp_path, own, name=name, command=command)
            return stack.enter_context(process)

        yield start


@pytest.fixture(scope="module")
def shared(
    control_plane: ControlPlane, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """One leading operator with the small controller, for all namespaces: for tests that do not end it."""
    settings = {"namespace": new_namespace(kube, "shared"), "secrets": {"periodSeconds": 1}}
    folder = tmp_path_factory.mktemp("shared")
    command = ("-m", "support.copier")
    with OperatorProcess(control_plane.kubeconfig, folder, settings, command=command) as process:
        process.wait_until_leading()
        yield process
