"""Examples for the description: made by the code that answers, from a few objects, so that they stay true. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from modelyard.cluster.store import Change, key_of
from modelyard.plan import Obj
from modelyard.resources import meta
from modelyard.statusapi import cursors, secretcheck, troubles
from modelyard.statusapi.access import Seen
from modelyard.statusapi.changelog import ChangeLog
from modelyard.statusapi.export import SPECS, manifest
from modelyard.statusapi.kinds import ALL, BY_PLURAL, ROOTS
from modelyard.statusapi.rows import Rows
from modelyard.statusapi.schemas import answers
from modelyard.statusapi.schemas.base import Dto, pick
from modelyard.statusapi.statistics import output_bytes, statistics

_NAMESPACE: Final = "team-a"
_AT: Final = "2026-11-21T01:31:00Z"
_EPOCH: Final = "5f0c2a9b7d11"
_FAILED: Final = {"status": "False", "reason": "SecretNotFound", "lastTransitionTime": _AT}
_WORDS: Final = "There is no Secret 'hub-token' in namespace 'team-a': create it with token."
_LABELS: Final = meta.managed_labels(meta.COMPONENT_TRAINING, training="docstrings", attempt="2")


def _object(name: str, spec: Obj, status: Obj, labels: dict[str, str] | None = None) -> Obj:
    who = {"namespace": _NAMESPACE, "name": name, "uid": "0d3a9b52-6f0e-4c19-9a53-2f6f1e6b7c10", "generation": 1}
    more = {"resourceVersion": "4711", "creationTimestamp": "2026-11-21T01:00:00Z", "labels": labels or {}}
    return {"metadata": {**who, **more}, "spec": spec, "status": status}


_OBJECTS: Final[dict[str, Obj]] = {
    "modelsources": _object(
        "hub",
        {"type": "HUGGING_FACE", "secretRef": "hub-token"},
        {
            "observedGeneration": 1,
            "referencedByCount": 1,
            "conditions": [{"type": kind, "message": _WORDS, **_FAILED} for kind in ("Ready", "CredentialsReady")],
        },
    ),
    "models": _object(
        "minilm",
        {"sourceRef": "hub", "versions": [{"name": "v1", "repo": "sentence-transformers/all-MiniLM-L6-v2"}]},
        {
            "observedGeneration": 1,
            "phase": "Ready",
            "versionsReady": 1,
            "versionsTotal": 1,
            "syncedVersions": [{"name": "v1", "phase": "Ready", "pvcName": "mdl-minilm-v1", "bytes": 91_578_368}],
        },
    ),
    "trainings": _object(
        "docstrings",
        {
            "model": {"ref": {"name": "minilm", "version": "v1"}},
            "dataset": {"pvc": {"claimName": "docstrings"}},
            "recipe": {"name": "text-classification"},
            "compute": {"gpu": "H100:1"},
        },
        {
            "observedGeneration": 1,
            "frozen": True,
            "phase": "Running",
            "reason": "Training",
            "attempts": {"number": 2, "infrastructure": 1, "error": 0},
            "history": [{"attempt": 1, "cause": "Infrastructure", "reason": "NodeLost", "exitCode": 137, "step": 30}],
            "progress": {"percent": 60, "step": 54, "totalSteps": 90, "etaSeconds": 31, "lastReportTime": _AT},
            "metrics": {"loss": 0.61743},
            "epochs": [{"epoch": 1, "step": 45, "metrics": {"loss": 0.70211, "accuracy": 0.74}}],
            "placement": {"job": "docstrings-2", "gpuType": "H100"},
            "cost": {"gpuSeconds": 144, "estimatedUSD": "0.12", "asOf": _AT},
        },
    ),
    "datasets": _object(
        "mdl-minilm-v1",
        {"source": {"type": "HUGGING_FACE", "uri": "huggingface://sentence-transformers/all-MiniLM-L6-v2"}},
        {"phase": "READY", "pvcName": "mdl-minilm-v1", "lastSyncTime": _AT},
    ),
    "pods": _object(
        "docstrings-2-x7k2p",
        {"nodeName": "gpu-1"},
        {
            "phase": "Running",
            "startTime": _AT,
            "containerStatuses": [{"name": "trainer", "ready": True, "restartCount": 0, "state": {"running": {}}}],
        },
        _LABELS,
    ),
}


def by_operation() -> dict[str, Any]:
    """An answer of each operation, by its id; a manifest is an object, the stream is text."""
    rows = Rows(ChangeLog(_EPOCH))
    for shown in ALL:
        rows.observe(Change(shown.kind, None, _OBJECTS[shown.plural]))
    found: dict[str, Any] = {}
    for shown in ALL:
        obj = _OBJECTS[shown.plural]
        row = rows.by_key(shown.kind)[key_of(obj)]
        cursor = cursors.encode(cursors.Place(None, row.key.namespace, row.key.name), cursors.mark([]))
        found[f"list-{shown.plural}"] = {"items": [row.data], "total": 12, "nextCursor": cursor}
        found[f"get-{shown.plural}"] = shown.detail(obj)
        if shown.kind in SPECS:
            found[f"export-{shown.plural}"] = manifest(shown.kind, obj)
    training = _OBJECTS["trainings"]
    everywhere = {shown.kind: Seen(True) for shown in ROOTS}
    totals = statistics(rows, everywhere, {training["metadata"]["uid"]: output_bytes(training)})
    return {**found, **{name: _plain(one) for name, one in _others(rows, totals).items()}, "follow": _stream(rows)}


def _others(rows: Rows, totals: answers.Statistics) -> dict[str, Dto]:
    source, status = _OBJECTS["modelsources"], _OBJECTS["trainings"]["status"]
    wrong = list(troubles.of(meta.MODELSOURCE, source, datetime(2026, 11, 21, 2, tzinfo=UTC)))
    over = [answers.Attempt(**pick(answers.Attempt, entry)) for entry in status["history"]]
    current = answers.Attempt(attempt=2, current=True, job="docstrings-2", step=54, resumed_from=30)
    points = [answers.Point(value=value, step=step, time=_AT, attempt=2) for step, value in ((50, 0.64), (54, 0.61743))]
    epochs = [answers.EpochRow(**pick(answers.EpochRow, row)) for row in status["epochs"]]
    told = answers.EventRow(type="Normal", reason="Started", message="Attempt 2 began.", last_time=_AT)
    asked = answers.SecretCheckRequest(namespace=_NAMESPACE, type="HUGGING_FACE", secret_ref="hub-token")
    kinds = [shown.plural for shown in ROOTS]
    return {
        "list-namespaces": answers.Namespaces(items=[answers.NamespaceRow(name=_NAMESPACE, kinds=kinds)]),
        "statistics": totals,
        "errors": answers.Troubles(items=wrong, total=len(wrong)),
        "training-metrics": answers.SeriesList(
            latest=status["metrics"],
            attempts=[1, 2],
            series={"loss": points},
            epochs={"loss": [answers.Point(value=0.70211, step=45, epoch=1)]},
            available=True,
        ),
        "training-epochs": answers.Epochs(items=epochs),
        "training-attempts": answers.Attempts(items=[current, *over]),
        "object-events": answers.Events(items=[told]),
        "training-logs": answers.LogTail(
            pod="docstrings-2-x7k2p", container="trainer", lines=["step 54/90 loss 0.6174"], times=[_AT]
        ),
        "validate-secret": secretcheck.check(asked, [source]),
        "status": answers.ApiStatus(
            version="0.1.0",
            synced=True,
            observed_at=_AT,
            stale=False,
            user="jane@example.com",
            groups=["ml-team"],
            kinds=list(BY_PLURAL),
            position=rows.log.position(),
            logs=False,
            streams=1,
        ),
    }


def _stream(rows: Rows) -> str:
    first = next(iter(rows.log.after(0))).frame.decode()
    synced = f'id: {rows.log.position()}\nevent: synced\ndata: {{"stale": false, "observedAt": "{_AT}"}}\n\n'
    return 'retry: 3000\n\nevent: reset\ndata: {"reason": "Start"}\n\n' + first + synced


def _plain(value: Dto) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)
