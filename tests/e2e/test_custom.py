"""A program of the user's own in a pod: the one of the documentation, paused, resumed, and its result saved."""

from __future__ import annotations

import re

from deploy.shell import ROOT
from support.place import Place, custom, phase

PROGRAM = re.findall(r"```python\n(.*?)```", (ROOT / "docs/custom.md").read_text(), re.DOTALL)[0]


def reached(step: int):  # type: ignore[no-untyped-def]
    return lambda o: o.get("status", {}).get("progress", {}).get("step", 0) > step


def test_a_program_of_the_users_own_is_paused_resumed_and_saved(place: Place) -> None:
    spec = {
        "recipe": {"name": "custom", "custom": {"command": ["python3", "-c", PROGRAM]}},
        "compute": {"cpu": "100m", "env": [{"name": "STEPS", "value": "30000"}]},
        "output": {"storage": {"resources": {"requests": {"storage": "1Gi"}}}},
        "save": {"model": "mine", "version": "v1"},
    }
    place.apply(custom("Training", "mine", spec))
    place.until("training", "mine", reached(50))
    place.kubectl("patch", "training.modelyard.dev", "mine", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    place.until("training", "mine", lambda o: phase(o) == "Suspended")
    place.kubectl("patch", "training.modelyard.dev", "mine", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    place.until_phase("training", "mine", "Succeeded")
    training = place.until("training", "mine", lambda o: o["status"].get("saved"))
    paused, done = training["status"]["history"]
    assert (paused["cause"], paused["exitCode"]) == ("Suspended", 75)
    assert done["resumedFrom"] == paused["step"] > 50
    output = training["status"]["output"]
    assert (output["path"], output["kind"], output["files"]) == ("model", "Full", 1)
    assert "loss" in output["metrics"]
