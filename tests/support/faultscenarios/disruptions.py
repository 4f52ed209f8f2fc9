"""The cluster, or a person, takes a running Training's pod away."""

from __future__ import annotations

from modelyard.resources.meta import POD
from support.cluster import path_of
from support.faultscenarios.place import Place
from support.faultscenarios.stories import Scenario, Step, trained
from support.faultscenarios.submitted import ENDED, LONG_AGO, RUNNING, clean


def _disrupt(place: Place, reason: str) -> str:
    """What the cluster writes on the one pod before it takes it away; its name."""
    (pod,) = place.kube.list(POD, place.namespace)
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": LONG_AGO}
    status = {"conditions": [*pod["status"]["conditions"], disrupted]}
    place.kube.merge(POD, place.namespace, pod["metadata"]["name"], {"status": status}, "status")
    return str(pod["metadata"]["name"])


def _preempt(place: Place) -> None:
    place.delete(POD, _disrupt(place, "PreemptionByScheduler"))


def _delete_the_pod(place: Place) -> None:
    """As `kubectl delete pod`: nothing on it says why."""
    (pod,) = place.kube.list(POD, place.namespace)
    place.delete(POD, pod["metadata"]["name"])


def _drain(place: Place) -> None:
    """As `kubectl drain`: the API server itself says on the pod what happens to it."""
    (pod,) = place.kube.list(POD, place.namespace)
    name = pod["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    place.kube.request("POST", path_of(POD, place.namespace, name) + "/eviction", body)


def _lose_the_node(place: Place) -> None:
    """As the garbage collector of pods does with those of a node that is gone: nothing of them is waited for."""
    name = _disrupt(place, "DeletionByPodGC")
    place.kube.merge(POD, place.namespace, name, {"status": {"phase": "Failed"}}, "status")
    place.kube.request("DELETE", path_of(POD, place.namespace, name), {"gracePeriodSeconds": 0})


DISRUPTIONS = (
    Scenario(
        "training preempted",
        (Step("preempt", _preempt, lambda p: clean(p, "Succeeded")),),
        given=(RUNNING,),
        script=trained(None, ENDED),
    ),
    Scenario(
        "pod deleted",
        (Step("delete the pod", _delete_the_pod, lambda p: clean(p, "Succeeded")),),
        given=(RUNNING,),
        script=trained(None, ENDED),
    ),
    Scenario(
        "training drained",
        (Step("drain", _drain, lambda p: clean(p, "Succeeded")),),
        given=(RUNNING,),
        script=trained(None, ENDED),
    ),
    Scenario(
        "node gone",
        (Step("lose the node", _lose_the_node, lambda p: clean(p, "Succeeded")),),
        given=(RUNNING,),
        script=trained(None, ENDED),
    ),
)
