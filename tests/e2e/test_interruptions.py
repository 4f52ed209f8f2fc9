"""Pods and processes die; what was paid for is not lost."""

from __future__ import annotations

import json

from support.place import Obj, Place, phase


def slow(training: Obj) -> None:
    """Enough steps to be caught in the middle, with checkpoints in between."""
    training["spec"]["recipe"]["tabular"].update(epochs=20, batchSize=8, earlyStopping={"patience": 0})
    training["spec"]["recipe"]["determinism"] = "Bitwise"
    training["spec"]["compute"]["cpu"] = "250m"
    training["spec"]["checkpoint"] = {"everySteps": 50, "keep": 2}
    training["spec"]["retry"] = {"onInfrastructure": 3}


def losses(place: Place, claim: str) -> list[tuple[int, float]]:
    """Step and loss of every row of metrics.jsonl in an output volume, read by a pod."""
    name = f"read-{claim}"[:60]
    container = {
        "name": "read",
        "image": place.trainer_image,
        "command": ["cat", "/output/metrics.jsonl"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "output", "mountPath": "/output", "readOnly": True}],
    }
    place.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "runAsGroup": 1000,
                    "fsGroup": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": [{"name": "output", "persistentVolumeClaim": {"claimName": claim}}],
            },
        }
    )
    place.kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
    rows = [json.loads(line) for line in place.kubectl("logs", name).splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def test_a_killed_pod_is_resumed_and_ends_with_the_same_losses(place: Place) -> None:
    def named(name: str):  # type: ignore[no-untyped-def]
        def change(training: Obj) -> None:
            slow(training)
            training["metadata"]["name"] = name
            del training["spec"]["save"]

        return change

    place.example("training-tabular.yaml", named("undisturbed"))
    place.example("training-tabular.yaml", named("killed"))
    place.until("training", "killed", lambda o: o.get("status", {}).get("progress", {}).get("step", 0) > 150)
    place.kubectl("delete", "pod", "-l", "modelyard.dev/training=killed", "--grace-period=0", "--force")
    killed = place.until_phase("training", "killed", "Succeeded")
    place.until_phase("training", "undisturbed", "Succeeded")
    assert killed["status"]["attempts"]["infrastructure"] == 1
    assert killed["status"]["attempts"].get("error", 0) == 0
    assert len(place.items("jobs", "-l", "modelyard.dev/training=killed")) <= 2
    assert losses(place, "trn-killed-output") == losses(place, "trn-undisturbed-output")


def test_suspend_frees_the_pod_and_resume_goes_on(place: Place) -> None:
    place.example("training-tabular.yaml", slow)
    place.until(
        "training", "breast-cancer", lambda o: o.get("status", {}).get("progress", {}).get("step", 0) > 100, 180
    )
    place.kubectl("patch", "training.modelyard.dev", "breast-cancer", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    place.until("training", "breast-cancer", lambda o: phase(o) == "Suspended")
    (pod,) = [i["metadata"]["name"] for i in place.items("pods", "-l", "modelyard.dev/training=breast-cancer")] or [""]
    place.until_gone("pods", pod)
    place.kubectl(
        "patch", "training.modelyard.dev", "breast-cancer", "--type=merge", "-p", '{"spec":{"suspend":false}}'
    )
    training = place.until_phase("training", "breast-cancer", "Succeeded")
    assert training["status"]["attempts"].get("infrastructure", 0) == 0


def test_a_deleted_training_leaves_nothing_unsaved(place: Place) -> None:
    place.example("training-tabular.yaml", slow)
    place.until("training", "breast-cancer", lambda o: phase(o) == "Running")
    place.kubectl("delete", "training.modelyard.dev", "breast-cancer", "--timeout=300s")
    place.until_gone("pods", "breast-cancer-1")
    place.until_gone("pvc", "trn-breast-cancer-output")
