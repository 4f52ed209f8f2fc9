"""Which cluster is chosen, and that nobody's own cluster is touched by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcluster import providers
from localcluster.errors import LauncherError
from localcluster.paths import clusters_root
from localcluster.providers import Provider, choose


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux with root, without Docker and without a cluster."""
    for name in ("KUBECONFIG", "CLUSTER", "REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(providers, "docker_answers", lambda: False)
    monkeypatch.setattr(providers, "can_run_cluster", lambda: True)


def test_kubeconfig_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/jane/.kube/production")
    with pytest.raises(LauncherError, match="say CLUSTER=current"):
        choose()
    monkeypatch.setenv("CLUSTER", "current")
    assert choose() is Provider.CURRENT


def test_current_needs_a_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "current")
    with pytest.raises(LauncherError, match="KUBECONFIG is not set"):
        choose()


def test_the_launchers_own_kubeconfig_is_no_foreign_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(clusters_root() / "modelyard" / "kubeconfig"))
    assert choose() is Provider.LOCAL


def test_docker_comes_before_root(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose() is Provider.LOCAL
    monkeypatch.setattr(providers, "docker_answers", lambda: True)
    assert choose() is Provider.KIND


def test_neither_root_nor_docker_names_the_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "can_run_cluster", lambda: False)
    with pytest.raises(
        LauncherError, match=r"CLUSTER=current to use your own, start a Docker engine .* as root on Linux"
    ):
        choose()


def test_an_unknown_wish_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "minikube")
    with pytest.raises(LauncherError, match="current, kind, local"):
        choose()


def test_images_for_an_own_cluster_need_a_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/jane/.kube/config")
    monkeypatch.setenv("CLUSTER", "current")
    monkeypatch.setattr(providers, "docker_answers", lambda: True)
    with pytest.raises(LauncherError, match="set REGISTRY"):
        providers.build_image("modelyard", "x:1", tmp_path / "Dockerfile", tmp_path, {})
