"""Why a download ended, or why it does not begin: from its Job and pods to a fixed reason and our own words.

Pure. The loader leaves a reason and a message of its own in the container's termination message; only reasons that are
known here are taken over, and no text of anybody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final

from modelyard.plan import Obj
from modelyard.resources.conditions import cut
from modelyard.resources.times import parse_time
from modelyard.resources.volumes import Result

MESSAGE_MAX: Final = 512
EXIT_PERMANENT: Final = 64
EXIT_RETRY: Final = 75
UNSCHEDULABLE_SECONDS: Final = 30.0
"""For so long a pod without a node is nothing worth telling: volumes are bound and nodes are added meanwhile."""

_WORDS: Final = {
    "Unauthorized": "the source refused the credentials",
    "Forbidden": "the source does not give these credentials access",
    "NotFound": "the source has no such repository, revision or file",
    "RateLimited": "the source takes no more requests for now",
    "Unreachable": "the source cannot be reached",
    "ServerError": "the source answered with an error of its own",
    "HashMismatch": "what arrived is not what the source says it sends",
    "DiskFull": "the volume is too small",
    "NoMatch": "no file matches the include and exclude patterns",
    "BadInput": "the download was asked for something that it cannot do",
    "Interrupted": "the download was interrupted",
    "OutOfMemory": "the download needed more memory than it may use",
    "Evicted": "the node took the pod away",
    "Unexpected": "the download ended in a way that nobody foresaw; its log says more",
}
_WAITING: Final = {
    "ErrImagePull": ("ImagePullFailed", "the loader's image cannot be pulled"),
    "ImagePullBackOff": ("ImagePullFailed", "the loader's image cannot be pulled"),
    "InvalidImageName": ("ImagePullFailed", "the loader's image has no valid name"),
    "CreateContainerConfigError": ("PodConfigError", "the download's container cannot be set up"),
    "CreateContainerError": ("PodConfigError", "the download's container cannot be created"),
}


class Retry(Enum):
    """Whether another try can help."""

    NEVER = "never"
    BOUNDED = "bounded"
    """A few times: nobody knows."""
    ALWAYS = "always"


_RETRY: Final[Mapping[Any, Retry]] = {EXIT_PERMANENT: Retry.NEVER, EXIT_RETRY: Retry.ALWAYS}


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a download ended without its files."""

    reason: str
    message: str
    retry: Retry


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a pod does not begin. Without a reason it may still begin by itself: look again after so many seconds."""

    reason: str | None
    message: str
    look_again: float | None = None


def failure(pods: Iterable[Obj]) -> Cause:
    """The cause of a failed Job, from what is left of its pods; `Unexpected` if they tell nothing."""
    ended = _last_ended(pods)
    if ended is None:
        return Cause("Unexpected", "The download's pod is gone and left no reason.", Retry.BOUNDED)
    pod, terminated = ended
    code = terminated.get("exitCode")
    retry = _RETRY.get(code, Retry.BOUNDED)
    said = _said(terminated)
    if said.get("result") == "failed" and said.get("reason") in _WORDS:
        return Cause(said["reason"], _sentence(said.get("message") or _WORDS[said["reason"]]), retry)
    if terminated.get("reason") == "OOMKilled":
        return Cause("OutOfMemory", _sentence(_WORDS["OutOfMemory"]), Retry.BOUNDED)
    if (pod.get("status") or {}).get("reason") == "Evicted":
        return Cause("Evicted", _sentence(_WORDS["Evicted"]), Retry.ALWAYS)
    reason = "Interrupted" if retry is Retry.ALWAYS else "Unexpected"
    return Cause(reason, f"{_sentence(_WORDS[reason])} Exit code {code}.", retry)


def result(pods: Iterable[Obj]) -> Result | None:
    """What a succeeded download says that it found, or None if its pod is gone or says nothing."""
    ended = _last_ended(p for p in pods if (p.get("status") or {}).get("phase") == "Succeeded")
    said = _said(ended[1]) if ended is not None else {}
    if said.get("result") != "done":
        return None
    return Result(
        revision=_text(said.get("resolvedRevision")),
        bytes=_count(said.get("bytes")),
        files=_count(said.get("files")),
        digest=_text(said.get("digest")),
    )


def hindrance(pods: Iterable[Obj], now: datetime) -> Hindrance | None:
    """What keeps a pod from beginning: no node for it, no image. None if nothing does, or it may be about to begin."""
    for pod in pods:
        status = pod.get("status") or {}
        for condition in status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
                since = condition.get("lastTransitionTime") or pod["metadata"].get("creationTimestamp")
                waited = (now - parse_time(since)).total_seconds() if since else UNSCHEDULABLE_SECONDS
                return _unschedulable(waited)
        for container in status.get("containerStatuses") or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            if (known := _WAITING.get(waiting.get("reason", ""))) is not None:
                return Hindrance(known[0], _sentence(known[1]))
    return None


def _unschedulable(waited: float) -> Hindrance:
    if waited < UNSCHEDULABLE_SECONDS:
        return Hindrance(None, "", UNSCHEDULABLE_SECONDS - waited)
    return Hindrance(
        "Unschedulable",
        "No node can take the download's pod: too little room, or its volume cannot be provided there; "
        "kubectl describe pod says which.",
    )


def _last_ended(pods: Iterable[Obj]) -> tuple[Obj, Mapping[str, Any]] | None:
    found = []
    for pod in pods:
        status = pod.get("status") or {}
        terminated = [
            state["terminated"]
            for container in status.get("containerStatuses") or ()
            if (state := container.get("state") or {}).get("terminated")
        ]
        if terminated:
            found.append((str(terminated[0].get("finishedAt") or ""), pod, terminated[0]))
        elif status.get("phase") == "Failed":
            found.append(("", pod, {}))
    if not found:
        return None
    _, pod, last = max(found, key=lambda item: item[0])
    return pod, last


def _said(terminated: Mapping[str, Any]) -> dict[str, Any]:
    try:
        said = json.loads(terminated.get("message") or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _sentence(text: Any) -> str:
    words = "".join(c if c.isprintable() else " " for c in str(text)).strip()
    ended = words if words.endswith((".", "!", "?")) else f"{words}."
    return cut(ended[:1].upper() + ended[1:], MESSAGE_MAX)


def _text(value: Any) -> str | None:
    return cut(value, 256) if isinstance(value, str) and value.isprintable() and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
