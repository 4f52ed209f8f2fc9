"""Every kind of trouble in each scenario, dealt by a seed: refusals, lost answers, broken watches, a kill, old lists.

A run meets as many kinds as it has writes and watch events; what is refused is written again, so that few are left out.
MODELYARD_FAULT_SEEDS says which deals are played, MODELYARD_FAULT_SCENARIOS which scenarios, by name; `some` is one of
each sort. What comes of it is compared with the undisturbed run of the scenario, in the objects and in what was made.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest

from support.faultproxy import ANSWERS, STREAMS, Fault, StaleLists, StreamFaults
from support.faultscenarios import SCENARIOS

Faults = Any
SEEDS = [int(seed) for seed in os.environ.get("MODELYARD_FAULT_SEEDS", "1").split(",")]
SOME = "model made,revision changed,version shared,share revoked,source deleted first,training saved,training deleted"
NAMED = os.environ.get("MODELYARD_FAULT_SCENARIOS", "").replace("some", SOME).split(",")
PLAYED = [s for s in SCENARIOS if s.name in NAMED or NAMED == [""]]
RESYNC = {"resyncSeconds": 5}  # what a silent watch keeps back is found by the next re-list
PART = 0.6
"""Of the writes, as long as there are faults left; of the watch events it is a sixth of that."""


def deal(seed: int, name: str) -> dict[str, Any]:
    """A plan: each kind once at most, at numbers that follow from the seed and the scenario's name."""
    dice = random.Random(f"{seed} {name}")
    kill = dice.randint(2, 5)
    answers, streams = [*ANSWERS], [*STREAMS]
    dice.shuffle(answers)
    dice.shuffle(streams)
    writes = [n for n in range(1, 100) if n != kill and dice.random() < PART]
    events = [n for n in range(2, 500) if dice.random() < PART / 6]
    return {
        "faults": tuple(Fault(what, n) for what, n in zip(answers, writes, strict=False)),
        "others": {
            "stream": StreamFaults(dict(zip(events, streams, strict=False))),
            "stale": StaleLists(max(1, kill - 2), kill),
            "settings": RESYNC,
        },
    }


@pytest.mark.timeout(300 + 300 * len(SEEDS))
def test_every_kind_of_trouble_in_each_scenario(faults: Faults) -> None:
    cases = [(scenario, seed) for scenario in PLAYED for seed in SEEDS]
    outcomes = faults.play_all([(scenario, deal(seed, scenario.name)) for scenario, seed in cases])
    wrong, met = [], Counter[str]()
    for (scenario, seed), outcome in zip(cases, outcomes, strict=True):
        requests, bad = len(outcome.writes), int(bool(outcome.problems))
        what = f"{len(outcome.hits)} of all kinds, seed {seed}"
        faults.report(scenario.name, what, requests, 1, outcome.kills, bad, outcome.gap)
        met.update(kind for hit in outcome.hits for kind in (*ANSWERS, *STREAMS) if hit.startswith(f"{kind} "))
        if bad:
            wrong.append(f"{scenario.name}, seed {seed}, {outcome.hits}:\n  " + "\n  ".join(outcome.problems))
    assert not wrong, "\n".join(wrong)
    assert set(met) == {*ANSWERS, *STREAMS}, "each kind of trouble was met"
