"""Conditions, quantities, times, labels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.resources import meta
from modelyard.resources.conditions import MESSAGE_MAX, cut, find, is_true, set_condition
from modelyard.resources.quantities import NO_GPU, Gpu, parse_gpu, parse_quantity, quantity_bytes
from modelyard.resources.times import format_time, parse_time

EARLY = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
LATE = EARLY + timedelta(hours=1)


def test_a_transition_time_changes_with_the_status_only() -> None:
    one = set_condition([], "Ready", "False", "Waiting", "not yet", now=EARLY, generation=1)
    two = set_condition(one, "Stalled", "False", "Fine", "", now=EARLY, generation=1)
    three = set_condition(two, "Ready", "False", "Other", "still not", now=LATE, generation=2)
    four = set_condition(three, "Ready", "True", "Done", "", now=LATE, generation=2)
    assert three[0] == {
        "type": "Ready",
        "status": "False",
        "reason": "Other",
        "message": "still not",
        "lastTransitionTime": "2026-11-21T01:00:00Z",
        "observedGeneration": 2,
    }
    assert four[0]["lastTransitionTime"] == "2026-11-21T02:00:00Z"
    assert [c["type"] for c in four] == ["Ready", "Stalled"]
    assert one[0]["reason"] == "Waiting", "the input is not changed"
    assert (is_true(four, "Ready"), is_true(four, "Stalled"), is_true(four, "Absent")) == (True, False, False)
    assert find(four, "Absent") is None


def test_long_messages_are_cut() -> None:
    [condition] = set_condition([], "Ready", "False", "Long", "x" * 5000, now=EARLY, generation=1)
    assert len(condition["message"]) == MESSAGE_MAX
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("4", "4"), (4, "4"), ("20Gi", str(20 * 2**30)), ("1e3", "1000"), (".5", "0.5"), ("2E", "2e18")],
)
def test_quantities(text: str | int, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "4 Gi", "4GiB", "1e99999", "0x1", "four"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)


def test_bytes_are_rounded_up() -> None:
    assert quantity_bytes("1500m") == 2
    with pytest.raises(ValueError, match="negative"):
        quantity_bytes("-1")


def test_gpus() -> None:
    assert parse_gpu("H100:8") == Gpu("H100", 8)
    assert parse_gpu("H200") == Gpu("H200", 1)
    assert parse_gpu("none") == parse_gpu(None) == NO_GPU


@pytest.mark.parametrize("text", ["8", "H100:0", "H100:", ":8", "H100x8 ", ""])
def test_no_gpus(text: str) -> None:
    with pytest.raises(ValueError, match="GPU request"):
        parse_gpu(text)


@given(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(timezone(timedelta(hours=5)))))
def test_times_round_trip(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)


def test_times_need_a_zone() -> None:
    assert parse_time("2026-11-21T01:00:00.25Z") == EARLY.replace(microsecond=250_000)
    with pytest.raises(ValueError, match="zone"):
        parse_time("2026-11-21T01:00:00")
    with pytest.raises(ValueError, match="zone"):
        format_time(EARLY.replace(tzinfo=None))


def test_labels() -> None:
    assert meta.managed_labels(meta.COMPONENT_DOWNLOAD, model="m", version="v") == {
        "app.kubernetes.io/managed-by": "modelyard",
        "app.kubernetes.io/component": "download",
        "modelyard.dev/model": "m",
        "modelyard.dev/version": "v",
    }
