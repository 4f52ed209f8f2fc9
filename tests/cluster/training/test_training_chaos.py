"""The operator is killed again and again while Models and Trainings come and go: the end is an undisturbed run's."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from localcluster import ControlPlane
from support import chaos
from support.audit import Audit
from support.cluster import Kube, new_namespace, wait_for
from support.kubelet import PretendKubelet
from support.operator import OperatorProcess

Obj = dict[str, Any]
SECONDS = 420


KILLS = 8


class Killer:
    """Kills the operator at random moments while it leads and starts it again, so often or until it is told to stop."""

    def __init__(self, operator: OperatorProcess, seed: int) -> None:
        self._operator = operator
        self._random = random.Random(seed)
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.kills = 0

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        self._thread.join()

    def _loop(self) -> None:
        while self.kills < KILLS and not self._halt.wait(0.1):
            if self._operator.ready() != "leading":
                continue
            if self._halt.wait(self._random.uniform(0.1, 3)):
                return
            self._operator.kill()
            self.kills += 1
            self._operator.start()


def played(kube: Kube, control_plane: ControlPlane, folder: Path, seed: int | None) -> tuple[Obj, Counter[Any], int]:
    """The end state of one play, the objects that were made in it, and how often the operator was killed."""
    namespace = new_namespace(kube, "chaos")
    settings = {"namespace": namespace, "watchNamespaces": [namespace], "logLevel": "INFO"}
    assert control_plane.audit_log
    audit = Audit(control_plane.audit_log)
    kills = 0
    with (
        OperatorProcess(control_plane.kubeconfig, folder, settings, name=namespace) as operator,
        PretendKubelet(kube, namespace, chaos.script),
    ):
        if seed is None:
            chaos.play(kube, namespace)
        else:
            with Killer(operator, seed) as killer:
                chaos.play(kube, namespace)
                wait_for(lambda: chaos.is_over(kube, namespace), "everything to come to its end", SECONDS, 0.5)
            kills = killer.kills
        operator.wait_until_leading()
        wait_for(lambda: chaos.is_over(kube, namespace), "everything to come to its end", SECONDS, 0.5)
        Audit(control_plane.audit_log).wait_for_rest(namespace, renewals=6)
        # An Event has one name however often it happens, and which ones there are is a matter of what was seen in time.
        made = [r for r in audit.written(namespace=namespace) if r.verb == "create" and r.code == 201]
        counted = Counter((r.resource, r.name) for r in made if r.resource != "events")
        return chaos.end_state(kube, namespace), counted, kills


def differences(wild: Any, calm: Any, at: str = "") -> list[str]:
    """Every place where the two differ, with what is there."""
    if not (isinstance(wild, dict) and isinstance(calm, dict)):
        return [] if wild == calm else [f"{at}: {wild!r} is not {calm!r}"]
    return [d for key in {**wild, **calm} for d in differences(wild.get(key), calm.get(key), f"{at}/{key}")]


@pytest.mark.timeout(1500)
def test_the_end_is_that_of_an_undisturbed_run(kube: Kube, control_plane: ControlPlane, tmp_path: Path) -> None:
    calm, calm_made, _ = played(kube, control_plane, tmp_path, None)
    wild, wild_made, kills = played(kube, control_plane, tmp_path, seed=7)
    assert kills >= KILLS / 2
    different = differences(wild, calm)
    assert not different, "\n".join(different)
    # The audit log may not know how a request of a killed client was answered, so it can miss some, and never add any.
    assert not wild_made - calm_made, "something was made twice"
