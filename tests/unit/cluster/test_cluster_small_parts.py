from __future__ import annotations

import asyncio
import gc
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from kopf._cogs.structs.references import Resource

from modelyard.cluster import errors
from modelyard.cluster.client import matches
from modelyard.cluster.feed import Feed
from modelyard.cluster.logs import JsonFormatter, TextFormatter, in_our_words, stack, where
from modelyard.cluster.recorder import event_name
from modelyard.cluster.watched import default_scope
from modelyard.controllers.downloads import parse_download, running_downloads
from modelyard.plan import Event, Kind, Ref
from modelyard.resources.meta import JOB, MODEL, OTHERS_PVC, PVC


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (404, "NotFound", errors.NotFoundError),
        (409, "AlreadyExists", errors.AlreadyExistsError),
        (409, "Conflict", errors.ConflictError),
        (422, "Invalid", errors.InvalidError),
        (403, "Forbidden", errors.ForbiddenError),
        (410, "Expired", errors.ExpiredError),
        (429, "TooManyRequests", errors.UnavailableError),
        (503, "", errors.UnavailableError),
        (418, "Teapot", errors.ApiError),
    ],
)
def test_each_refusal_has_its_type(code: int, reason: str, kind: type[errors.ApiError]) -> None:
    error = errors.from_status("get x", code, {"reason": reason, "message": "canary"}, {"Retry-After": "3"})
    assert type(error) is kind
    assert "canary" not in str(error) + repr(error)
    assert error.retry_after == (3.0 if kind is errors.UnavailableError else None)


def test_a_reason_that_is_no_word_is_not_repeated() -> None:
    error = errors.from_status("get x", 500, {"reason": "token=canary"}, {"Retry-After": "soon"})
    assert str(error) == "get x: 500"


def test_a_selector_is_matched() -> None:
    obj = {"metadata": {"labels": {"a": "b"}}}
    assert matches(None, obj)
    assert matches("a=b", obj)
    assert not matches("a=c", obj)
    assert not matches("a=b", {"metadata": {}})


def test_the_scope_covers_ours_of_what_others_make_too() -> None:
    scope = default_scope(["one"])
    ours = {"metadata": {"namespace": "one", "labels": {"app.kubernetes.io/managed-by": "modelyard"}}}
    theirs = {"metadata": {"namespace": "one"}}
    assert scope.covers(JOB, ours)
    assert not scope.covers(JOB, theirs)
    assert scope.covers(MODEL, theirs)
    assert not scope.covers(MODEL, {"metadata": {"namespace": "two"}})


def test_of_claims_of_others_only_whose_they_are_is_kept() -> None:
    scope = default_scope(datasets=True)
    labels = {"app.kubernetes.io/managed-by": "modelyard"}
    ours = {
        "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": "one", "name": "a", "uid": "u", "labels": labels},
    }
    theirs = {**ours, "metadata": {**ours["metadata"], "labels": {"modelyard.dev/model": "m"}}, "spec": {"big": 1}}
    assert [w.asked for w in scope.kinds if w.kind == PVC] == [None]
    assert scope.filed(PVC, ours) == (PVC, ours)
    kept = {"apiVersion": None, "kind": ours["kind"], "metadata": {"name": "a", "namespace": "one", "uid": "u"}}
    assert scope.filed(PVC, theirs) == (OTHERS_PVC, kept)
    assert scope.covers(PVC, theirs)
    without = default_scope()
    assert not without.covers(PVC, theirs)
    assert without.stored(PVC) == (PVC,)


def test_an_event_is_taken_in_as_it_is_read_and_kopf_sees_how_far_the_stream_is() -> None:
    seen: list[Any] = []

    async def begin(kind: Kind, namespace: str | None) -> int:
        seen.append((kind, namespace))
        return 7

    feed = Feed(default_scope(), lambda *event: seen.append(event), begin)
    models = Resource(group="modelyard.dev", version="v1alpha1", plural="models")
    obj = {"metadata": {"uid": "u", "resourceVersion": "8"}}
    passed_on = feed.take_in(models, {"type": "DELETED", "object": obj})
    assert passed_on == {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}}
    over = {"type": "ERROR", "object": {"code": 410}}
    assert feed.take_in(models, over) is over
    claims = Resource(group="", version="v1", plural="persistentvolumeclaims")
    assert asyncio.run(feed.begin(claims, "ns")) == "7"
    assert seen == [(MODEL, "DELETED", obj), (PVC, "ns")]


def test_the_same_event_has_the_same_name() -> None:
    event = Event(Ref(MODEL, "ns", "m" * 253), "uid", "Ready", "All is well.")
    assert event_name(event) == event_name(event)
    assert event_name(event) != event_name(Event(event.ref, "uid", "Ready", "All is not well."))
    assert len(event_name(event)) <= 253


def report(**changes: Any) -> dict[str, Any]:
    return {
        "namespace": "ns",
        "volume": "mdl-m-v1",
        "pod": "p",
        "bytes": 5,
        "totalBytes": 10,
        "reportedAt": "2026-11-21T01:02:03Z",
        **changes,
    }


def test_a_report_of_a_download_is_read() -> None:
    parsed = parse_download(report(etaSeconds=2.5))
    assert parsed is not None
    place, fact = parsed
    assert place == ("ns", "mdl-m-v1")
    assert (fact.bytes, fact.total_bytes, fact.files, fact.eta_seconds) == (5, 10, None, 2.5)
    assert fact.reported_at == datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    ["text", report(bytes="5"), report(bytes=-1), report(bytes=True), report(volume=None), report(reportedAt="now")],
)
def test_a_report_that_is_not_as_it_should_be_is_left_out(wrong: Any) -> None:
    assert parse_download(wrong) is None


def test_only_download_jobs_that_are_not_over_count_as_running() -> None:
    labels = {"app.kubernetes.io/component": "download"}
    job = {"metadata": {"labels": labels}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert list(running_downloads({"metadata": {"name": "j", "labels": labels}})) == ["yes"]
    assert list(running_downloads({"metadata": {"name": "dataset-mdl-m-v1-round-1", "labels": {}}})) == ["yes"]
    assert list(running_downloads(job)) == []
    assert list(running_downloads({"metadata": {"name": "j", "labels": {}}})) == []


def test_an_exception_is_logged_by_place_not_by_text() -> None:
    text = "canary"
    with pytest.raises(ValueError, match=text) as caught:
        raise ValueError(text)
    assert where(caught.value).startswith("test_cluster_small_parts.py:")
    assert text not in stack(caught.value)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_no_exception_is_logged_with_its_text(formatter: logging.Formatter, caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> None:
        raise ValueError("canary")

    async def main() -> None:
        task = asyncio.create_task(breaks())
        await asyncio.wait([task])
        del task
        gc.collect()  # asyncio then tells of the exception that nobody asked for

    asyncio.run(main())
    (record,) = [r for r in caplog.records if r.name == "asyncio"]
    assert "canary" in logging.Formatter().format(record)
    assert in_our_words(record)
    line = formatter.format(record)
    assert "canary" not in line
    assert "ValueError at test_cluster_small_parts.py" in line


def test_json_logs_are_one_line_each() -> None:
    record = logging.LogRecord("modelyard.x", logging.INFO, "f", 1, "two\n%s", ("lines",), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines"
