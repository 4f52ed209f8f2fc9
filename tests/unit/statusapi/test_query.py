"""Lists: filters, order, pages over data that changes, selectors, cursors, fields."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.cluster.store import Change
from modelyard.resources.meta import MODEL, TRAINING
from modelyard.statusapi import cursors, query, selectors
from modelyard.statusapi.access import Seen
from modelyard.statusapi.changelog import ChangeLog
from modelyard.statusapi.kinds import MODELS, TRAININGS
from modelyard.statusapi.problems import Problem
from modelyard.statusapi.rows import Rows

EVERYWHERE = Seen(True)


def obj(name: str, namespace: str = "a", status: Any = None, labels: Any = None, **spec: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}", "resourceVersion": "1"}
    meta |= {"creationTimestamp": "2026-11-21T01:31:00Z", "labels": labels or {}}
    return {"metadata": meta, "spec": spec, "status": status or {}}


def rows_of(*models: dict[str, Any], kind: Any = MODEL) -> Rows:
    rows = Rows(ChangeLog("e"))
    for one in models:
        rows.observe(Change(kind, None, one))
    return rows


def page(rows: Rows, seen: Seen = EVERYWHERE, shown: Any = MODELS, **asked: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(query.page(rows, shown, seen, query.Query(**asked)))
    return found


def names(found: dict[str, Any]) -> list[str]:
    return [row["name"] for row in found["items"]]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 3)), max_size=40),
    st.integers(1, 7),
    st.sampled_from(["", "bytes", "-bytes", "name", "-name", "phase", "lastSyncTime", "-lastSyncTime"]),
)
def test_pages_together_are_the_whole_list_in_order(made: list[Any], limit: int, sort: str) -> None:
    rows = rows_of(
        *(
            obj(
                f"m{n}",
                ns,
                {"syncedVersions": [{"name": "v", "bytes": size}], **({"lastSyncTime": str(n % 3)} if n % 2 else {})},
            )
            for ns, n, size in made
        )
    )
    whole = page(rows, sort=sort, limit=500)
    pieces: list[Any] = []
    cursor = ""
    while True:
        found = page(rows, sort=sort, limit=limit, cursor=cursor)
        pieces += found["items"]
        assert found["total"] == whole["total"]
        if "nextCursor" not in found:
            break
        cursor = found["nextCursor"]
    assert pieces == whole["items"]
    assert len({(row["namespace"], row["name"]) for row in pieces}) == whole["total"]


@given(
    st.lists(st.tuples(st.integers(0, 12), st.none() | st.integers(0, 3)), max_size=60),
    st.sampled_from(["percent", "-percent"]),
)
def test_an_order_that_was_asked_for_follows_every_change(changes: list[tuple[int, int | None]], sort: str) -> None:
    rows = rows_of(kind=TRAINING)
    page(rows, shown=TRAININGS, sort=sort)
    there: dict[str, dict[str, Any]] = {}
    for number, percent in changes:
        name = f"t{number}"
        if name in there and percent == 3:
            rows.observe(Change(TRAINING, there.pop(name), None))
            continue
        new = obj(name, status={} if percent is None else {"progress": {"percent": percent}})
        rows.observe(Change(TRAINING, there.get(name), new))
        there[name] = new
    fresh = rows_of(*there.values(), kind=TRAINING)
    assert page(rows, shown=TRAININGS, sort=sort) == page(fresh, shown=TRAININGS, sort=sort)


def test_a_cursor_goes_on_where_it_was_though_its_object_is_gone() -> None:
    models = [obj(f"m{n}") for n in range(6)]
    rows = rows_of(*models)
    first = page(rows, limit=3)
    rows.observe(Change(MODEL, models[2], None))
    rows.observe(Change(MODEL, models[4], None))
    rows.observe(Change(MODEL, None, obj("m3b")))
    assert names(page(rows, limit=3, cursor=first["nextCursor"])) == ["m3", "m3b", "m5"]


def test_filters_facets_fields_and_what_may_not_be_seen() -> None:
    ready, failed = {"phase": "Ready"}, {"phase": "Failed"}
    rows = rows_of(
        obj("one", "a", ready, {"team": "x"}, display={"description": "A Small encoder", "tags": ["text"]}),
        obj("two", "a", failed),
        obj("three", "b", ready),
    )
    assert names(page(rows, phases=("Ready",))) == ["one", "three"]
    assert names(page(rows, severities=("problem",))) == ["two"]
    assert names(page(rows, text="small TEXT")) == ["one"]
    assert names(page(rows, labels="team in (x,y)")) == ["one"]
    only_b = page(rows, Seen(False, frozenset({"b"})), facets="phase,namespace", text="e")
    assert (names(only_b), only_b["facets"]) == (["three"], {"phase": {"Ready": 1}, "namespace": {"b": 1}})
    assert page(rows, Seen(False))["total"] == 0
    assert page(rows, fields="name,labels.team", labels="team")["items"] == [{"name": "one", "labels": {"team": "x"}}]


@pytest.mark.parametrize(
    "asked",
    [
        {"sort": "spec"},
        {"fields": "spec"},
        {"facets": "name"},
        {"labels": "a b"},
        {"labels": ","},
        {"cursor": "x"},
        {"cursor": "é"},
        {"cursor": base64.urlsafe_b64encode(b"[" * 1000).decode()},
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refused:
        page(rows_of(obj("one")), **asked)
    assert refused.value.status == 400


def test_a_cursor_of_another_type_or_query_is_refused() -> None:
    rows = rows_of(obj("one", status={"progress": {"percent": 3}}), kind=TRAINING)
    mark = query.Query(sort="percent").mark
    with pytest.raises(Problem):
        page(rows, shown=TRAININGS, sort="percent", cursor=cursors.encode(cursors.Place("text", "a", "b"), mark))
    with pytest.raises(Problem):
        page(rows, shown=TRAININGS, cursor=cursors.encode(cursors.Place(3, "a", "b"), mark))


@given(st.text(max_size=80))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    with contextlib.suppress(Problem):
        selectors.parse(text)({"a": "b"})


def test_selectors_as_kubectl_has_them() -> None:
    labels = {"app": "web", "tier": "cache", "a.b/c": ""}
    for text in (
        "app=web",
        "app==web,tier!=x",
        "app in (web, api)",
        "tier notin (x)",
        "!gone,app",
        "a.b/c=",
        "none!=x",
    ):
        assert selectors.parse(text)(labels), text
    for text in ("app=x", "app!=web", "app notin (web)", "gone", "!app", "gone in (a)"):
        assert not selectors.parse(text)(labels), text
