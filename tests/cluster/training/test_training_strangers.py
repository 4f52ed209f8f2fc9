"""Objects of others under the names that a Training needs, on a real API server: they stay as they are."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.resources.meta import CONFIGMAP, JOB, PVC, TRAINING
from support.build import make_claim, make_object
from support.cluster import Kube, wait_for
from support.kubelet import Ending, PretendKubelet
from support.live_trainings import add_claim, condition, put, until, until_reason
from support.strangers import make_job, orphan, settled
from support.trainings import DONE

Obj = dict[str, Any]


def finished(pod: Obj) -> Ending:
    return Ending(0, DONE)


def taken(kube: Kube, namespace: str, *words: str) -> None:
    found = until_reason(kube, namespace, "NameTaken")
    assert condition(found, "Stalled")["status"] == "True"
    for word in words:
        assert word in found["message"]


@pytest.mark.usefixtures("operator")
def test_a_strangers_claim_and_job_are_left_alone_until_they_go(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    owner = kube.create(make_object("v1", "ConfigMap", "nightly", namespace=namespace), CONFIGMAP)["metadata"]
    claim = make_claim("trn-t-output", namespace=namespace)
    del claim["status"]
    their_claim = settled(kube, PVC, kube.create(claim, PVC))
    their_job = settled(kube, JOB, kube.create(make_job("t-1", owner, namespace=namespace), JOB))
    put(kube, namespace)
    taken(kube, namespace, "Volume claim trn-t-output is there already and was not made by Modelyard for this object")
    assert kube.get(PVC, namespace, "trn-t-output") == their_claim
    kube.delete(PVC, namespace, "trn-t-output")

    def told() -> bool:
        said = f"Job t-1 is there already and belongs to ConfigMap nightly (uid {owner['uid']})"
        return said in (kube.get(TRAINING, namespace, "t").get("status") or {}).get("message", "")

    wait_for(told, "the Job to be told of")
    assert kube.get(JOB, namespace, "t-1") == their_job
    kube.delete(JOB, namespace, "t-1")
    with PretendKubelet(kube, namespace, finished):
        until(kube, namespace, "Succeeded")


@pytest.mark.usefixtures("operator")
def test_what_a_training_left_orphaned_is_a_strangers_to_the_next_of_its_name(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    put(kube, namespace)
    wait_for(lambda: kube.find(JOB, namespace, "t-1"), "the Job")
    orphan(kube, TRAINING, namespace, "t")
    left = settled(kube, PVC, kube.get(PVC, namespace, "trn-t-output"))
    assert "ownerReferences" not in left["metadata"]
    job = kube.find(JOB, namespace, "t-1")
    put_again = {"dataset": {"pvc": {"claimName": "rows"}, "path": "other.csv"}}
    put(kube, namespace, **put_again)
    taken(kube, namespace, "Volume claim trn-t-output is there already and was not made by Modelyard for this object")
    assert kube.get(PVC, namespace, "trn-t-output") == left
    if job is not None:
        assert kube.get(JOB, namespace, "t-1")["metadata"]["uid"] == job["metadata"]["uid"]
    kube.delete(TRAINING, namespace, "t")
    wait_for(lambda: kube.find(TRAINING, namespace, "t") is None, "the second to go")
    assert kube.get(PVC, namespace, "trn-t-output") == left
