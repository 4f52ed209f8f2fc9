"""1,000 Models and ModelSources and 1,000 Trainings that nobody would write, some edited or deleted halfway.

The operator stays up, is done with each after a bounded number of looks and then silent, gives a reason for all that it
does not do, and goes on with the objects beside them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from localcluster import ControlPlane
from modelyard.resources.crd import DEFINITIONS
from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, PVC, ROOT_KINDS
from modelyard.resources.schema import structural
from support.audit import Audit
from support.build import make_claim, make_model, make_source
from support.cluster import Kube, Refused, wait_for
from support.fuzz import change, objects
from support.operator import OperatorProcess

Obj = dict[str, Any]
SEED = 20261121
LOOKS = 40
"""So many reconciles an object may cost, with all that it makes; a hot loop costs thousands."""
DEFECT = "This is a defect"
TABULAR = {"recipe": {"name": "tabular-classification"}, "dataset": {"pvc": {"claimName": "rows"}}}


def send(work: Iterable[Callable[[], Any]]) -> list[Any]:
    """Does all of it, some at a time; the Refused that it met, or what it answered."""

    def safely(do: Callable[[], Any]) -> Any:
        try:
            return do()
        except Refused as refused:
            return refused

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(safely, work))


def healthy(namespace: str) -> list[Obj]:
    """What a user would write, between all the rest."""
    models = [make_model(f"good-{n}", namespace=namespace) for n in range(5)]
    training = {"apiVersion": MODEL.api_version, "kind": "Training", "spec": TABULAR}
    return [*models, *({**training, "metadata": {"name": f"good-{n}", "namespace": namespace}} for n in range(5))]


def unexplained(obj: Obj) -> str | None:
    """What is missing in the status of an object that the operator has seen; None if nothing is."""
    status = obj.get("status") or {}
    conditions = status.get("conditions") or ()
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return f"generation {obj['metadata']['generation']} was not observed: {status}"
    if not conditions or any(not c.get("reason") for c in conditions):
        return f"conditions without a reason: {conditions}"
    stalled = [c for c in conditions if c["type"] == "Stalled" and c["status"] == "True"]
    if stalled and len(stalled[0]["message"]) < 10:
        return f"stalled, and nothing says why: {conditions}"
    if status.get("phase") == "Failed" and not stalled:
        return f"failed, and not stalled: {conditions}"
    return None


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("counts"), [{"Model": 700, "ModelSource": 300}, {"Training": 1000}], ids=lambda c: "+".join(c)
)
def test_fuzzed_objects_get_a_reason_and_stop_nothing(
    kube: Kube, namespace: str, control_plane: ControlPlane, tmp_path: Path, counts: dict[str, int]
) -> None:
    kinds = {kind.kind: kind for kind in ROOT_KINDS}
    chance = random.Random(SEED)
    fuzzed = [obj for kind, count in counts.items() for obj in objects(kind, count, SEED)]
    for obj in fuzzed:
        obj["metadata"]["namespace"] = namespace
    chance.shuffle(fuzzed)
    kube.create(make_source(namespace=namespace), MODELSOURCE)
    claim = make_claim("rows", namespace=namespace)
    kube.create(claim, PVC)
    kube.merge(PVC, namespace, "rows", {"status": claim["status"]}, "status")
    good = healthy(namespace)
    step = len(fuzzed) // len(good)
    for number, obj in enumerate(good):
        fuzzed.insert(number * (step + 1), obj)
    settings = {"namespace": namespace, "watchNamespaces": [namespace], "dataPlane": "native", "logLevel": "INFO"}
    with OperatorProcess(control_plane.kubeconfig, tmp_path, settings) as operator:
        operator.wait_until_leading()
        answers = send(lambda obj=obj: kube.create(obj, kinds[obj["kind"]]) for obj in fuzzed)  # type: ignore[misc]
        refused = [a for a in answers if isinstance(a, Refused)]
        assert all(400 <= r.code < 500 and len(r.message) > 20 for r in refused), [r for r in refused if r.code >= 500]
        taken = [a for a in answers if not isinstance(a, Refused)]
        assert len(refused) > len(fuzzed) // 4
        assert len(taken) > len(fuzzed) // 8

        strangers = [o for o in taken if o["metadata"]["name"].startswith("fuzz-")]
        edited, deleted = chance.sample(strangers, len(strangers) // 8), chance.sample(strangers, len(strangers) // 5)
        send(lambda o=o: kube.merge(*_place(o, kinds), _edit(o, chance)) for o in edited)  # type: ignore[misc]
        send(lambda o=o: kube.delete(*_place(o, kinds)) for o in deleted)  # type: ignore[misc]

        gone = {o["metadata"]["uid"] for o in deleted}
        wait_for(
            lambda: not gone & {o["metadata"]["uid"] for o in _all(kube, namespace)}, "the deleted ones to go", 240
        )
        wait_for(
            lambda: not any(map(unexplained, _all(kube, namespace))),
            f"a reason for each: {next(filter(None, map(unexplained, _all(kube, namespace))), '')}",
            240,
            1,
        )
        wait_for(lambda: _started(kube, namespace), "the good ones to go on", 120)
        assert operator.process.poll() is None
        assert DEFECT not in operator.log.read_text()
        wait_for(lambda: operator.metric("modelyard_workqueue_depth") == 0, "an empty queue", 120)
        # What takes long is told once, half a minute later; what would never come to rest, not at all.
        wait_for(lambda: _silent(control_plane, namespace), "ten seconds without a write", 240, 0)
        looks = sum(_looks(operator, kind.kind) for kind in ROOT_KINDS)
        assert looks < LOOKS * len(taken), f"{looks:.0f} looks at {len(taken)} objects"


def _edit(obj: Obj, chance: random.Random) -> Obj:
    [definition] = [d for d in DEFINITIONS if d.kind.kind == obj["kind"]]
    spec: Obj = {}
    change(spec, structural(definition.spec, "spec"), chance)
    return {"spec": spec}


def _place(obj: Obj, kinds: dict[str, Any]) -> tuple[Any, str, str]:
    return kinds[obj["kind"]], obj["metadata"]["namespace"], obj["metadata"]["name"]


def _all(kube: Kube, namespace: str) -> list[Obj]:
    return [obj for kind in ROOT_KINDS for obj in kube.list(kind, namespace)]


def _looks(operator: OperatorProcess, kind: str) -> float:
    results = ("success", "requeue_after", "requeue", "error")
    return sum(
        operator.metric(f'modelyard_reconcile_total{{controller="{kind}",result="{result}"}}') for result in results
    )


def _silent(control_plane: ControlPlane, namespace: str) -> bool:
    assert control_plane.audit_log
    audit = Audit(control_plane.audit_log)
    time.sleep(10)
    return not audit.writes(namespace=namespace)


def _started(kube: Kube, namespace: str) -> bool:
    jobs = {j["metadata"]["name"] for j in kube.list(JOB, namespace)}
    fetched = all(f"fetch-mdl-good-{n}-v1-1" in jobs for n in range(5))
    trained = all(any(name.startswith(f"good-{n}-") for name in jobs) for n in range(5))
    return fetched and trained
