"""Merging reports into a status, whose turn it is to be written, bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelyard.collector.downloads import Downloads
from modelyard.collector.limits import Limits
from modelyard.collector.runs import EPOCHS_MAX, Run
from modelyard.collector.schedule import SPACING_SECONDS, Schedule
from modelyard.collector.wire import Batch, Download
from modelyard.plan import Key

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
NOW_TEXT = "2026-11-21T10:00:00Z"


def training(uid: str = "u", attempt: int = 1, job: str = "j", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": uid, "resourceVersion": "7", "name": "t", "namespace": "n"},
        "status": {"attempts": {"number": attempt}, "placement": {"jobUID": job}, **status},
    }


def batch(*reports: dict[str, Any]) -> Batch:
    rows = [{"time": "2026-11-21T09:00:00Z", "modelyard": {}, **r} for r in reports]
    return Batch.model_validate({"uid": "u", "attempt": 1, "reports": rows})


def applied(obj: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """What the API server makes of the operations that we use."""
    status = dict(obj["status"])
    for operation in operations:
        if operation["op"] == "add":
            parts = operation["path"].split("/")[2:]
            if len(parts) == 2:
                status[parts[0]] = {**status[parts[0]], parts[1]: operation["value"]}
            else:
                status[parts[0]] = operation["value"]
    return {**obj, "status": status}


def test_the_patch_tests_identity_and_attempt() -> None:
    run = Run.of(training())
    run.take("pod", batch({"seq": 1, "modelyard": {"step": 1, "metrics": {"loss": 2.0}}}), NOW)
    operations = run.patch()
    assert operations[:2] == [
        {"op": "test", "path": "/metadata/uid", "value": "u"},
        {"op": "test", "path": "/status/placement/jobUID", "value": "j"},
    ]
    assert [o["path"] for o in operations[2:]] == ["/status/progress", "/status/metrics"]
    assert run.urgent


def test_nothing_but_time_is_no_change_for_a_minute() -> None:
    run = Run.of(training())
    run.take("pod", batch({"seq": 1, "modelyard": {"step": 1}}), NOW)
    run.observe(applied(training(), run.patch()))
    assert run.patch() == []
    run.take("pod", batch({"seq": 2, "modelyard": {"step": 1}}), NOW + timedelta(seconds=59))
    assert run.patch() == []
    run.take("pod", batch({"seq": 3, "modelyard": {"step": 1}}), NOW + timedelta(seconds=60))
    assert run.patch()[-1]["value"]["lastReportTime"] == "2026-11-21T10:01:00Z"


def test_when_something_was_last_finished_is_by_the_pods_clock() -> None:
    run = Run.of(training())
    late = {"seq": 1, "time": "2026-11-21T03:00:00Z", "modelyard": {"step": 1}}
    still = {"seq": 2, "time": "2026-11-21T03:05:00Z", "modelyard": {"step": 1}}
    run.take("pod", batch(late, still), NOW)
    assert run.wanted["progress"]["lastAdvanceTime"] == "2026-11-21T09:55:00Z"
    beat = {"seq": 3, "time": "2026-11-21T03:06:00Z", "modelyard": {"step": 1}}
    run.take("pod", batch(beat), NOW + timedelta(minutes=1))
    assert run.wanted["progress"]["lastAdvanceTime"] == "2026-11-21T09:55:00Z"
    row = {"seq": 4, "time": "2026-11-21T03:07:00Z", "modelyard": {"step": 1, "epochRow": {"epoch": 1}}}
    run.take("pod", batch(row), NOW + timedelta(minutes=2))
    assert run.wanted["progress"]["lastAdvanceTime"] == "2026-11-21T10:02:00Z"


def test_what_the_operator_writes_beside_us_is_left_alone() -> None:
    reports = batch({"seq": 1, "modelyard": {"checkpoint": {"step": 4, "path": "x"}}})
    fresh = Run.of(training())
    fresh.take("pod", reports, NOW)
    assert fresh.patch()[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert fresh.patch()[-1]["path"] == "/status/checkpoint"
    beside = Run.of(training(checkpoint={"resumedFrom": 2}))
    beside.take("pod", reports, NOW)
    assert beside.patch()[-1]["path"] == "/status/checkpoint/lastReported"


def test_a_resumed_run_computes_epochs_again() -> None:
    rows = [{"seq": n, "modelyard": {"epochRow": {"epoch": n, "metrics": {"acc": n}}}} for n in (1, 2, 3)]
    first = Run.of(training())
    first.take("pod-1", batch(*rows), NOW)
    kept = applied(training(attempt=2, job="j2"), first.patch())
    second = Run.of(kept)
    second.take("pod-2", batch({"seq": 1, "modelyard": {"epochRow": {"epoch": 2, "metrics": {"acc": 9}}}}), NOW)
    assert [(r["epoch"], r["metrics"]["acc"]) for r in second.wanted["epochs"]] == [(1, 1.0), (2, 9.0)]


def test_progress_of_an_attempt_that_is_over_does_not_linger() -> None:
    run = Run.of(training(attempt=2, progress={"attempt": 1, "step": 90, "etaSeconds": 5, "percent": 90}))
    run.take("pod", batch({"seq": 1, "modelyard": {"step": 50}}), NOW)
    assert run.wanted["progress"] == {"attempt": 2, "step": 50, "lastReportTime": NOW_TEXT, "lastAdvanceTime": NOW_TEXT}


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), min_size=1, max_size=12))
def test_resends_and_overlaps_are_taken_once(batches: list[list[int]]) -> None:
    run, taken = Run.of(training()), 0
    highest = 0
    for numbers in batches:
        taken += run.take("pod", batch(*({"seq": n, "modelyard": {"step": n}} for n in numbers)), NOW)
        highest = max(highest, *numbers)
    assert run.wanted["progress"]["step"] == highest
    assert taken <= sum(map(len, batches))
    assert run.take("pod", batch({"seq": highest, "modelyard": {"step": 999}}), NOW) == 0


@given(st.lists(st.integers(0, 200), min_size=1, max_size=120))
def test_epochs_are_bounded_and_ordered(numbers: list[int]) -> None:
    run = Run.of(training())
    for seq, epoch in enumerate(numbers, 1):
        run.take("pod", batch({"seq": seq, "modelyard": {"epochRow": {"epoch": epoch}}}), NOW)
    kept = [row["epoch"] for row in run.wanted["epochs"]]
    assert kept == sorted(set(kept))
    assert kept[-1] == numbers[-1]
    assert len(kept) <= EPOCHS_MAX


@pytest.mark.parametrize(
    "report",
    [
        {"seq": 0},
        {"seq": 1, "time": "yesterday"},
        {"seq": 1, "modelyard": {"metrics": {"loss": float("nan")}}},
        {"seq": 1, "modelyard": {"metrics": {"n" * 65: 1}}},
        {"seq": 1, "modelyard": {"step": -1}},
        {"seq": 1, "modelyard": {"checkpoint": {"step": 1, "path": "x" * 513}}},
        {"seq": 1, "trainerStatus": {"progressPercentage": 101}},
    ],
)
def test_reports_out_of_bounds_are_refused(report: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        batch(report)


A, B, C = Key("n", "a"), Key("n", "b"), Key("n", "c")


def test_turns_are_spaced_and_fair() -> None:
    schedule = Schedule()
    for key in (A, B, C, A):
        schedule.mark(key, 0.0)
    assert [schedule.pop(0.0), schedule.pop(0.1), schedule.pop(0.2), schedule.pop(0.3)] == [A, B, C, None]
    schedule.mark(A, 1.0)
    assert schedule.next_at() == SPACING_SECONDS
    assert schedule.pop(4.9) is None
    schedule.mark(A, 1.0, urgent=True)
    assert schedule.next_at() == 1.0
    schedule.mark(B, 0.9)
    assert schedule.pop(1.0) == A
    assert schedule.pop(5.1) == B
    assert (schedule.pop(99.0), len(schedule)) == (None, 0)


def test_an_urgent_one_still_waits_a_second() -> None:
    schedule = Schedule()
    schedule.mark(A, 0.0)
    assert schedule.pop(0.0) == A
    schedule.mark(A, 0.2, urgent=True)
    assert schedule.pop(0.9) is None
    assert schedule.pop(1.0) == A


def test_urgent_and_ordinary_ones_take_turns() -> None:
    schedule = Schedule()
    many = [Key("n", f"m{n}") for n in range(100)]
    for key in many:
        schedule.mark(key, 0.0)
    for key in (A, B, many[50]):
        schedule.mark(key, 1.0, urgent=True)
    turns = [schedule.pop(2.0) for _ in range(8)]
    assert turns == [many[50], many[0], A, many[1], B, many[2], many[3], many[4]]
    assert len(schedule) == 102 - 8


def test_forgotten_ones_do_not_come_back() -> None:
    schedule = Schedule()
    schedule.mark(A, 0.0)
    schedule.forget(A)
    assert schedule.next_at() is None
    assert schedule.pop(9.0) is None


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.booleans(), st.floats(0, 3)), max_size=60))
def test_no_training_is_written_more_often_than_it_may(marks: list[tuple[Key, bool, float]]) -> None:
    schedule, now = Schedule(), 0.0
    written: dict[Key, float] = {}
    for key, urgent, passed in marks:
        now += passed
        schedule.mark(key, now, urgent)
        while (turn := schedule.pop(now)) is not None:
            assert now - written.get(turn, -10.0) >= 1.0 - 1e-9
            written[turn] = now
    waiting = len(schedule)
    assert sum(schedule.pop(now + 10) is not None for _ in range(waiting + 1)) == waiting


def test_limits() -> None:
    limits = Limits(rate=2, burst=3, most=2)
    assert [limits.allow("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert limits.exhausted("a", 0.4)
    assert not limits.exhausted("a", 0.6)
    assert [limits.allow("a", 1.0), limits.allow("a", 1.0), limits.allow("a", 1.0)] == [True, True, False]
    limits.allow("b", 1.0)
    limits.allow("c", 1.0)
    assert limits.allow("a", 1.0)


def test_downloads_keep_the_newest_of_each_pod_for_ten_minutes() -> None:
    downloads = Downloads()

    def take(pod: str, seq: int, done: int, at: datetime = NOW) -> bool:
        report = Download.model_validate({"version": "v1", "bytes": done, "totalBytes": 9, "seq": seq})
        return downloads.take("Model", Key("n", "m"), pod, f"uid-{pod}", report, at)

    assert take("p", 2, 5)
    assert not take("p", 1, 3)
    assert not take("p", 2, 3)
    assert take("p", 0, 6)
    assert take("q", 1, 1, NOW + timedelta(minutes=9))
    assert [(r["pod"], r["bytes"]) for r in downloads.rows(NOW + timedelta(minutes=9))] == [("p", 6), ("q", 1)]
    assert [r["pod"] for r in downloads.rows(NOW + timedelta(minutes=11))] == ["q"]
    assert downloads.rows(NOW + timedelta(hours=1)) == []
