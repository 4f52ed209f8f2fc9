"""A run that goes on from another one's checkpoint, and one that stands still."""

from __future__ import annotations

from support.place import Obj, Place, custom

HANGS = """
import json, os, time, urllib.request
url = os.environ["KUBEFLOW_TRAINER_SERVER_URL"]
said = json.dumps({"modelyard": {"step": 3, "totalSteps": 9}}).encode()
urllib.request.urlopen(urllib.request.Request(url, said, {"Content-Type": "application/json"}))
time.sleep(3600)
"""


def test_a_run_goes_on_from_another_and_one_that_stands_still_is_ended(place: Place) -> None:
    hanging = {
        "recipe": {"name": "custom", "custom": {"command": ["python3", "-c", HANGS]}},
        "compute": {"cpu": "50m"},
        "timeouts": {"stallSeconds": 45},
        "retry": {"onError": 0},
        "output": {"storage": {"resources": {"requests": {"storage": "100Mi"}}}},
    }
    place.apply(custom("Training", "hanging", hanging))

    def named(name: str, epochs: int, **checkpoint: Obj):  # type: ignore[no-untyped-def]
        def change(training: Obj) -> None:
            training["metadata"]["name"] = name
            training["spec"]["recipe"]["tabular"].update(epochs=epochs, earlyStopping={"patience": 0})
            training["spec"]["compute"]["cpu"] = "250m"
            training["spec"]["checkpoint"] = checkpoint
            del training["spec"]["save"]

        return change

    place.example("training-tabular.yaml", named("first", 3))
    first = place.until_phase("training", "first", "Succeeded")["status"]
    place.example("training-tabular.yaml", named("further", 6, **{"from": {"training": "first"}}))
    further = place.until_phase("training", "further", "Succeeded")["status"]
    assert further["history"][-1]["resumedFrom"] == first["checkpoint"]["last"]["step"] > 0
    assert further["output"]["weights"]["lastStep"] == 2 * first["output"]["weights"]["lastStep"]
    place.kubectl("delete", "training.modelyard.dev", "first", "--timeout=300s")

    stood = place.until("training", "hanging", lambda o: o.get("status", {}).get("phase") == "Failed")["status"]
    assert stood["reason"] == "StallTimeout"
    assert "Nothing was finished after step 3" in stood["message"]
    assert stood["attempts"]["error"] == 1
