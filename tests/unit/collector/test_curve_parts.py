"""Thinning, and curves of several attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.collector.database import BadUrlError, url_of
from modelyard.collector.points import Point, kept
from modelyard.collector.series import Asked, shaped
from modelyard.collector.thinning import spaced, thinned

Pair = tuple[float, float]


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), max_size=300), st.integers(1, 60))
def test_thinned_keeps_order_bounds_ends_and_extremes(points: list[Pair], most: int) -> None:
    points = sorted(points)
    found = thinned(points, most, lambda p: p[0], lambda p: p[1])
    assert len(found) <= max(most, 0)
    assert found == [p for p in points if p in found][: len(found)] or len(set(points)) < len(points)
    if len(points) <= most:
        assert found == points
    elif most >= 4:
        assert (found[0], found[-1]) == (points[0], points[-1])
        for extreme in (min, max):
            assert extreme(y for _, y in found) == extreme(y for _, y in points)


def test_spaced_ends_with_the_last() -> None:
    assert spaced(range(10), 3) == [2, 5, 9]
    assert spaced(range(3), 3) == [0, 1, 2]
    assert spaced(range(3), 0) == []


def point(step: int | None, attempt: int = 1, seq: int = 0, row: int | None = None, loss: float = 1.0) -> Point:
    at = 1000.0 * attempt + seq
    return Point(attempt, seq, at, step, None, {"loss": loss}, row, None if row is None else {"acc": loss})


def test_ends_of_epochs_outlive_ordinary_points() -> None:
    points = [point(n, seq=n, row=n // 10 if n % 10 == 0 else None) for n in range(200)]
    found = kept(points, 60)
    assert len(found) <= 60
    assert [p.row_epoch for p in found if p.row_epoch is not None] == list(range(20))
    only_epochs = kept([point(n, seq=n, row=n) for n in range(500)], 60)
    assert len(only_epochs) == 30
    assert only_epochs[-1].row_epoch == 499


def test_later_attempts_replace_what_they_compute_again() -> None:
    first = [point(n, 1, n, row=n if n in (4, 8) else None) for n in range(10)]
    second = [point(n, 2, n, loss=2.0, row=5 if n == 7 else None) for n in range(6, 9)]
    third = [point(8, 3, 1, loss=3.0)]
    found = shaped([*first, *second, *third], Asked())
    assert found["attempts"] == [1, 2, 3]
    assert [(p["step"], p["attempt"]) for p in found["series"]["loss"]] == [
        *((n, 1) for n in range(6)),
        (6, 2),
        (7, 2),
        (8, 3),
    ]
    assert [row["epoch"] for row in found["epochs"]] == [4, 5]
    alone = shaped(list(first), Asked(attempt=1))
    assert len(alone["series"]["loss"]) == 10


def test_points_without_a_step_stay_by_their_time() -> None:
    found = shaped([point(None, 1, n) for n in range(5)], Asked(since=1001.0, until=1003.0))
    assert [p["time"][-3:] for p in found["series"]["loss"]] == ["41Z", "42Z", "43Z"]
    assert "step" not in found["series"]["loss"][0]


def test_urls_of_the_store() -> None:
    url = url_of(" postgresql://u:p@h/d?sslmode=verify-full\n")
    assert (url.drivername, url.password, url.query["sslmode"]) == ("postgresql+psycopg", "p", "verify-full")
    for wrong in ("", "canary", "mysql://u:canary@h/d", "sqlite:///canary"):
        with pytest.raises(BadUrlError) as told:
            url_of(wrong)
        assert "canary" not in str(told.value)
