"""From objects to answers: nothing that no type names gets out, anything odd has a row, totals are right."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.cluster.store import Change
from modelyard.kubectl.curve import curve
from modelyard.kubectl.tables import size, span
from modelyard.plan import Kind
from modelyard.resources.meta import DATASET, MODEL, MODELSOURCE, POD, TRAINING
from modelyard.statusapi import troubles
from modelyard.statusapi.access import Seen
from modelyard.statusapi.changelog import ChangeLog
from modelyard.statusapi.export import manifest
from modelyard.statusapi.kinds import ALL, BY_KIND
from modelyard.statusapi.rows import Rows
from modelyard.statusapi.schemas.answers import SecretCheckRequest
from modelyard.statusapi.secretcheck import check
from modelyard.statusapi.statistics import output_bytes, statistics

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
SECRET = "s3cr3t"
EVERYWHERE = Seen(True)


def obj(name: str = "one", namespace: str = "a", **parts: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "uid": f"{namespace}/{name}", "resourceVersion": "1"}
    return {"metadata": {**meta, "creationTimestamp": "2026-11-21T01:31:00Z"}, **parts}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.just(SECRET) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "name", SECRET]), inner, max_size=3)
    ),
    max_leaves=8,
)
ODD = ["spec", "status", "phase", "syncedVersions", "conditions", "progress", "metrics", "cost", "display", "compute"]


@given(st.sampled_from(ALL), st.dictionaries(st.sampled_from(ODD), values, max_size=5))
def test_any_object_has_a_row_or_none_and_breaks_nothing(shown: Any, part: dict[str, Any]) -> None:
    rows = Rows(ChangeLog("e"))
    rows.observe(Change(shown.kind, None, obj("odd", spec=part, status=part)))
    rows.observe(Change(shown.kind, None, obj("good", spec={}, status={})))
    assert [key.name for key in rows.keys(shown.kind)][-1] in ("good", "odd")
    assert rows.get(shown.kind, rows.keys(shown.kind)[0]) is not None


@pytest.mark.parametrize("shown", ALL, ids=lambda shown: shown.plural)
def test_nothing_that_no_type_names_gets_out(shown: Any) -> None:
    odd = {"unknown": SECRET, "source": {"uri": f"https://u:{SECRET}@host/x?token={SECRET}", "options": {"t": SECRET}}}
    status = {"unknown": SECRET, "containerStatuses": [{"name": "c", "state": {"waiting": {"message": SECRET}}}]}
    one = obj(spec={**odd, "containers": [{"env": [{"value": SECRET}]}], "type": "GIT"}, status=status)
    one["metadata"] |= {"annotations": {"x": SECRET, "kubectl.kubernetes.io/last-applied-configuration": SECRET}}
    one["metadata"]["managedFields"] = [SECRET]
    one["data"] = SECRET
    text = shown.summary(one).model_dump_json() + json.dumps(shown.detail(one))
    assert SECRET not in text
    shown.row.model_validate_json(shown.summary(one).model_dump_json(by_alias=True, exclude_none=True))


def test_an_export_keeps_what_a_person_wrote() -> None:
    one = obj(spec={"type": "GIT", "config": {"depth": "1"}, "unknown": SECRET}, status={"x": SECRET})
    one["metadata"] |= {
        "labels": {"team": "x", "app.kubernetes.io/name": "y", "helm.sh/chart": "z"},
        "annotations": {"note": "n", "kubectl.kubernetes.io/last-applied-configuration": SECRET},
    }
    found = manifest(MODELSOURCE, one)
    assert found["spec"] == {"type": "GIT", "config": {"depth": "1"}}
    assert found["metadata"]["labels"] == {"team": "x", "app.kubernetes.io/name": "y"}
    assert found["metadata"]["annotations"] == {"note": "n"}
    assert "namespace" not in manifest(MODELSOURCE, one, with_namespace=False)["metadata"]


def training(name: str, namespace: str, seconds: int, usd: str | None, **spec: Any) -> dict[str, Any]:
    cost = {"gpuSeconds": seconds, **({"estimatedUSD": usd} if usd else {})}
    return obj(name, namespace, spec=spec, status={"phase": "Succeeded", "cost": cost})


def test_totals_are_of_what_may_be_seen() -> None:
    rows = Rows(ChangeLog("e"))
    base = {"model": {"ref": {"name": "m", "version": "v1"}}}
    rows.observe(Change(TRAINING, None, training("one", "a", 3600, "2.50", **base)))
    rows.observe(Change(TRAINING, None, training("two", "a", 1800, None, **base)))
    rows.observe(Change(TRAINING, None, training("three", "b", 7200, "9.99")))
    rows.observe(Change(MODEL, None, obj("m", "b", status={"syncedVersions": [{"name": "v", "bytes": 7}]})))
    nothing = Seen(False)
    found = statistics(
        rows, {MODEL: nothing, MODELSOURCE: nothing, TRAINING: Seen(False, frozenset("a"))}, {"a/one": 5}
    )
    assert found.models is None
    assert found.trainings is not None
    assert (found.trainings.total, found.storage_bytes) == (2, 5)
    assert found.spending is not None
    assert (found.spending.gpu_hours, found.spending.cost_usd, found.spending.without_price) == (1.5, "2.50", 1)
    assert [(row.namespace, row.models, row.trainings) for row in found.by_namespace] == [("a", None, 2)]
    assert [(row.model, row.trainings) for row in found.by_model] == [("m", 2)]
    whole = statistics(rows, dict.fromkeys((MODEL, MODELSOURCE, TRAINING), EVERYWHERE), {})
    assert whole.spending is not None
    assert (whole.spending.cost_usd, whole.storage_bytes) == ("12.49", 7)


def test_what_was_saved_or_is_gone_is_not_counted_as_a_runs_own() -> None:
    output = {"pvc": "trn-one-output", "bytes": 5}
    expired = {"conditions": [{"type": "Saved", "status": "False", "reason": "OutputExpired"}]}
    assert output_bytes(obj(status={"output": output})) == 5
    assert output_bytes(obj(status={"output": output, "saved": {"model": "m", "version": "v"}})) == 0
    assert output_bytes(obj(status={"output": output, **expired})) == 0
    assert output_bytes(obj()) == 0


def condition(type: str, status: str, reason: str = "R", at: str = "2026-11-21T01:00:00Z") -> dict[str, str]:
    return {"type": type, "status": status, "reason": reason, "message": "m", "lastTransitionTime": at}


TROUBLES: list[tuple[Kind, dict[str, Any], list[tuple[str, str]]]] = [
    (MODELSOURCE, {"conditions": [condition("Ready", "False", "SecretNotFound")]}, [("error", "SecretNotFound")]),
    (MODELSOURCE, {"conditions": [condition("Ready", "True")]}, []),
    (MODEL, {"syncedVersions": [{"name": "v", "phase": "Failed", "reason": "DiskFull"}]}, [("error", "DiskFull")]),
    (MODEL, {"conditions": [condition("Stalled", "True", "InvalidSpec")]}, [("error", "InvalidSpec")]),
    (TRAINING, {"phase": "Failed", "reason": "BadInput"}, [("error", "BadInput")]),
    (TRAINING, {"phase": "Validating", "reason": "X", "conditions": [condition("Stalled", "True")]}, [("error", "X")]),
    (TRAINING, {"phase": "AwaitingApproval"}, [("decision", "AwaitingApproval")]),
    (TRAINING, {"phase": "Suspended", "reason": "BudgetExceeded"}, [("decision", "BudgetExceeded")]),
    (TRAINING, {"phase": "Suspended", "reason": "Suspended"}, []),
    (
        TRAINING,
        {"phase": "Running", "progress": {"lastReportTime": "2026-11-21T01:49:00Z"}},
        [("warning", "NoReports")],
    ),
    (TRAINING, {"phase": "Running", "progress": {"lastReportTime": "2026-11-21T01:59:00Z"}}, []),
    (
        TRAINING,
        {"phase": "Succeeded", "output": {"expiresTime": "2026-11-21T09:00:00Z"}},
        [("decision", "OutputExpires")],
    ),
    (TRAINING, {"phase": "Succeeded", "output": {"expiresTime": "2026-12-21T09:00:00Z"}}, []),
    (DATASET, {"phase": "FAILED"}, [("error", "DatasetFailed")]),
    (
        POD,
        {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull"}}}]},
        [("warning", "ImagePullFailed")],
    ),
]


@pytest.mark.parametrize(("kind", "status", "expected"), TROUBLES)
def test_what_needs_a_person(kind: Kind, status: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = list(troubles.of(kind, obj(status=status), NOW))
    assert [(trouble.level, trouble.reason) for trouble in found] == expected
    assert all(trouble.todo for trouble in found)


def test_the_worst_comes_first_and_what_most_depend_on() -> None:
    source = {"conditions": [condition("Ready", "False")], "referencedByCount": 3}
    found = [
        *troubles.of(TRAINING, obj("t", status={"phase": "AwaitingApproval"}), NOW),
        *troubles.of(TRAINING, obj("f", status={"phase": "Failed"}), NOW),
        *troubles.of(MODELSOURCE, obj("s", status=source), NOW),
    ]
    assert [trouble.object.name for trouble in sorted(found, key=troubles.rank)] == ["s", "f", "t"]


def test_a_dry_run_of_a_secret_names_keys_and_what_was_found() -> None:
    def ask(**more: Any) -> SecretCheckRequest:
        return SecretCheckRequest(namespace="a", type="HTTP", secret_ref="s", **more)

    half = check(ask(keys=["username"]), [])
    assert (half.valid, half.missing_keys) == (False, ["password"])
    assert check(ask(keys=["username", "password"]), []).valid
    assert check(ask(), []).valid is None
    spec = {"type": "HTTP", "secretRef": "s"}
    seen = obj(spec=spec, status={"conditions": [condition("CredentialsReady", "True", "Valid")]})
    assert check(ask(), [seen, obj("other", spec={**spec, "secretRef": "t"})]).valid
    assert check(ask(config={"nonsense": SECRET}), [seen]).valid is False
    assert SECRET not in check(ask(config={"nonsense": SECRET}), [seen]).model_dump_json()


def test_curves_and_words_for_people() -> None:
    lines = curve([3.0, 2.0, 1.0], 10, 3)
    assert len(lines) == 3
    assert lines[0].startswith("3 ┤")
    assert lines[-1].startswith("1 ┤")
    assert curve([], 10, 3) == []
    assert curve([1.0, 2.0], 8, 2, "step 1", "9") == ["2 ┤⠀⠀⠀⠀⣀⡤⠖⠋", "1 ┤⣀⡤⠖⠋⠁⠀⠀⠀", "   step 1 9"]
    assert len(curve([float(n % 50) for n in range(10_000)], 20, 4)) == 4
    assert curve([5.0, 5.0], 4, 1)
    assert [span(n) for n in (None, 0, 59, 60, 3700, 90_000)] == ["-", "0s", "59s", "1m", "1h1m", "1d1h"]
    assert [size(n) for n in (None, 0, 5, 2048, 5 << 40)] == ["-", "-", "5 B", "2.0 KiB", "5.0 TiB"]
    assert set(BY_KIND) == {shown.kind for shown in ALL}
