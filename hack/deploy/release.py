"""Install the chart, and wait until what it runs is ready."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.shell import ROOT, run

NAMESPACE = "modelyard-system"
RELEASE = "modelyard"


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers: its kubeconfig, and the two programs that speak to it."""

    kubeconfig: Path
    kubectl_bin: str
    helm_bin: str

    @property
    def kubectl_words(self) -> list[str]:
        """kubectl with this cluster, for a command line that is run elsewhere."""
        return [self.kubectl_bin, "--kubeconfig", str(self.kubeconfig)]

    def kubectl(self, *words: str | Path, stdin: str | None = None) -> str:
        """What kubectl printed. Raises CommandError."""
        return run([*self.kubectl_words, *words], stdin=stdin)

    def helm(self, *words: str | Path) -> str:
        """What helm printed. Raises CommandError."""
        return run([self.helm_bin, "--kubeconfig", str(self.kubeconfig), *words])

    def get(self, *words: str) -> Any:
        """An object or list, as JSON. Raises CommandError, also where it is not there."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))


def install(
    cluster: Cluster, operator_image: tuple[str, str], trainer_image: tuple[str, str], settings: Mapping[str, Any]
) -> None:
    """`helm upgrade --install` into a namespace under the `restricted` Pod Security level, and wait for the rollout."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    values = {
        "image": {"repository": operator_image[0], "tag": operator_image[1]},
        "trainerImage": {"repository": trainer_image[0], "tag": trainer_image[1]},
        "settings": dict(settings),
    }
    path = ROOT / "build" / "values.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))
    chart = ROOT / "charts" / "modelyard"
    cluster.helm("upgrade", "--install", RELEASE, chart, "--namespace", NAMESPACE, "--values", path)
    for name in ("operator", "collector", "api"):
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{RELEASE}-{name}", "--timeout", "300s")
