"""What a scenario is, and what pods do in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.faultscenarios.place import Place
from support.kubelet import Ending
from support.trainings import ANALYZED

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """`act`, then wait until `outcome`."""

    name: str
    act: Callable[[Place], None]
    outcome: Callable[[Place], bool]


Script = Callable[[Obj], Ending | None]


def fetched(pod: Obj) -> Ending:
    """A download that works; revision `b` is another commit."""
    commit = "decaf" if "revision=b" in json.dumps(pod["spec"]["containers"][0]) else "c0ffee"
    said = {"result": "done", "resolvedRevision": commit, "bytes": 12, "files": 2, "digest": "sha256:ab"}
    return Ending(0, json.dumps(said))


def trained(*endings: Ending | None) -> Script:
    """How each attempt ends; None goes on until it is stopped. Downloads and analyses work."""

    def script(pod: Obj) -> Ending | None:
        attempt = pod["metadata"]["labels"].get("modelyard.dev/attempt")
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "analysis":
            return Ending(0, ANALYZED)
        return endings[int(attempt) - 1] if attempt else fetched(pod)

    return script


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story. `given` is undisturbed. `shares`: there is another namespace, `there`.

    `datasets`: whether the cluster has Datasets is part of it, so that no other is played meanwhile.
    """

    name: str
    steps: tuple[Step, ...]
    given: tuple[Step, ...] = ()
    script: Script = fetched
    shares: bool = False
    datasets: bool = False
