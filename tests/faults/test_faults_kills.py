"""The operator is killed at every single write of each scenario; the end is the undisturbed run's.

A kill before write n+1 is forwarded leaves what a kill after write n leaves, as the operator keeps nothing but what is
in the cluster. So usually it is killed after each write, and before the first; MODELYARD_FAULTS=all kills on both sides
of each. One case is not disturbed at all: what differs then is no fault's doing.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from support.faultproxy import KILLS, Fault
from support.faultscenarios import SCENARIOS, Scenario

Faults = Any
BOTH = os.environ.get("MODELYARD_FAULTS") == "all"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name.replace(" ", "-"))
def test_killed_at_every_write(faults: Faults, scenario: Scenario) -> None:
    writes = len(faults.reference(scenario).writes)
    kinds = KILLS if BOTH else ("kill after",)
    plans: list[dict[str, Any]] = [{}]
    plans += [{"faults": (Fault(what, n),)} for n in range(1, writes + 1) for what in kinds]
    if writes and not BOTH:
        plans.append({"faults": (Fault("kill before", 1),)})
    outcomes = faults.play(scenario, plans)
    kills = sum(o.kills for o in outcomes)
    wrong = {str(plan.get("faults")): o for plan, o in zip(plans, outcomes, strict=True) if o.problems}
    what = "kill, both sides" if BOTH else "kill after, before first"
    faults.report(scenario.name, what, writes, len(plans), kills, len(wrong), max(o.gap for o in outcomes))
    words = [f"{plan}, {o.hits}:\n  " + "\n  ".join(o.problems) for plan, o in wrong.items()]
    assert not wrong, "\n".join(words)
    unasked = [str(p) for p, o in zip(plans, outcomes, strict=True) if o.ends != o.kills]
    assert not unasked, f"the operator ended by itself: {unasked}"
