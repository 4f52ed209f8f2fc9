"""On a node that says it has GPUs: two pods that train together, and what a kubelet says of pods that end badly."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from deploy.release import Cluster
from support.place import Obj, Place, condition, custom, phase
from support.waiting import wait_for

GPU = "nvidia.com~1gpu"
PRODUCT = "nvidia.com/gpu.product"
SHARED_CLASS = "e2e-shared"
RESTRICTED: Obj = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
FOLDERS = """
import pathlib
for name in ("rows", "trn-two-output"):
    pathlib.Path("/shared", name).mkdir()
lines = [f"{i % 7},{i % 11},{'x' if i % 7 > 3 else 'y'}" for i in range(400)]
pathlib.Path("/shared/rows/rows.csv").write_text("\\n".join(["a,b,target", *lines]) + "\\n")
"""


@pytest.fixture
def gpus(place: Place) -> Iterator[str]:
    """A node with eight GPUs, as far as its status and labels say; its name."""
    cluster = place.cluster
    node = str(cluster.get("nodes")["items"][0]["metadata"]["name"])
    tell(cluster, node, [{"op": "add", "path": f"/status/{part}/{GPU}", "value": "8"} for part in PARTS])
    cluster.kubectl("label", "node", node, f"{PRODUCT}=NVIDIA-H100-80GB-HBM3", "--overwrite")
    yield node
    cluster.kubectl("label", "node", node, f"{PRODUCT}-")
    tell(cluster, node, [{"op": "remove", "path": f"/status/capacity/{GPU}"}])


PARTS = ("capacity", "allocatable")


def tell(cluster: Cluster, node: str, patch: list[Obj]) -> None:
    cluster.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))


@pytest.fixture
def shared(place: Place) -> Iterator[None]:
    """Claims `rows` and `trn-two-output` get volumes that several pods write to: folders of one volume of the node."""
    claim: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    place.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"}, "spec": claim})
    container = {
        "name": "folders",
        "image": place.trainer_image,
        "command": ["python3", "-c", FOLDERS],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "disk", "mountPath": "/shared"}],
    }
    spec = {
        "restartPolicy": "Never",
        "securityContext": RESTRICTED,
        "containers": [container],
        "volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}],
    }
    place.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "folders"}, "spec": spec})
    place.kubectl("wait", "pod/folders", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
    disk = place.cluster.get("pv", place.get("pvc", "disk")["spec"]["volumeName"])["spec"]
    folder = (disk.get("hostPath") or disk["local"])["path"]
    names = [f"{place.namespace}-{name}" for name in CLAIMS]
    for name, claimed in zip(names, CLAIMS, strict=True):
        volume = {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "100Mi"},
            "storageClassName": SHARED_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": place.namespace, "name": claimed},
            "hostPath": {"path": f"{folder}/{claimed}", "type": "Directory"},
            **({"nodeAffinity": disk["nodeAffinity"]} if "nodeAffinity" in disk else {}),
        }
        place.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume})
    rows = {**claim, "accessModes": ["ReadWriteMany"], "storageClassName": SHARED_CLASS}
    place.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "rows"}, "spec": rows})
    yield
    place.cluster.kubectl("delete", "pv", *names, "--wait=false")


CLAIMS = ("rows", "trn-two-output")


@pytest.mark.usefixtures("gpus", "shared")
def test_two_pods_with_gpus_train_together_and_go_on_when_one_is_stopped(place: Place) -> None:
    spec = {
        "dataset": {"pvc": {"claimName": "rows"}, "path": "rows.csv", "columns": {"target": "target"}},
        "recipe": {
            "name": "tabular-classification",
            "tabular": {"epochs": 30, "maxSteps": 160, "batchSize": 4, "earlyStopping": {"patience": 0}},
        },
        "compute": {"gpu": "H100:1", "nodes": 2, "cpu": "100m", "memory": "1Gi"},
        "checkpoint": {"everySteps": 1000},
        "budget": {"pricePerGPUHour": "3.60"},
        "output": {
            "storage": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": SHARED_CLASS,
                "resources": {"requests": {"storage": "100Mi"}},
            }
        },
    }
    place.apply(custom("Training", "two", spec))
    place.until("training", "two", lambda o: o.get("status", {}).get("progress", {}).get("step", 0) > 20)
    pods = place.items("pods", "-l", "modelyard.dev/training=two,modelyard.dev/attempt=1")
    limits = [p["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for p in pods]
    assert limits == ["1", "1"]
    second = next(p for p in pods if p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "1")
    place.kubectl("delete", "pod", second["metadata"]["name"], "--wait=false")

    training = place.until_phase("training", "two", "Succeeded")
    status = training["status"]
    stopped, done = status["history"]
    assert (stopped["cause"], status["attempts"]) == ("Infrastructure", {"number": 2, "infrastructure": 1, "error": 0})
    assert done["resumedFrom"] == stopped["step"] > 20
    assert status["placement"]["gpus"] == 2
    assert stopped["gpuSeconds"] > 0
    cost = status["cost"]
    assert cost["gpuSeconds"] == stopped["gpuSeconds"] + done["gpuSeconds"]
    assert cost["priceSource"] == "spec.budget.pricePerGPUHour"
    assert abs(float(cost["estimatedUSD"]) - cost["gpuSeconds"] / 1000) < 0.006
    assert status["output"]["metrics"]["accuracy"] > 0.5


EATS = "kept = [b'x' * (1 << 20) for _ in range(1 << 12)]"
WRITES = "import time; open('/tmp/much', 'wb').write(bytes(64 << 20)); time.sleep(600)"


def test_what_the_kubelet_says_becomes_a_cause_in_words(place: Place, gpus: str) -> None:
    def program(name: str, code: str, **compute: str) -> None:
        spec = {
            "recipe": {"name": "custom", "custom": {"command": ["python3", "-c", code]}},
            "compute": {"cpu": "50m", "memory": "128Mi", **compute},
            "retry": {"onError": 0},
            "output": {"storage": {"resources": {"requests": {"storage": "100Mi"}}}},
        }
        place.apply(custom("Training", name, spec))

    program("eats", EATS)
    program("writes", WRITES, scratch="16Mi", memory="256Mi")
    program("nowhere", "pass", image="127.0.0.1:9/team/train:1")
    program("huge", "pass", gpu="H100:16")
    program("other", "pass", gpu="H200")

    for name, words in (("huge", "16"), ("other", "None of")):
        found = place.until("training", name, lambda o: o.get("status", {}).get("reason") == "NoNodeFits")
        assert (phase(found), condition(found, "Stalled")["status"]) == ("Queued", "False")
        assert words in found["status"]["message"]
    unreachable = "RegistryUnreachable"
    found = place.until("training", "nowhere", lambda o: o.get("status", {}).get("reason") == unreachable)
    assert "127.0.0.1:9/team/train:1" in found["status"]["message"]
    for name, reason, field in (
        ("eats", "OutOfMemory", "spec.compute.memory"),
        ("writes", "ScratchFull", "spec.compute.scratch"),
    ):
        found = place.until("training", name, lambda o: phase(o) == "Failed")
        assert found["status"]["reason"] == reason
        assert field in found["status"]["message"]
        assert found["status"]["attempts"]["error"] == 1

    def told() -> list[Obj]:
        every = place.items("events")
        return [e for e in every if e["involvedObject"]["name"] == "eats" and e["reason"] == "Failed"]

    assert [e["count"] for e in wait_for(told, "the Event of the failure")] == [1]
