"""One run is killed at many random moments: its losses and weights are those of one that nobody disturbed.

MODELYARD_KILLS says how many; `make test-faults` takes fifty.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

from modelyard_training.core import files
from support import trainer_forks

KILLS = int(os.environ.get("MODELYARD_KILLS", "10"))
LAST_STEP = 20 + 8 * KILLS
CONFIG: dict[str, Any] = {
    "recipe": "tabular-classification",
    "params": {"maxSteps": LAST_STEP, "batchSize": 32, "hiddenSizes": [16], "earlyStopping": {"patience": 0}},
    "dataset": {"path": "digits.csv"},
    "checkpoint": {"everySteps": 4, "keep": 2},
    "determinism": "Bitwise",
}


def test_killed_at_random_moments_the_weights_are_the_same(trainer: Callable[..., Any], digits_csv: str) -> None:
    undisturbed, killed = (trainer(CONFIG, {"digits.csv": digits_csv}, name=name) for name in ("calm", "killed"))
    first = trainer_forks.start(undisturbed.environment())
    first.join(120)
    assert first.exitcode == 0
    choice = random.Random()
    kills = 0
    # Each is killed a moment after it got this far, so that all fit into one run: while it computes, writes a
    # checkpoint or evaluates; every tenth at once, while it starts.
    for number, at in enumerate(sorted(choice.choices(range(LAST_STEP - 20), k=KILLS))):
        process = trainer_forks.start(killed.environment())
        while number % 10 and max([0, *killed.steps()]) < at and process.exitcode is None:
            time.sleep(0.001)
        time.sleep(choice.uniform(0, 0.05))
        process.kill()
        process.join(60)
        kills += process.exitcode == -9
    last = trainer_forks.start(killed.environment())
    last.join(120)
    assert last.exitcode == 0
    assert kills == KILLS, "a run ended before it was killed"
    print(f"{kills} kills")
    assert (killed.output / "metrics.jsonl").read_bytes() == (undisturbed.output / "metrics.jsonl").read_bytes()
    assert files.listing(killed.output / "model") == files.listing(undisturbed.output / "model")
    assert killed.metadata()["metrics"] == undisturbed.metadata()["metrics"]
