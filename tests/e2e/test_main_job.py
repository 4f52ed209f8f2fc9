"""The main job: fetch real weights, train on real data, keep the result, predict with the stock libraries."""

from __future__ import annotations

from support.place import Obj, Place, condition


def saved(model: Obj) -> bool:
    """A Model that a Training made has no version for a moment, and is Ready with none of none."""
    status = model.get("status", {})
    return status.get("phase") == "Ready" and status.get("versionsReady") == 1


def test_a_table_is_learnt_from_scratch_and_kept(place: Place) -> None:
    place.example("training-tabular.yaml")
    place.kubectl("wait", "training.modelyard.dev/breast-cancer", "--for=condition=Succeeded", "--timeout=300s")
    # The last reports go their own way, through the collector.
    training = place.until(
        "training", "breast-cancer", lambda o: o["status"].get("progress", {}).get("percent") == 100, 60
    )
    status = training["status"]
    assert status["phase"] == "Succeeded"
    assert status["output"]["metrics"]["accuracy"] >= 0.95
    assert len(status["epochs"]) > 1
    assert condition(training, "Stalled").get("status") != "True"

    model = place.until("model", "tumours", saved)
    (version,) = model["status"]["syncedVersions"]
    assert version["name"] == "v1"
    assert version["origin"] == "Training/breast-cancer"
    assert version["kind"] == "Tabular"
    assert "versions" not in model["spec"] or not model["spec"]["versions"]

    place.example("predict-tabular.yaml", lambda pod: mount_data(place, pod))
    place.kubectl("wait", "pod/predict-tumours", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
    assert len(place.kubectl("logs", "predict-tumours").strip().splitlines()) >= 3


def mount_data(place: Place, pod: Obj) -> None:
    (data,) = [i for i in place.get("training", "breast-cancer")["status"]["inputs"] if i["name"] == "dataset"]
    pod["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"] = data["pvcName"]


def test_an_encoder_is_fetched_and_fine_tuned(place: Place) -> None:
    place.example("model.yaml")
    model = place.until_phase("model", "minilm", "Ready")
    (version,) = model["status"]["syncedVersions"]
    assert len(version["resolvedRevision"]) == 40
    assert version["observedStorage"]

    place.example("training-text.yaml")
    training = place.until_phase("training", "docstrings", "Succeeded", seconds=900)
    assert training["status"]["output"]["metrics"]["accuracy"] >= 0.7
    assert place.until("model", "docstring-modules", saved)

    place.example("predict-text.yaml")
    place.kubectl("wait", "pod/predict-docstrings", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
    answers = place.kubectl("logs", "predict-docstrings").strip().splitlines()
    assert [line.split()[0] for line in answers[-3:]] == ["asyncio", "email", "unittest"]


def test_a_saved_version_outlives_its_training_and_its_model(place: Place) -> None:
    place.example("training-tabular.yaml", lambda t: t["spec"]["recipe"]["tabular"].update(epochs=2))
    place.until_phase("training", "breast-cancer", "Succeeded")
    place.until("model", "tumours", saved)
    place.kubectl("delete", "training.modelyard.dev", "breast-cancer", "--timeout=300s")
    place.kubectl("delete", "model.modelyard.dev", "tumours", "--timeout=300s")
    place.apply({"apiVersion": "modelyard.dev/v1alpha1", "kind": "Model", "metadata": {"name": "tumours"}, "spec": {}})
    model = place.until("model", "tumours", saved)
    assert [v["name"] for v in model["status"]["syncedVersions"]] == ["v1"]
