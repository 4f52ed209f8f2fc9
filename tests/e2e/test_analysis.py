"""Before the run: the data are looked at by a real pod, and a person is asked."""

from __future__ import annotations

from support.place import Obj, Place, condition, phase


def asked(training: Obj) -> None:
    training["spec"]["pauseAfter"] = "Analysis"
    training["spec"]["recipe"]["unsetParams"] = "Suggested"
    training["spec"]["recipe"]["tabular"] = {"epochs": 3}
    del training["spec"]["save"]


def test_a_table_is_profiled_and_the_run_begins_when_a_person_says_so(place: Place) -> None:
    place.example("training-tabular.yaml", asked)
    waiting = place.until("training", "breast-cancer", lambda o: phase(o) == "AwaitingApproval")
    found = waiting["status"]["analysis"]
    assert found["profile"]["rows"] == 569
    assert len(found["profile"]["columns"]) == 31
    assert sum(found["profile"]["target"]["classes"].values()) == 569
    assert found["path"] == "analysis.json"
    assert found["estimate"]["steps"] > 0
    assert not waiting["status"].get("frozen")
    assert condition(waiting, "Reconciling").get("status") == "False"
    place.until_gone("jobs", found["job"])

    place.kubectl("annotate", "training.modelyard.dev", "breast-cancer", f"modelyard.dev/approve={found['digest']}")
    done = place.until_phase("training", "breast-cancer", "Succeeded")
    suggested = {name: entry["value"] for name, entry in found["suggested"]["params"].items()}
    assert suggested
    assert suggested.items() <= done["status"]["effectiveParams"].items()
