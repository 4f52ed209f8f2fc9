"""The images, named by their content: a changed file gives a new tag, and only then a pod is replaced.

The recipe of an image is its Dockerfile and the files that it copies. Where they are built is the launcher's business:
straight into the node's store, by Docker and `kind load`, or by Docker and a push to `REGISTRY`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from deploy.shell import ROOT, launcher, show


@dataclass(frozen=True)
class Image:
    """One image of this repository: its name, its Dockerfile, and the paths that its content depends on."""

    name: str
    dockerfile: str
    paths: tuple[str, ...]
    dependencies: tuple[str, ...] = ()

    def key(self) -> str:
        """Twelve hex digits over names and contents of everything that goes into the image."""
        return _digest(self.dockerfile, *self.dependencies, *self.paths)

    def dependencies_key(self) -> str | None:
        """The same of its stage `dependencies`; None for an image without one."""
        return _digest(self.dockerfile, *self.dependencies) if self.dependencies else None


LOCKS = "requirements/bootstrap.lock"
OPERATOR = Image(
    "modelyard",
    "Dockerfile",
    ("operator/modelyard", "training/modelyard_training/agent", "training/modelyard_training/params"),
    (LOCKS, "requirements/operator.lock"),
)
TRAINER = Image(
    "modelyard-trainer",
    "Dockerfile.trainer",
    ("training/modelyard_training",),
    (LOCKS, "requirements/trainer.lock"),
)
HUB = Image("modelyard-demo-hub", "hack/hub/Dockerfile", ("hack/hub",))


def _digest(*entries: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for entry in entries for p in _files(ROOT / entry)):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def build(image: Image, repository_prefix: str) -> tuple[str, str]:
    """Build what is not there yet; returns repository and tag."""
    repository, tag = f"{repository_prefix}{image.name}", image.key()
    key = image.dependencies_key()
    show(
        launcher(
            "build-image",
            *("--tag", f"{repository}:{tag}"),
            *("--file", ROOT / image.dockerfile),
            *("--context", ROOT),
            *(() if key is None else ("--dependencies-key", key)),
        )
    )
    return repository, tag
