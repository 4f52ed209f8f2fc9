"""A kubelet in the test's hands, for control planes without a node: pods are bound, start, end and go as a script says.

Everything goes through the real API server, and the real Job controller answers; only the containers are made up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple, Self

from modelyard.plan import Kind
from modelyard.resources.meta import NODE, POD
from support.cluster import Kube, Refused, path_of

Obj = dict[str, Any]
BINDING = Kind("v1", "Binding", "bindings")


class Ending(NamedTuple):
    """How a container ends."""

    code: int
    message: str = ""
    reason: str = ""


STOPPED = Ending(75)

Script = Callable[[Obj], Ending | None]
"""How the container of a running pod ends now, or None while it goes on. Asked again and again."""


class PretendKubelet:
    """Moves the pods of one namespace. `step` once by hand, or as a context manager all the time."""

    def __init__(self, kube: Kube, namespace: str, script: Script, *, stopped: Ending = STOPPED) -> None:
        self._kube = kube
        self._namespace = namespace
        self._script = script
        self._stopped = stopped
        self._node = f"node-{namespace}"
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.failure: BaseException | None = None
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._node}}
        if kube.find(NODE, "", self._node) is None:
            kube.create(node, NODE)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._halt.set()
        self._thread.join()
        if self.failure is not None and error is None:
            raise self.failure

    def step(self) -> None:
        """Each pod of the namespace does its next thing."""
        for pod in self._kube.list(POD, self._namespace):
            try:
                self._move(pod)
            except Refused as refused:
                if refused.code not in (404, 409, 422):
                    raise

    def _loop(self) -> None:
        try:
            while not self._halt.is_set():
                self.step()
                time.sleep(0.1)
        except BaseException as error:
            self.failure = error

    def _move(self, pod: Obj) -> None:
        phase = pod["status"].get("phase")
        if pod["metadata"].get("deletionTimestamp"):
            if phase == "Running":
                self.end(pod, self._stopped)
            self._remove(pod)
        elif not pod["spec"].get("nodeName"):
            self._bind(pod)
        elif phase == "Pending":
            self.begin(pod)
        elif phase == "Running" and (ending := self._script(pod)) is not None:
            self.end(pod, ending)

    def _bind(self, pod: Obj) -> None:
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        self._kube.request("POST", path_of(POD, self._namespace, name) + "/binding", body)

    def begin(self, pod: Obj) -> None:
        """The container runs."""
        self._report(pod, "Running", {"running": {"startedAt": _now()}})

    def end(self, pod: Obj, ending: Ending) -> None:
        """The container has ended."""
        began = pod["status"].get("containerStatuses") or [{"state": {}}]
        since = (began[0]["state"].get("running") or {}).get("startedAt") or _now()
        last: Obj = {"exitCode": ending.code, "startedAt": since, "finishedAt": _now()}
        last["reason"] = ending.reason or ("Error" if ending.code else "Completed")
        if ending.message:
            last["message"] = ending.message
        self._report(pod, "Failed" if ending.code else "Succeeded", {"terminated": last})

    def _report(self, pod: Obj, phase: str, state: Obj) -> None:
        container = pod["spec"]["containers"][0]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": "running" in state,
            "restartCount": 0,
            "state": state,
        }
        patch = {"status": {"phase": phase, "containerStatuses": [status]}}
        self._kube.merge(POD, self._namespace, pod["metadata"]["name"], patch, "status")

    def _remove(self, pod: Obj) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        self._kube.request("DELETE", path_of(POD, self._namespace, pod["metadata"]["name"]), body)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
