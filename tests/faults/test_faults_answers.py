"""The API server refuses, does not answer, breaks its watches, or shows old lists after a restart."""

from __future__ import annotations

from typing import Any

import pytest

from support.faultproxy import ANSWERS, STREAMS, Fault, StaleLists, StreamFault
from support.faultscenarios import SCENARIOS, Scenario

Faults = Any
SOME = [s for s in SCENARIOS if s.name in ("model made", "training saved")]
RESYNC = {"resyncSeconds": 5}  # what a silent watch keeps back is found by the next re-list


def judge(faults: Faults, scenario: Scenario, what: str, plans: list[dict[str, Any]]) -> None:
    outcomes = faults.play(scenario, plans)
    wrong = {str(plan): o for plan, o in zip(plans, outcomes, strict=True) if o.problems or not o.hits}
    writes = len(faults.reference(scenario).writes)
    faults.report(
        scenario.name,
        what,
        writes,
        len(plans),
        sum(o.kills for o in outcomes),
        len(wrong),
        max(o.gap for o in outcomes),
    )
    words = [f"{plan}, {o.hits}:\n  " + "\n  ".join(o.problems) for plan, o in wrong.items()]
    assert not wrong, "\n".join(words)


@pytest.mark.parametrize("scenario", SOME, ids=lambda s: s.name.replace(" ", "-"))
def test_refused_and_unanswered_writes(faults: Faults, scenario: Scenario) -> None:
    """Each kind of answer at every seventh write; together they meet every write once."""
    writes = len(faults.reference(scenario).writes)
    kinds = len(ANSWERS)
    plans = [
        {"faults": tuple(Fault(what, n) for n in range(1 + shift, writes + 1, kinds))}
        for shift, what in enumerate(ANSWERS)
    ]
    judge(faults, scenario, "answers, a seventh each", plans)


@pytest.mark.parametrize("scenario", SOME[:1], ids=lambda s: s.name.replace(" ", "-"))
def test_broken_watches(faults: Faults, scenario: Scenario) -> None:
    plans = [{"others": {"stream": StreamFault(what, 2, 6), "settings": RESYNC}} for what in STREAMS]
    judge(faults, scenario, "watches, each sixth event", plans)


@pytest.mark.parametrize("scenario", SOME, ids=lambda s: s.name.replace(" ", "-"))
def test_old_lists_after_a_restart(faults: Faults, scenario: Scenario) -> None:
    writes = len(faults.reference(scenario).writes)
    plans = [{"others": {"stale": StaleLists(max(1, n - 3), n)}} for n in range(3, writes, 4)]
    judge(faults, scenario, "old lists, some writes", plans)
