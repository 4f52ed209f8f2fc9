"""Which cluster is used: the user's own, one that kind makes in Docker, or the launcher's; and images for each.

`KUBECONFIG` alone is refused [nobody's production is to be touched by accident]: `CLUSTER=current` confirms it.
"""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from localcluster import buildkit
from localcluster.cluster import Cluster
from localcluster.errors import LauncherError
from localcluster.host import THREE_WAYS, can_run_cluster
from localcluster.locks import locked
from localcluster.paths import ClusterDir, clusters_root
from localcluster.progress import say
from localcluster.shell import run, shown
from localcluster.tools import build_tools


class Provider(enum.StrEnum):
    """Where the cluster comes from; the values are what `CLUSTER` may say."""

    CURRENT = "current"
    KIND = "kind"
    LOCAL = "local"


@dataclass(frozen=True)
class Ensured:
    """The answer of `ensure`: how to reach the cluster, and what the names of images in it begin with."""

    provider: str
    name: str
    kubeconfig: str
    imagePrefix: str  # noqa: N815 [a key of the JSON answer]

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def docker_answers() -> bool:
    """Whether there is an engine behind the docker command."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "version"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def _foreign_kubeconfig() -> str | None:
    """`KUBECONFIG`, unless it names a cluster that the launcher itself made."""
    value = os.environ.get("KUBECONFIG")
    if not value or Path(value).absolute().is_relative_to(clusters_root()):
        return None
    return value


def choose() -> Provider:
    """Decide by `KUBECONFIG`, `CLUSTER`, Docker and root, in this order."""
    wish = os.environ.get("CLUSTER", "")
    if wish not in {"", *Provider}:
        raise LauncherError(f"CLUSTER={wish}: use one of {', '.join(Provider)}, or unset it")
    if wish == Provider.CURRENT:
        if not os.environ.get("KUBECONFIG"):
            raise LauncherError("CLUSTER=current uses the cluster that KUBECONFIG names, and KUBECONFIG is not set")
        return Provider.CURRENT
    if wish:
        return Provider(wish)
    foreign = _foreign_kubeconfig()
    if foreign is not None:
        raise LauncherError(
            f"KUBECONFIG is set to {foreign}: say CLUSTER=current to use that cluster, "
            "or unset KUBECONFIG to get one of your own on this machine"
        )
    if docker_answers():
        return Provider.KIND
    if can_run_cluster():
        return Provider.LOCAL
    raise LauncherError(THREE_WAYS)


def ensure(name: str) -> Ensured:
    """Bring the chosen cluster up, or find it running."""
    provider = choose()
    if provider is Provider.CURRENT:
        kubectl = build_tools(["kubectl"])["kubectl"]
        kubeconfig = os.environ["KUBECONFIG"]
        run(kubectl, f"--kubeconfig={kubeconfig}", "version", "--request-timeout=10s")
        return Ensured(provider, "current", kubeconfig, _registry_prefix())
    if provider is Provider.KIND:
        return Ensured(provider, name, str(_kind_up(name)), "localhost/")
    return Ensured(provider, name, str(Cluster(name).up()), "localhost/")


def build_image(
    name: str,
    tag: str,
    dockerfile: Path,
    context: Path,
    arguments: Mapping[str, str],
    dependencies_key: str | None = None,
) -> None:
    """Build an image for the chosen cluster. Docker needs no `dependencies_key`: its own cache keeps the stage."""
    provider = choose()
    if provider is Provider.LOCAL:
        buildkit.build_image(name, tag, dockerfile, context, arguments, dependencies_key)
        return
    if not docker_answers():
        raise LauncherError("images for a cluster of your own are built with Docker, and no Docker engine answers")
    if provider is Provider.CURRENT and not _registry_prefix():
        raise LauncherError(
            "images for a cluster of your own go through a registry: set REGISTRY to one it can pull from"
        )
    argv: list[str | Path] = ["docker", "build", "--tag", tag, "--file", dockerfile]
    for key, value in arguments.items():
        argv += ["--build-arg", f"{key}={value}"]
    bundle = buildkit.ca_bundle()
    if bundle is not None:
        argv += ["--secret", f"id=ca,src={bundle}"]
    shown(*argv, context)
    if provider is Provider.CURRENT:
        shown("docker", "push", tag)
    else:
        shown(_kind(), "load", "docker-image", tag, "--name", name)


def load_image(name: str, archive: Path) -> None:
    """Bring an image archive to the nodes of the chosen cluster."""
    provider = choose()
    if provider is Provider.CURRENT:
        raise LauncherError("an archive can't be loaded into a cluster of your own: push it to a registry")
    if provider is Provider.KIND:
        shown(_kind(), "load", "image-archive", archive, "--name", name)
    else:
        say(Cluster(name).running_node().images.load(archive).strip())


def kind_down(name: str) -> None:
    """Delete the kind cluster of this name, if there is one."""
    shown(_kind(), "delete", "cluster", "--name", name)
    shutil.rmtree(ClusterDir(name).root, ignore_errors=True)


def _registry_prefix() -> str:
    registry = os.environ.get("REGISTRY", "").rstrip("/")
    return f"{registry}/" if registry else ""


def _kind() -> Path:
    """kind from the PATH, or built from its module."""
    found = shutil.which("kind")
    return Path(found) if found else build_tools(["kind"])["kind"]


def _kind_up(name: str) -> Path:
    kind, kubeconfig = _kind(), ClusterDir(name).kubeconfig
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    with locked(f"cluster-{name}"):
        if name in run(kind, "get", "clusters").split():
            run(kind, "export", "kubeconfig", "--name", name, "--kubeconfig", kubeconfig)
        else:
            shown(kind, "create", "cluster", "--name", name, "--kubeconfig", kubeconfig, "--wait", "180s")
    return kubeconfig
