"""Why a pod does not run yet, in words. Pure.

The scheduler's own sentence is passed on, since its numbers are the answer. What a container runtime says is not: it
holds answers of foreign servers, and only known words in it choose ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelyard.compute.observed import Cause
from modelyard.plan import Obj
from modelyard.resources.conditions import cut, find

SCHEDULER_MESSAGE_MAX: Final = 512

PULL_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_ABSENT: Final = ("not found", "manifest unknown", "does not exist")
_DENIED: Final = ("unauthorized", "denied", "forbidden", "authentication required")
_UNREACHABLE: Final = ("no such host", "timeout", "connection refused", "unreachable", "tls:", "x509", "eof")


def unscheduled(pod: Obj) -> Cause:
    """What a pod without a node waits for."""
    condition = find(pod.get("status", {}).get("conditions", ()), "PodScheduled") or {}
    if condition.get("reason") == "SchedulingGated":
        return Cause("SchedulingGated", "The pod is held back by a scheduling gate that another controller removes.")
    if condition.get("status") == "False" and condition.get("message"):
        return Cause("Unschedulable", f"No node fits: {cut(str(condition['message']), SCHEDULER_MESSAGE_MAX)}")
    return Cause("Scheduling", "Waiting for the scheduler to choose a node.")


def together(cause: Cause, placed: int, wanted: int) -> Cause:
    """The same, for a run of several nodes of which some are there."""
    if wanted == 1:
        return cause
    reason = "PartlyPlaced" if placed else cause.reason
    return Cause(reason, f"{placed} of {wanted} pods have a node. {cause.message}")


def starting(pod: Obj) -> Cause:
    """What a pod with a node, whose trainer has not started, waits for."""
    statuses = pod.get("status", {})
    for status in (*statuses.get("initContainerStatuses", ()), *statuses.get("containerStatuses", ())):
        waiting = status.get("state", {}).get("waiting")
        if waiting and (cause := _container(status, waiting)) is not None:
            return cause
    node = pod.get("spec", {}).get("nodeName", "")
    return Cause("Starting", f"Node {node} pulls the image and attaches the volumes.")


def _container(status: Mapping[str, Any], waiting: Mapping[str, Any]) -> Cause | None:
    reason, image = str(waiting.get("reason", "")), cut(str(status.get("image", "")), 256)
    if reason in PULL_REASONS:
        return _pull(str(waiting.get("message", "")).lower(), image)
    if reason == "InvalidImageName":
        return Cause("InvalidImageName", f"{image} is not the name of an image: correct spec.compute.image.")
    if reason == "ErrImageNeverPull":
        return Cause("ImageNotFound", f"Image {image} is not on the node, and its pull policy is Never.")
    if reason == "CreateContainerConfigError":
        return Cause("ContainerConfigError", "The container can't be made: an object that it refers to is missing.")
    if reason in ("CreateContainerError", "RunContainerError"):
        return Cause("ContainerError", f"The node can't start image {image}: it may lack the program or a right.")
    return None


def _pull(said: str, image: str) -> Cause:
    def says(words: tuple[str, ...]) -> bool:
        return any(word in said for word in words)

    if says(_DENIED):
        return Cause("ImagePullDenied", f"The registry refuses image {image}: check spec.compute.imagePullSecrets.")
    if says(_ABSENT):
        return Cause("ImageNotFound", f"Image {image} was not found in its registry: check its name and tag.")
    if says(_UNREACHABLE):
        return Cause("RegistryUnreachable", f"The node can't reach the registry of image {image}; it keeps trying.")
    return Cause("ImagePullFailed", f"Image {image} can't be pulled: see the pod's events; the node keeps trying.")
