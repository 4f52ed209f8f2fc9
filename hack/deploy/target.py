"""The cluster that `make` works on: chosen, or brought up, by the launcher."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from deploy import images
from deploy.release import Cluster
from deploy.shell import launcher, run


@dataclass(frozen=True)
class Target:
    """A cluster, and what the names of images in it begin with."""

    cluster: Cluster
    image_prefix: str

    def build(self, *wanted: images.Image) -> list[tuple[str, str]]:
        """Repository and tag of each image, built if its content is new."""
        return [images.build(image, self.image_prefix) for image in wanted]


def bring_up() -> Target:
    """The cluster, running. Raises CommandError with the launcher's words."""
    found = json.loads(run(launcher("ensure", "--output", "json"), watched=True))
    programs = [run(launcher("bin", name)).strip() for name in ("kubectl", "helm")]
    return Target(Cluster(Path(found["kubeconfig"]), *programs), found["imagePrefix"])
