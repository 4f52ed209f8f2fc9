"""The operator is killed before and after every single write of each scenario; the end is the undisturbed run's."""

from __future__ import annotations

from typing import Any

import pytest

from support.faultproxy import KILLS, Fault
from support.faultscenarios import SCENARIOS, Scenario

Faults = Any


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name.replace(" ", "-"))
def test_killed_at_every_write(faults: Faults, scenario: Scenario) -> None:
    writes = len(faults.reference(scenario).writes)
    plans = [{}] + [{"faults": (Fault(what, n),)} for n in range(1, writes + 1) for what in KILLS]
    outcomes = faults.play(scenario, plans)
    kills = sum(o.kills for o in outcomes)
    wrong = {str(plan.get("faults")): o for plan, o in zip(plans, outcomes, strict=True) if o.problems}
    unasked = [str(p) for p, o in zip(plans, outcomes, strict=True) if o.ends != o.kills]
    faults.report(scenario.name, "every write, both sides", writes, len(plans) - 1, kills, len(wrong))
    words = [f"{plan}, {o.hits}:\n  " + "\n  ".join(o.problems) for plan, o in wrong.items()]
    assert not wrong, "\n".join(words)
    assert not unasked, f"the operator ended by itself: {unasked}"
