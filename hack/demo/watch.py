"""The live view: what `kubectl get trainings -w` prints, until every Training has ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from deploy.release import Cluster

TERMINAL = ("Succeeded", "Failed")


class DemoError(Exception):
    """What did not come out as it should, in words."""


def until_ended(cluster: Cluster, namespace: str, names: Sequence[str], limit_seconds: float) -> list[dict[str, Any]]:
    """The Trainings once each has ended. Raises DemoError when one failed or the limit has passed."""
    watcher = subprocess.Popen(
        [*cluster.kubectl_words, "-n", namespace, "get", "trainings.modelyard.dev", "--watch"],
        stdout=sys.stdout,
    )
    deadline = time.monotonic() + limit_seconds
    try:
        while True:
            found = [cluster.get("-n", namespace, "training.modelyard.dev", name) for name in names]
            phases = [obj.get("status", {}).get("phase") for obj in found]
            if all(phase in TERMINAL for phase in phases):
                break
            if time.monotonic() > deadline:
                raise DemoError(f"the Trainings are still {', '.join(map(str, phases))} after {limit_seconds:.0f} s")
            time.sleep(1)
    finally:
        watcher.terminate()
        watcher.wait()
    for obj in found:
        status = obj["status"]
        if status["phase"] != "Succeeded":
            raise DemoError(f"{obj['metadata']['name']} failed: {status.get('reason')}: {status.get('message')}")
    return found


def condition(cluster: Cluster, namespace: str, what: str, name: str, seconds: int, wanted: str = "Ready") -> None:
    """`kubectl wait` for a condition; what the object says of itself when that takes too long."""
    cluster.kubectl("-n", namespace, "wait", f"{what}/{name}", f"--for=condition={wanted}", f"--timeout={seconds}s")
